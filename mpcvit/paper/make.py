"""One figure, from profiles to files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from mpcprof.builds import DEFAULT_BUILD, PAPER_BUILD, get_build
from mpcprof.errors import UsageError
from mpcprof.figures.panel_drawing import draw_panels
from mpcprof.files import replace_file
from mpcvit.paper.cases import CaseConfig
from mpcvit.paper.costs import FittedProfile, GroupCost, check_differ_in, read_fitted
from mpcvit.paper.fig1 import Figure1
from mpcvit.paper.fig3 import Figure3
from mpcvit.paper.fig8 import Figure8
from mpcvit.paper.figure import Figure, FigureRow
from mpcvit.paper.output import FigureResult, disagreement, write_csv
from mpcvit.paper.softmax_error import errors_path, read_errors

if TYPE_CHECKING:
    from mpcvit.paper.measuring import FigureMeasurer

FigureName = Literal["fig1", "fig3", "fig8"]
FIGURES: Final[dict[FigureName, Figure]] = {
    "fig1": Figure1(),
    "fig3": Figure3(),
    "fig8": Figure8(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureConfig:
    """What a person asks for; see `mpcvit breakdown --help`.

    Attributes:
        rows: Profiles of each row of panels: one row, or one for each runtime.
        profiles: Folder of softmax-error-*.csv.
        output: Folder of the files.
        command: Command line, kept in the provenance.
    """

    figure: FigureName
    rows: tuple[tuple[Path, ...], ...]
    profiles: Path
    case: CaseConfig
    output: Path
    command: str


def choose_profiles(
    name: FigureName,
    given: Sequence[Path],
    runtime: str | None,
    profiles: Path,
    *,
    is_compared: bool,
) -> tuple[tuple[Path, ...], ...]:
    """Return the files of each row: those given, or the runtime's committed ones.

    Raises:
        UsageError: If options contradict each other, or files are too many or few.
    """
    protocols = FIGURES[name].protocols
    if given:
        if runtime or is_compared:
            other = "--compare" if is_compared else f"--runtime {runtime}"
            raise UsageError(
                f"{other}: --profile {given[0]} says which runtime; leave one out"
            )
        if len(given) != len(protocols):
            raise UsageError(
                f"{len(given)} times --profile: {name} takes {len(protocols)}, of "
                f"{' (outside), then of '.join(protocols)}"
            )
        return (tuple(given),)
    if is_compared and runtime:
        raise UsageError(f"--runtime {runtime}: --compare draws both; leave one out")
    both = (PAPER_BUILD, DEFAULT_BUILD)
    builds = both if is_compared else (get_build(runtime or DEFAULT_BUILD.name),)
    return tuple(
        tuple(profiles / f"{one}{build.file_suffix}.parquet" for one in protocols)
        for build in builds
    )


def make_figure(
    config: FigureConfig, measurer: "FigureMeasurer | None" = None
) -> FigureResult:
    """Draw a figure from its profiles and write its four files.

    Args:
        measurer: Measures the numbers by real parties; None to predict them.

    Raises:
        UsageError: If the folder cannot be one, or the architecture does not fit.
        ProfileError: If a profile is not there, or deployments do not go together.
        FileError: If a file cannot be written.
        MissingEntryError: If a profile lacks an operation.
        EngineError: If it was to be measured and could not be.
    """
    figure = FIGURES[config.figure]
    profiles = [tuple(map(read_fitted, paths)) for paths in config.rows]
    for row in profiles[1:]:
        for first, second in zip(profiles[0], row, strict=True):
            check_differ_in("runtime", first, second, "comparison of runtimes")
    if config.output.exists() and not config.output.is_dir():
        raise UsageError(f"-o {str(config.output)!r} is a file: expected a folder")
    rows = [_make_row(config, figure, row, measurer) for row in profiles]
    costs = tuple(cost for row in rows for cost in row.costs)
    result = FigureResult(
        name=config.figure,
        files=tuple(
            config.output / f"{config.figure}.{suffix}"
            for suffix in ("png", "svg", "csv", "json")
        ),
        profiles=tuple(fitted for row in profiles for fitted in row),
        case=config.case,
        architecture=figure.architecture(config.case),
        command=config.command,
        costs=costs,
        sentences=tuple(one for row in rows for one in figure.sentences(row)),
        notes=(*figure.notes(config.case, rows), *_extrapolated(costs)),
        disagreement=disagreement(costs),
    )
    _draw(config, figure, rows, result)
    write_csv(result.files[2], costs)
    replace_file(result.files[3], result.to_json())
    return result


def _make_row(
    config: FigureConfig,
    figure: Figure,
    profiles: tuple[FittedProfile, ...],
    measurer: "FigureMeasurer | None",
) -> FigureRow:
    """Return the numbers of a row, measured if there is a measurer."""
    costs = figure.price(profiles, config.case)
    try:
        config.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"-o {str(config.output)!r}: cannot make it: {error.strerror}"
        ) from None
    deployment = profiles[0].deployment
    path = errors_path(config.profiles, deployment)
    errors = read_errors(path) if figure.has_errors else None
    if measurer is not None:
        if figure.has_errors and errors is None:
            errors = measurer.measure_errors(deployment, path)
        for fitted in profiles:
            name = f"{config.figure}-{fitted.path.stem}-measured.parquet"
            costs = measurer.measure_costs(
                fitted, costs, config.case.network, config.output / name
            )
    is_other = errors is not None and errors.deployment != str(deployment)
    return FigureRow(
        profiles=profiles,
        costs=costs,
        errors=None if is_other else errors,
        errors_path=path,
    )


def _extrapolated(costs: Sequence[GroupCost]) -> list[str]:
    far = sorted({cost.group for cost in costs if cost.basis == "extrapolated"})
    names = ", ".join(far)
    return [f"extrapolated beyond the largest measured size: {names}"] if far else []


def _draw(
    config: FigureConfig,
    figure: Figure,
    rows: Sequence[FigureRow],
    result: FigureResult,
) -> None:
    panels = []
    for row in rows:
        runtime = row.profiles[0].deployment.runtime
        panels.append(figure.panels(row, f"{runtime}: " if len(rows) > 1 else ""))
    how = "predicted" if result.disagreement is None else "measured"
    deployments = dict.fromkeys(str(fitted.deployment) for fitted in result.profiles)
    title = "\n".join(deployments) + f"\n{config.case.network}, {how}"
    is_by_entry = config.case.division == "entry"
    division = "Softmax, but for its errors, divided by entry. " if is_by_entry else ""
    note = division + figure.caption(config.case)
    for path in result.files[:2]:
        draw_panels(panels, path, title=title, note=note)
