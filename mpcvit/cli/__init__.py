"""The command line of mpcvit; see `mpcprof.cli` for how it behaves."""

import click

from mpcprof.cli import CommandTable, LazyGroup

COMMANDS: CommandTable = {
    "search": ("mpcvit.cli.search", "Find which heads and activations are worth it."),
    "derive": ("mpcvit.cli.derive", "Architectures of a search, by share or seconds."),
    "train": ("mpcvit.cli.train", "Train an architecture, with a teacher or without."),
    "evaluate": ("mpcvit.cli.evaluate", "Accuracy, in the clear or by real parties."),
    "import": ("mpcvit.cli.import_", "A ViT of MPCViT, timm or Hugging Face."),
    "infer": ("mpcvit.cli.infer", "Private inference by real parties."),
    "public": ("mpcvit.cli.public", "What an image owner may have of a checkpoint."),
    "tune": ("mpcvit.cli.tune", "The fastest plan under which labels stay the same."),
    "pareto": ("mpcvit.cli.pareto", "Accuracy against seconds of a family."),
    "breakdown": ("mpcvit.cli.breakdown", "Figures 1, 3 and 8 of the paper."),
}


@click.group(
    cls=LazyGroup,
    program="mpcvit",
    table=COMMANDS,
    extra="mpcvit",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="mpcprof", prog_name="mpcvit")
def main() -> None:
    """Vision Transformers that are cheap under secure computation."""
