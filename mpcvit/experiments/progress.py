"""What a person sees while an experiment trains, on standard error."""

from collections.abc import Sequence
from pathlib import Path

from mpcprof.cli.progress import ProgressBar
from mpcvit.experiments.jobs import Job


class JobsProgress(ProgressBar):
    """A bar over the epochs of all runs, and a line for each that is done; a context.

    It counts lines in the runs' logs, so that it sees processes of their own too.
    """

    _jobs: Sequence[Job] = ()
    _n_over = 0

    def on_start(self, jobs: Sequence[Job]) -> None:
        """Begin the bar anew; epochs that were done before count as done."""
        self._jobs = jobs
        self._n_over = 0
        self.describe(f"0 of {len(jobs)} runs")
        self.on_tick()

    def on_tick(self) -> None:
        """Count the epochs."""
        self.begin(
            sum(job.run.recipe.epochs for job in self._jobs),
            n_done=sum(_count_epochs(job.run.output) for job in self._jobs),
        )

    def on_done(self, job: Job, answer: object) -> None:
        """A line of what came out."""
        self._n_over += 1
        self.describe(f"{self._n_over} of {len(self._jobs)} runs")
        self.say(str(answer))


def _count_epochs(folder: Path) -> int:
    try:
        return (folder / "log.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
