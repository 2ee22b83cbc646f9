"""A private inference, and an evaluation of one, for people and for programs."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from mpcprof.costmodel.prediction import Part
from mpcprof.engine.calls import Transfer
from mpcprof.profile.parts import LINK_TOLERANCE, Parts
from mpcprof.units import format_bytes, format_duration, format_hops
from mpcvit.secure.inference import CallPrediction, InferenceResult, Label

if TYPE_CHECKING:
    from mpcvit.secure.evaluate import EvaluationResult, LogitComparison  # loads torch

_duration = partial(format_duration, digits=4)
_bytes = partial(format_bytes, digits=4)


def inference_json(result: InferenceResult) -> str:
    """Return the document of `mpcvit infer --json`."""
    setup = result.preparation.setup
    return _document(
        {
            "labels": [asdict(label) for label in result.labels],
            "deployment": str(result.deployment),
            "network": str(result.network),
            "heads": result.heads,
            "n_batch": result.n_batch,
            "latency_s": result.latency_s,
            "calls": [asdict(call) for call in result.calls],
            "preparation": {
                "start_s": setup.start_s,
                "setup_s": setup.setup_s,
                "setup_bytes": setup.setup_bytes,
                "compile_s": result.preparation.compile_s,
                "weights": asdict(result.preparation.weights),
            },
            "forecast": _prediction_json(result),
            "notes": list(result.notes),
            **({"trace": result.timeline.to_json()} if result.timeline else {}),
        }
    )


def _document(values: dict[str, object]) -> str:
    """Return JSON, with null for infinity and NaN, which it lacks."""

    def finite(value: object) -> object:
        if isinstance(value, dict):
            return {key: finite(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [finite(one) for one in value]
        is_lacking = isinstance(value, float) and not math.isfinite(value)
        return None if is_lacking else value

    return json.dumps(finite(values), allow_nan=False)


def _prediction_json(result: InferenceResult) -> dict[str, object] | None:
    found = result.prediction
    if found is None:
        return None
    prediction = found.prediction
    return {
        "profile": found.profile,
        "hosts": found.hosts,
        "latency_s": prediction.latency_s,
        "interval_s": list(prediction.interval_s),
        "relative_error": result.prediction_error,
        "bytes_sent": prediction.bytes_sent,
        "total_bytes_sent": prediction.total_bytes_sent,
        "hops": prediction.hops,
        "basis": prediction.basis,
        "notes": list(prediction.notes),
        "layers": [asdict(part) for part in found.layers],
    }


def inference_lines(result: InferenceResult) -> list[str]:
    """Return labels, the call, what is apart from it, the prediction by layer."""
    return [
        *map(_label_line, result.labels),
        *call_lines(result),
        *_apart_lines(result),
        *(_prediction_lines(result.prediction, result) if result.prediction else ()),
        *(result.timeline.lines() if result.timeline else ()),
        *(f"note: {note}" for note in result.notes),
    ]


def _label_line(label: Label) -> str:
    known = "" if label.expected is None else f", by the data set {label.expected}"
    return f"{label.image}: {label.class_name} ({label.share:.1%}{known})"


def call_lines(result: InferenceResult) -> Iterator[str]:
    """Yield what was measured, and a note where hops do not fit into it."""
    call, n_calls = result.calls[0], len(result.calls)
    hops = "hops not counted" if call.hops is None else f"{format_hops(call.hops)} hops"
    median = f", median of {n_calls} calls" if n_calls > 1 else ""
    yield (
        f"batch of {result.n_batch} on {result.network}, {result.deployment}, heads "
        f"{result.heads}:"
    )
    yield (
        f"  measured {_duration(result.latency_s)}{median}, "
        f"{_bytes(call.total_bytes_sent)} sent by all parties, {hops}"
    )
    latencies_s = [one.latency_s for one in result.calls]
    parts = Parts(
        latency_s=result.latency_s,
        compute_s=0.0,
        hops_s=(call.hops or 0) * result.network.one_way_s,
        transfer_s=0.0,
        noise_s=LINK_TOLERANCE * result.latency_s + max(latencies_s) - min(latencies_s),
    )
    if parts.problem:
        yield f"  note: {parts.problem}"


def _apart_lines(result: InferenceResult) -> Iterator[str]:
    preparation, call = result.preparation, result.calls[0]
    setup = preparation.setup
    yield (
        f"apart from that, once: parties {_duration(setup.start_s)}, connections and "
        f"keys {_duration(setup.setup_s)} and {_bytes(setup.setup_bytes)}, compiling "
        f"{_duration(preparation.compile_s)}, weights {_sharing(preparation.weights)}"
    )
    has_drivers = result.deployment.build.has_drivers
    drivers = f", drivers {_duration(call.driver_s)}" if has_drivers else ""
    yield (
        f"apart from that, each batch: images {_sharing(call.images)}, result "
        f"{_sharing(call.result)}{drivers}"
    )


def _sharing(transfer: Transfer) -> str:
    return f"{_duration(transfer.latency_s)} and {_bytes(transfer.total_bytes_sent)}"


def _prediction_lines(found: CallPrediction, result: InferenceResult) -> Iterator[str]:
    prediction = found.prediction
    low, high = prediction.interval_s
    measured = result.calls[0].total_bytes_sent
    off = f"{prediction.latency_s / result.latency_s - 1:+.1%}"
    bytes_off = f"{prediction.total_bytes_sent / measured - 1:+.1%}" if measured else ""
    yield (
        f"predicted {_duration(prediction.latency_s)} ({off}; {_duration(low)} to "
        f"{_duration(high)}, {prediction.basis}), "
        f"{_bytes(prediction.total_bytes_sent)} ({bytes_off or 'not measured'}), "
        f"{format_hops(prediction.hops)} hops, by {found.profile}"
    )
    yield from (f"note: {note}" for note in prediction.notes)
    yield "by layer, as predicted (SPU does not tell which layer it works on):"
    yield from _split(found.layers, prediction.latency_s)


def _split(layers: Sequence[Part], latency_s: float) -> Iterator[str]:
    """Yield a line per layer in order; what every call costs is the rest."""
    for part in layers:
        yield (
            f"  {part.name:12} {part.latency_s / latency_s:6.1%} "
            f"{format_duration(part.latency_s, digits=3):>9} "
            f"{format_bytes(part.bytes_sent, digits=3):>9} "
            f"{format_hops(part.hops):>8} hops"
        )
    per_call_s = latency_s - sum(part.latency_s for part in layers)
    yield (
        f"  {'every call':12} {per_call_s / latency_s:6.1%} "
        f"{format_duration(per_call_s, digits=3):>9}"
    )


def evaluation_json(evaluation: "EvaluationResult") -> str:
    """Return the document of `mpcvit evaluate --secure --json`."""
    return _document(
        {
            "dataset": evaluation.dataset,
            "deployment": str(evaluation.conditions.deployment),
            "network": str(evaluation.conditions.network),
            "n_batch": evaluation.n_batch,
            **asdict(evaluation.comparison),
            "emulation": _emulation_json(evaluation),
            "latency_s": evaluation.latency_s,
            "calls": [asdict(call) for call in evaluation.calls],
            "notes": list(evaluation.notes),
        }
    )


def _emulation_json(evaluation: "EvaluationResult") -> dict[str, object] | None:
    found = evaluation.emulation
    if found is None:
        return None
    failures: Counter[str] = Counter()
    for (_, what), n in evaluation.failures.items():
        failures[what] += n
    return {
        "failures": failures,
        "agreement": found.agreement,
        "max_logit_error": found.max_logit_error,
        "median_logit_error": found.median_logit_error,
    }


def _emulation_lines(found: "LogitComparison | None") -> Iterator[str]:
    if found is not None:
        yield (
            f"same label as the emulation of the ring: {found.agreement:.1%}; logits "
            f"off by {found.median_logit_error:.2g} in the median, by "
            f"{found.max_logit_error:.2g} at most"
        )


def evaluation_lines(evaluation: "EvaluationResult") -> list[str]:
    """Return agreement, accuracy, error, cost, and a line per label that differs."""
    found, conditions = evaluation.comparison, evaluation.conditions
    n_batch, call = evaluation.n_batch, evaluation.calls[0]
    per_image_s = evaluation.latency_s / n_batch
    return [
        f"{evaluation.dataset}, {found.n_images} test images in batches of {n_batch}, "
        f"{conditions.deployment}, {conditions.network}",
        f"same label as the plain model: {found.agreement:.1%}; accuracy "
        f"{found.secure_accuracy:.1%} (plain {found.plain_accuracy:.1%})",
        f"logits off by {found.median_logit_error:.2g} in the median, by "
        f"{found.max_logit_error:.2g} at most (their deviation is "
        f"{found.logit_deviation:.2g})",
        *_emulation_lines(evaluation.emulation),
        f"{format_duration(evaluation.latency_s, digits=4)} a batch, "
        f"{format_duration(per_image_s, digits=3)} an image; "
        f"{format_bytes(call.total_bytes_sent, digits=4)} a batch",
        *(
            f"image {one.index}: {one.secure}, plain {one.plain} (ahead by "
            f"{one.margin:.2g}), by the data set {one.expected}"
            for one in found.disagreements
        ),
        *(f"note: {note}" for note in evaluation.notes),
    ]
