"""A network in an ONNX file, predicted on one network or several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.costmodel.offline import count_randomness, price_offline
from mpcprof.errors import MissingEntryError
from mpcprof.graph.onnx_file import read_onnx
from mpcprof.graph.trace import GraphTrace, trace_graph
from mpcprof.network import Network
from mpcprof.predict import PredictionReport, predict_steps
from mpcprof.profile.io import read_profile
from mpcprof.units import format_hops

_SHOWN: Final = 5  # kinds of operations without a price that a message names


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxConfig:
    """What is predicted.

    Attributes:
        path: ONNX file.
        n_batch: Length of the first axis of inputs that do not fix it.
        lengths: Lengths of other axes by the names that the file gives them.
        skips_unpriced: Whether operations without a price are left out, and named in
            the notes, instead of refused.
        offline_protocol: How the randomness of the offline phase is made; None leaves
            it out.
    """

    path: Path
    n_batch: int = 1
    lengths: Mapping[str, int] = field(default_factory=dict)
    skips_unpriced: bool = False
    offline_protocol: str | None = None


def predict_onnx(
    profile: Path, config: OnnxConfig, networks: Sequence[Network]
) -> PredictionReport:
    """Predict the network in a file, operation by operation.

    Raises:
        UsageError: If the file cannot be read.
        MissingEntryError: If an operation has no price, or is not in the profile.
    """
    graph = read_onnx(config.path, config.n_batch, config.lengths)
    trace = trace_graph(graph)
    if trace.unpriced and not config.skips_unpriced:
        raise MissingEntryError(_refusal(config.path, trace))
    records = read_profile(profile)
    model = fit_cost_model(records)
    title = (
        f"{config.path.name}, {len(trace.nodes)} operations of ONNX opset "
        f"{graph.opset}, batch {config.n_batch}"
    )
    report = predict_steps(model, title, trace.steps, networks, graph.n_shared)
    notes = _notes(trace, model)
    with_notes = tuple(
        replace(one, notes=(*notes, *one.notes)) for one in report.predictions
    )
    report = replace(report, predictions=with_notes, n_inputs=config.n_batch)
    if config.offline_protocol is None:
        return report
    randomness = count_randomness(records, trace.steps)
    return replace(report, offline=price_offline(randomness, config.offline_protocol))


def _refusal(path: Path, trace: GraphTrace) -> str:
    more = len(trace.unpriced) - _SHOWN
    return (
        f"{path}: {'; '.join(trace.unpriced[:_SHOWN])}"
        f"{f' and {more} more kinds' if more > 0 else ''}: they have no price, and "
        "nothing is free; --skip-unsupported leaves them out and says so"
    )


def _notes(trace: GraphTrace, model: CostModel) -> list[str]:
    notes = [f"left out, and not free: {text}" for text in trace.unpriced]
    total, chain = trace.hops(model), trace.chain_hops(model)
    if chain < total:
        notes.append(
            f"{format_hops(chain)} of {format_hops(total)} hops are one chain of "
            "operations that need each other; SPU runs the others one after another "
            "as well"
        )
    if trace.n_gelus:
        notes.append(f"{trace.n_gelus} GeLUs written with Erf are priced as GeLUs")
    return notes
