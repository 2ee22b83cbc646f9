"""What a person sees of a loop while it runs, on standard error."""

from mpcprof.cli.progress import ProgressBar
from mpcvit.train.log import EpochRecord


class FitProgress(ProgressBar):
    """A bar over steps, with the last epoch's numbers before it."""

    _n_epochs = 0

    def on_start(self, n_epochs: int, n_done: int, n_steps: int) -> None:
        """Begin the bar; epochs that were done before count as done."""
        if n_done:
            self.say(f"{n_done} of {n_epochs} epochs are done already")
        self._n_epochs = n_epochs
        self.begin(n_epochs * n_steps, n_done=n_done * n_steps)

    def on_step(self) -> None:
        """Go one step on."""
        self.advance()

    def on_epoch(self, record: EpochRecord) -> None:
        """Show its numbers."""
        self.describe(f"{record} (of {self._n_epochs})")
