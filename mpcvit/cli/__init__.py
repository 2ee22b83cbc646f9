"""The command line of mpcvit; see `mpcprof.cli` for how it behaves."""

import click

from mpcprof.cli import CommandTable, LazyGroup

COMMANDS: CommandTable = {
    "breakdown": ("mpcvit.cli.breakdown", "Figures 1, 3 and 8 of the paper."),
}


@click.group(
    cls=LazyGroup,
    program="mpcvit",
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="mpcprof", prog_name="mpcvit")
def main() -> None:
    """Vision Transformers that are cheap under secure computation."""
