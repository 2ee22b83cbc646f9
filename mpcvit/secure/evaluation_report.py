"""An evaluation for people and for programs."""

import json
from dataclasses import asdict

from mpcprof.units import format_bytes, format_duration
from mpcvit.secure.evaluate import Evaluation


def evaluation_json(evaluation: Evaluation) -> str:
    """The document of `mpcvit evaluate --secure --json`."""
    return json.dumps(
        {
            "dataset": evaluation.dataset,
            "deployment": str(evaluation.conditions.deployment),
            "network": str(evaluation.conditions.network),
            "n_batch": evaluation.n_batch,
            **asdict(evaluation.comparison),
            "latency_s": evaluation.latency_s,
            "calls": [asdict(call) for call in evaluation.calls],
            "notes": list(evaluation.notes),
        }
    )


def evaluation_lines(evaluation: Evaluation) -> list[str]:
    """Agreement, accuracy, error, cost; a line per image of which the two differ."""
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
