"""What a person sees of a sweep while it runs, on standard error."""

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

from mpcprof.engine.link_check import LinkCheck
from mpcprof.engine.measure import Case
from mpcprof.records import Record
from mpcprof.sweep import LeftOut
from mpcprof.units import format_bandwidth, format_duration


class SweepProgress:
    """A bar over calls with the time left; a line per link check and left-out case."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task("setting up", total=None)

    def __enter__(self) -> "SweepProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def on_link(self, check: LinkCheck) -> None:
        """Say what the parties see of the network."""
        self._say(
            f"link: asked for {check.network}, parties see "
            f"{format_duration(check.rtt_s, digits=4)} round trip, "
            f"{format_bandwidth(check.goodput_bytes_per_s, digits=3)} each way at once"
        )

    def on_start(self, n_cases: int, n_calls: int, n_resumed: int) -> None:
        """Begin the bar."""
        self._say(f"{n_cases} cases to measure, {n_resumed} on file already")
        self._bar.update(self._task, total=n_calls)

    def on_call(self, case: Case) -> None:
        """Go one step on."""
        self._bar.update(self._task, advance=1, description=str(case))

    def on_case(self, record: Record) -> None:
        """Nothing: the bar shows it."""

    def on_left_out(self, left_out: LeftOut, n_calls: int) -> None:
        """Say which case and why."""
        self._say(f"left out: {left_out.case}: {left_out.reason}")
        self._bar.update(self._task, advance=n_calls)

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
