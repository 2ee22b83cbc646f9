"""What a person sees of a sweep while it runs, on standard error."""

from mpcprof.cli.progress_bar import ProgressBar
from mpcprof.engine.link_check import LinkCheck
from mpcprof.engine.measure import Case
from mpcprof.records import Record
from mpcprof.sweep import LeftOut
from mpcprof.units import format_bandwidth, format_duration


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
