"""Whether the parties say what the plain model says, on test images in batches.

A test of the private model by one who knows both sides: here, unlike in an inference,
one process reads images and weights, for the plain answer to compare with.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpcprof.deployment import Deployment
from mpcprof.errors import UsageError
from mpcprof.nn.architecture import Architecture, Heads
from mpcprof.nn.plan import Plan
from mpcprof.progress import SILENT, Progress
from mpcvit.checkpoint import Checkpoint, load_test_data, read_checkpoint
from mpcvit.checkpoint_header import CheckpointHeader, check_has_weights, read_header
from mpcvit.data.image_set import ImageSet
from mpcvit.models.layers import to_patches
from mpcvit.secure.fixed_point import Logits, emulate_network
from mpcvit.secure.image_owner import write_patches
from mpcvit.secure.inference import (
    CallCost,
    call_cost,
    deployed_plan,
    join_logits,
    with_heads,
)
from mpcvit.secure.parties import Answer, Conditions, open_parties

_N_AT_A_TIME: Final = 100  # images that the plain model takes


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """What `mpcvit evaluate --secure` was asked for.

    Attributes:
        dataset: Name or folder of a data set; None for the checkpoint's.
        data: Folder of a named data set.
        heads: How heads run; None as in the checkpoint.
        plan: File of a plan, or `rewrites`; None for the network as it is.
    """

    checkpoint: Path
    conditions: Conditions
    dataset: str | None = None
    data: Path | None = None
    n_images: int = 200
    n_batch: int = 50
    heads: Heads | None = None
    plan: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """An image to which the plain and the private model give different labels.

    Attributes:
        index: Position among the evaluated images.
        margin: Excess of the plain model's largest logit over its second.
    """

    index: int
    expected: int
    plain: int
    secure: int
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitComparison:
    """Two sets of logits of the same images.

    Attributes:
        agreement: Share of images with the same label, in [0, 1].
        max_logit_error: Largest |secure - plain| of all logits.
        median_logit_error: Median |secure - plain| of all logits.
        logit_deviation: Standard deviation of the plain logits, for scale.
    """

    n_images: int
    agreement: float
    plain_accuracy: float
    secure_accuracy: float
    max_logit_error: float
    median_logit_error: float
    logit_deviation: float
    disagreements: tuple[Disagreement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """A private model held against the plain one, and against its emulation.

    Attributes:
        emulation: The emulation of the parties' ring, instead of the plain model; None
            if it does not know their deployment, or was interrupted.
        failures: Entries that the emulation computes wrongly, by (part, what happened).
        calls: The cost of each batch.
    """

    dataset: str
    n_batch: int
    conditions: Conditions
    comparison: LogitComparison
    emulation: LogitComparison | None
    failures: Counter[tuple[str, str]]
    calls: tuple[CallCost, ...]
    notes: tuple[str, ...]

    @property
    def latency_s(self) -> float:
        """Median seconds of the calls."""
        return median(call.latency_s for call in self.calls)


def evaluate_secure(
    config: EvaluationConfig, progress: Progress = SILENT
) -> EvaluationResult:
    """Run the private model on test images, classes in equal shares.

    Raises:
        UsageError: If the checkpoint or the data cannot be used.
        EngineError: If a party fails.
    """
    header = with_heads(read_header(config.checkpoint), config.heads)
    check_has_weights(config.checkpoint)  # for the plain answers
    architecture = header.transformer
    dataset = load_test_data(
        header, config.dataset, folder=config.data, limit=config.n_images
    )
    n_batch = min(config.n_batch, len(dataset.test))
    plan = deployed_plan(
        config.plan, architecture, n_batch, config.conditions, config.heads
    )
    progress.describe("asking the plain model")
    checkpoint = read_checkpoint(config.checkpoint)
    plain = plain_logits(checkpoint, dataset.test.images)
    answers, notes = _ask_parties(config, header, plan, dataset.test, n_batch, progress)
    secure = join_logits(answers, len(dataset.test))
    labels = dataset.test.labels.numpy()
    progress.describe("asking the emulation (Ctrl-C leaves it out)")
    deployment = config.conditions.deployment
    emulation, failures, own_notes = hold_against_emulation(
        secure, checkpoint, architecture, dataset.test, deployment, plan
    )
    return EvaluationResult(
        dataset=dataset.name,
        n_batch=n_batch,
        conditions=config.conditions,
        comparison=compare(plain, secure, labels),
        emulation=emulation,
        failures=failures,
        calls=tuple(call_cost(answer, deployment) for answer in answers),
        notes=(*notes, *own_notes, *config.conditions.notes(plan)),
    )


def _ask_parties(
    config: EvaluationConfig,
    header: CheckpointHeader,
    plan: Plan | None,
    images: ImageSet,
    n_batch: int,
    progress: Progress,
) -> tuple[list[Answer], tuple[str, ...]]:
    with (
        TemporaryDirectory(prefix="mpcvit-image-owner-") as folder,
        open_parties(
            config.checkpoint,
            header.architecture,
            config.conditions,
            n_batch=n_batch,
            plan=plan,
            on_step=progress.describe,
        ) as model,
    ):
        batches = write_patches(
            images.images, header, n_batch=n_batch, folder=Path(folder)
        )
        answers = []
        progress.begin(len(batches))
        for number, patches in enumerate(batches, 1):
            progress.describe(f"batch {number} of {len(batches)}")
            answers.append(model.classify(patches))
            progress.advance()
        return answers, model.preparation.notes


@torch.no_grad()
def plain_logits(checkpoint: Checkpoint, images: Tensor) -> Logits:
    """Return the logits (n, C) of the torch model, computed in float32.

    Args:
        images: Images of uint8, (n, c, S, S); some at a time, as scores of all of them
            would fill gigabytes.
    """
    model = checkpoint.build_model()
    parts = [
        model(checkpoint.normalize(some)) for some in torch.split(images, _N_AT_A_TIME)
    ]
    return np.asarray(torch.cat(parts).numpy(), np.float64)


def hold_against_emulation(
    secure: Logits,
    checkpoint: Checkpoint,
    architecture: Architecture,
    images: ImageSet,
    deployment: Deployment,
    plan: Plan | None,
) -> tuple[LogitComparison | None, Counter[tuple[str, str]], tuple[str, ...]]:
    """Compare logits, (n, C), with those that an emulation of the ring computes.

    Returns:
        The comparison, or None if the emulation does not know the deployment or is
        interrupted: what took the parties minutes is not lost; entries that it computes
        wrongly, by (part, what happened); notes.
    """
    failures: Counter[tuple[str, str]] = Counter()
    try:
        chunks = emulate_network(
            deployment,
            architecture,
            plan,
            {name: weight.numpy() for name, weight in checkpoint.weights.items()},
            to_patches(
                checkpoint.normalize(images.images), architecture.model.input_patch
            ),
            failures=failures,
        )
        emulated = np.concatenate([*chunks])
    except UsageError as error:
        return None, Counter(), (f"not held against an emulation: {error}",)
    except KeyboardInterrupt:
        return None, Counter(), ("not held against an emulation: interrupted",)
    comparison = compare(emulated, secure, images.labels.numpy())
    return comparison, failures, _failure_notes(failures, len(secure))


_FAILURES: Final = {
    "overflow": "products that left the ring",
    "out of range": "numbers outside of the plan's ranges",
    "rsqrt": "numbers beyond SPU's inverse root",
    "division": "numbers beyond SPU's reciprocal",
    "exp": "numbers beyond SPU's exponential",
    "lost wrap": "local truncations that went wrong",
}


def _failure_notes(
    failures: Mapping[tuple[str, str], int], n_images: int
) -> tuple[str, ...]:
    """Return a note for each kind of failure in an emulation of so many images."""
    by_kind: dict[str, Counter[str]] = {}
    for (part, kind), n in failures.items():
        by_kind.setdefault(kind, Counter())[part] += n
    notes = []
    for kind, parts in by_kind.items():
        (worst, n_worst), *_ = parts.most_common(1)
        notes.append(
            f"{kind}: {parts.total()} {_FAILURES[kind]} in an "
            f"emulation of {n_images} images, most in {worst or 'no part'} ({n_worst})"
        )
    return tuple(notes)


def compare(
    plain: Logits, secure: Logits, labels: NDArray[np.int64]
) -> LogitComparison:
    """Compare both sets of logits, (n, C), given the true labels, (n,)."""
    errors = np.abs(secure - plain)
    said, said_securely = plain.argmax(axis=1), secure.argmax(axis=1)
    best = np.sort(plain, axis=1)
    return LogitComparison(
        n_images=len(labels),
        agreement=float(np.mean(said == said_securely)),
        plain_accuracy=float(np.mean(said == labels)),
        secure_accuracy=float(np.mean(said_securely == labels)),
        max_logit_error=float(errors.max()),
        median_logit_error=float(np.median(errors)),
        logit_deviation=float(plain.std()),
        disagreements=tuple(
            Disagreement(
                index=int(index),
                expected=int(labels[index]),
                plain=int(said[index]),
                secure=int(said_securely[index]),
                margin=float(best[index, -1] - best[index, -2]),
            )
            for index in np.flatnonzero(said != said_securely)
        ),
    )
