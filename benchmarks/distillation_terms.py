"""Table 4: one architecture, taught by nothing, logits, features, or both.

python benchmarks/distillation_terms.py runs/search [--mu 0.7] [--jobs 2]
python benchmarks/distillation_terms.py arch.json --teacher model.safetensors
"""

from collections.abc import Callable
from functools import partial

import click

from mpcvit.experiments.command import experiment_command
from mpcvit.experiments.distillation_terms import (
    choose_student,
    compare_distillation_terms,
)
from mpcvit.experiments.report import Report
from mpcvit.experiments.setting import Setting


@experiment_command()
@click.argument("student")
@click.option(
    "--mu",
    type=click.FloatRange(0, 1),
    default=0.7,
    show_default=True,
    help="Of what a search derives.",
)
def distillation_terms(
    setting: Setting, student: str, mu: float
) -> Callable[..., Report]:
    """Train STUDENT (a search, an architecture.json or a variant) with each term."""
    return partial(compare_distillation_terms, *choose_student(student, setting, mu))


if __name__ == "__main__":
    distillation_terms()
