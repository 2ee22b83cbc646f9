"""What a person sees of a loop while it runs, on standard error."""

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mpcvit.training.log import EpochRecord


class FitProgress:
    """A bar over steps with the time left and the last epoch's numbers; a context."""

    def __init__(self, title: str) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            refresh_per_second=2,  # a step may take a millisecond
        )
        self._task = self._bar.add_task(title, total=None)
        self._n_epochs = 0

    def __enter__(self) -> "FitProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def on_start(self, n_epochs: int, n_done: int, n_steps: int) -> None:
        """Begin the bar; epochs that were done before count as done."""
        if n_done:
            self._console.print(
                f"{n_done} of {n_epochs} epochs are done already", highlight=False
            )
        self._n_epochs = n_epochs
        total, completed = n_epochs * n_steps, n_done * n_steps
        self._bar.update(self._task, total=total, completed=completed)

    def on_step(self) -> None:
        """Go one step on."""
        self._bar.update(self._task, advance=1)

    def on_epoch(self, record: EpochRecord) -> None:
        """Show its numbers."""
        self._bar.update(self._task, description=f"{record} (of {self._n_epochs})")
