"""One figure, from profiles to files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpcprof.deployment import Deployment
from mpcprof.errors import UsageError
from mpcprof.files import replace_file
from mpcvit.paper.costs import Cost, Source, read_source
from mpcvit.paper.figures import fig1_costs, fig3_costs, fig8_costs
from mpcvit.paper.output import Made, disagreement, write_csv
from mpcvit.paper.selection import FigureName, check_rows, errors_path
from mpcvit.paper.sentences import (
    Sentence,
    fig1_sentences,
    fig3_sentences,
    fig8_sentences,
)
from mpcvit.paper.softmax_error import ErrorTable, read_errors, write_errors
from mpcvit.paper.subjects import BLOCK_WIDTH, STATED, Setting

# (source, costs) to the same costs with what was measured; see `measuring`
MeasureCosts = Callable[[Source, Sequence[Cost], Path], Sequence[Cost]]
MeasureErrors = Callable[[Deployment], ErrorTable]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """What measures, where a figure is to be measured."""

    costs: MeasureCosts
    errors: MeasureErrors


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asks for; see `mpcvit breakdown --help`.

    Attributes:
        rows: The profiles of each row of panels: one row, or one for each runtime.
        profiles: Folder of softmax-error-*.csv.
        output: Folder of the files.
    """

    figure: FigureName
    rows: tuple[tuple[Path, ...], ...]
    profiles: Path
    setting: Setting
    output: Path
    command: str


def make_figure(request: Request, measuring: Measuring | None = None) -> Made:
    """Draw it from its profiles, measured or predicted, and write its four files.

    Raises:
        UsageError: If the folder cannot be one, or the architecture does not fit.
        ProfileError: If a profile is not there, deployments do not go together, or a
            file cannot be written.
        MissingEntryError: If a profile lacks an operation.
        EngineError: If it was to be measured and could not be.
    """
    rows = [[read_source(path) for path in paths] for paths in request.rows]
    check_rows(rows)
    if request.output.exists() and not request.output.is_dir():
        raise UsageError(f"-o {str(request.output)!r} is a file: expected a folder")
    every = [source for row in rows for source in row]
    drawn = [_Row.of(request, row, measuring) for row in rows]
    costs = tuple(cost for row in drawn for cost in row.costs)
    files = tuple(
        request.output / f"{request.figure}.{suffix}"
        for suffix in ("png", "svg", "csv", "json")
    )
    made = Made(
        name=request.figure,
        files=files,
        sources=tuple(every),
        setting=request.setting,
        command=request.command,
        costs=costs,
        sentences=tuple(sentence for row in drawn for sentence in row.sentences),
        notes=_notes(request, costs, drawn),
        disagreement=disagreement(costs),
    )
    _draw(request, rows, drawn, made)
    write_csv(files[2], costs)
    replace_file(files[3], made.to_json())
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """The numbers of one row of panels."""

    costs: tuple[Cost, ...]
    errors: ErrorTable | None
    errors_path: Path
    sentences: tuple[Sentence, ...]

    @classmethod
    def of(
        cls, request: Request, row: Sequence[Source], measuring: Measuring | None
    ) -> "_Row":
        path = errors_path(request.profiles, row[0].deployment)
        costs = _costs(request, row)
        _make_folder(request.output)
        errors = _errors(request, row[0], path, measuring)
        if measuring is not None:
            for source in row:
                name = f"{request.figure}-{source.path.stem}-measured.parquet"
                costs = tuple(measuring.costs(source, costs, request.output / name))
        return cls(
            costs=costs,
            errors=errors,
            errors_path=path,
            sentences=_sentences(request, costs, errors),
        )


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"-o {str(path)!r}: cannot make it: {error}") from None


def _costs(request: Request, row: Sequence[Source]) -> tuple[Cost, ...]:
    if request.figure == "fig1":
        return fig1_costs(row[0], request.setting)
    if request.figure == "fig3":
        return fig3_costs(row, request.setting)
    return fig8_costs(row[0], request.setting)


def _errors(
    request: Request, source: Source, path: Path, measuring: Measuring | None
) -> ErrorTable | None:
    if request.figure != "fig1":
        return None
    errors = read_errors(path)
    if errors is None and measuring is not None:
        errors = measuring.errors(source.deployment)
        write_errors(path, errors)
    is_other = errors is not None and errors.deployment != str(source.deployment)
    return None if is_other else errors


def _sentences(
    request: Request, costs: Sequence[Cost], errors: ErrorTable | None
) -> tuple[Sentence, ...]:
    if request.figure == "fig1":
        return fig1_sentences(costs, errors)
    if request.figure == "fig8":
        return fig8_sentences(costs)
    deployments = dict.fromkeys(cost.deployment for cost in costs)
    return tuple(
        sentence
        for one in deployments
        for sentence in fig3_sentences([c for c in costs if c.deployment == one])
    )


def _notes(
    request: Request, costs: Sequence[Cost], drawn: Sequence[_Row]
) -> tuple[str, ...]:
    notes = []
    if request.figure == "fig1":
        notes.append(f"the paper gives no width for its block; ours is {BLOCK_WIDTH}")
        notes += [
            f"panel (c) is missing: no {row.errors_path} of this deployment; `mpcvit "
            "breakdown fig1 --measured --profiles FOLDER` measures it into that folder"
            for row in drawn
            if row.errors is None
        ]
    if request.figure == "fig8" and request.setting.architecture is None:
        notes.append(f"MPCViT is {STATED}")
    far = sorted({cost.group for cost in costs if cost.basis == "extrapolated"})
    if far:
        notes.append(f"extrapolated beyond the largest measured size: {', '.join(far)}")
    return tuple(notes)


def _draw(
    request: Request,
    rows: Sequence[Sequence[Source]],
    drawn: Sequence[_Row],
    made: Made,
) -> None:
    from mpcprof.figures.panel_drawing import draw_panels
    from mpcvit.paper.panels import fig1_panels, fig3_panels, fig8_panels

    panels: list[Sequence[Any]] = []  # Any: of several kinds, which only draw tells
    for sources, row in zip(rows, drawn, strict=True):
        prefix = f"{sources[0].deployment.runtime}: " if len(rows) > 1 else ""
        if request.figure == "fig1":
            panels.append(fig1_panels(row.costs, row.errors, row.errors_path, prefix))
        elif request.figure == "fig3":
            panels.append(fig3_panels(row.costs, prefix))
        else:
            panels.append(fig8_panels(row.costs, prefix))
    how = "predicted" if made.disagreement is None else "measured"
    together = "one by one" if request.setting.heads == "serial" else "batched"
    deployments = dict.fromkeys(str(source.deployment) for source in made.sources)
    title = "\n".join(deployments) + f"\n{request.setting.network}, {how}"
    is_by_entry = request.setting.division == "entry"
    division = "Softmax, but for its errors, divided by entry. " if is_by_entry else ""
    note = division + (
        f"One image, heads {together}, {request.setting.activation}. "
        "Other: scalings of scores, what a call costs."
        if request.figure != "fig8"
        else f"9 layers, 12 heads {together}, 257 tokens, width 192, "
        f"{request.setting.activation}, one image. MPCViT: "
        f"{request.setting.architecture or STATED}."
    )
    for path in made.files[:2]:
        draw_panels(panels, path, title=title, note=note)
