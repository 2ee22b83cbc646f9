"""How long work tells whoever waits for it how far it has come.

Work takes a `Progress` as an argument, `SILENT` where nobody watches:

    >>> def work(cases: list[str], progress: Progress = SILENT) -> None:
    ...     progress.begin(len(cases))
    ...     for case in cases:
    ...         progress.describe(case)
    ...         progress.advance()
    >>> work(["exp", "relu"])

On a command line, `mpcprof.cli.progress.progress_bar` shows it.
"""

from typing import Final, Protocol


class Progress(Protocol):
    """Watches work that consists of steps."""

    def begin(self, n_steps: int, *, n_done: int = 0) -> None:
        """Say how many steps there are, and how many an earlier run has done."""

    def advance(self, n_steps: int = 1) -> None:
        """Count steps as done."""

    def describe(self, text: str) -> None:
        """Name the step that is under way, or the last result."""

    def say(self, line: str) -> None:
        """Print a line that stays."""


class Silent:
    """Watches and shows nothing; a base of watchers that want a part of it."""

    def begin(self, n_steps: int, *, n_done: int = 0) -> None:
        """Show nothing."""

    def advance(self, n_steps: int = 1) -> None:
        """Show nothing."""

    def describe(self, text: str) -> None:
        """Show nothing."""

    def say(self, line: str) -> None:
        """Show nothing."""


SILENT: Final[Progress] = Silent()
