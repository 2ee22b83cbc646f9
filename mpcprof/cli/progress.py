"""What a person sees of a sweep while it runs, on standard error."""

from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mpcprof.engine.calibration import LinkCheck
from mpcprof.engine.measure import Case
from mpcprof.profile.record import Record
from mpcprof.sweep.run import LeftOut
from mpcprof.units import format_bandwidth, format_duration

_Bar = TypeVar("_Bar", bound="ProgressBar")  # typing.Self is of Python 3.11


class ProgressBar:
    """A bar over steps with the time left, and lines above it; a context.

    Args:
        title: Stands before the bar until a step says more.
    """

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

    def __enter__(self: _Bar) -> _Bar:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def begin(self, n_steps: int, *, n_done: int = 0) -> None:
        """Say how far it goes, and how many steps were done before."""
        self._bar.update(self._task, total=n_steps, completed=n_done)

    def advance(self, n_steps: int = 1) -> None:
        """Go on."""
        self._bar.update(self._task, advance=n_steps)

    def describe(self, text: str) -> None:
        """Stand that before the bar."""
        self._bar.update(self._task, description=text)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class SweepProgress(ProgressBar):
    """A bar over calls; a line per link check and left-out case."""

    def __init__(self) -> None:
        super().__init__("setting up")

    def on_link(self, check: LinkCheck) -> None:
        """Say what the parties see of the network."""
        self.say(
            f"link: asked for {check.network}, parties see "
            f"{format_duration(check.rtt_s, digits=4)} round trip, "
            f"{format_bandwidth(check.goodput_bytes_per_s, digits=3)} each way at once"
        )

    def on_start(self, n_cases: int, n_calls: int, n_resumed: int) -> None:
        """Begin the bar."""
        self.say(f"{n_cases} cases to measure, {n_resumed} on file already")
        self.begin(n_calls)

    def on_call(self, case: Case) -> None:
        """Go one step on."""
        self.describe(str(case))
        self.advance()

    def on_case(self, record: Record) -> None:
        """Nothing: the bar shows it."""

    def on_left_out(self, left_out: LeftOut, n_calls: int) -> None:
        """Say which case and why."""
        self.say(f"left out: {left_out.case}: {left_out.reason}")
        self.advance(n_calls)
