"""Which profiles a figure is made from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from mpcprof.builds import DEFAULT_BUILD, PAPER_BUILD, get_build
from mpcprof.deployment import Deployment
from mpcprof.errors import ProfileError, UsageError
from mpcvit.paper.costs import Source

FigureName = Literal["fig1", "fig3", "fig8"]
PROTOCOLS: Final[dict[FigureName, tuple[str, ...]]] = {
    "fig1": ("semi2k",),
    "fig3": ("semi2k", "cheetah"),  # outside, inside
    "fig8": ("semi2k",),
}


def choose_profiles(
    figure: FigureName,
    given: Sequence[Path],
    runtime: str | None,
    profiles: Path,
    *,
    is_compared: bool,
) -> tuple[tuple[Path, ...], ...]:
    """The files of each row: those given, or the committed ones of the runtime.

    Raises:
        UsageError: If options contradict each other, or files are too many or few.
    """
    n_files = len(PROTOCOLS[figure])
    if given:
        if runtime or is_compared:
            other = "--compare" if is_compared else f"--runtime {runtime}"
            raise UsageError(
                f"{other}: --profile {given[0]} says which runtime; leave one out"
            )
        if len(given) != n_files:
            raise UsageError(
                f"{len(given)} times --profile: {figure} takes {n_files}, of "
                f"{' (outside), then of '.join(PROTOCOLS[figure])}"
            )
        return (tuple(given),)
    if is_compared and runtime:
        raise UsageError(f"--runtime {runtime}: --compare draws both; leave one out")
    runtimes = (
        (PAPER_BUILD.name, DEFAULT_BUILD.name)
        if is_compared
        else (runtime or DEFAULT_BUILD.name,)
    )
    return tuple(
        tuple(
            profiles / f"{protocol}{get_build(name).file_suffix}.parquet"
            for protocol in PROTOCOLS[figure]
        )
        for name in runtimes
    )


def errors_path(profiles: Path, deployment: Deployment) -> Path:
    """Where Figure 1(c) of a deployment is kept."""
    suffix = deployment.build.file_suffix
    return profiles / f"softmax-error-{deployment.protocol}{suffix}.csv"


def check_rows(rows: Sequence[Sequence[Source]]) -> None:
    """Refuse rows that differ in anything but the runtime, or not in it.

    Raises:
        ProfileError: Naming the files and the difference.
    """
    if len(rows) < 2:
        return
    for first, second in zip(*rows, strict=True):
        ours, theirs = first.deployment, second.deployment
        for name in ("protocol", "field_bits", "fraction_bits"):
            if getattr(ours, name) != getattr(theirs, name):
                raise ProfileError(
                    f"{first.path} and {second.path} are no comparison of runtimes: "
                    f"{ours.difference(theirs)}"
                )
        if ours.runtime == theirs.runtime:
            raise ProfileError(
                f"{first.path} and {second.path} are both of {ours.runtime}: expected "
                "two runtimes"
            )
