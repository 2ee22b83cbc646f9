"""Do the parties say what the plain model says? On test images, batch by batch.

A test of the private model by one who knows both sides: here, unlike in an inference,
one process reads images and weights, for the plain answer to compare with.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from mpcprof.nn.architecture import Heads
from mpcvit.checkpoint import read_checkpoint
from mpcvit.checkpoint_data import load_test_data
from mpcvit.data.dataset import ImageSet
from mpcvit.secure.conditions import Conditions
from mpcvit.secure.image_owner import write_patches
from mpcvit.secure.inference import CallCost, call_cost, join_logits, with_heads
from mpcvit.secure.parties import Answer, open_parties
from mpcvit.secure.public_model import PublicModel, read_public_model

Logits = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRequest:
    """What `mpcvit evaluate --secure` was asked for.

    Attributes:
        dataset: Name or folder; of the checkpoint if None.
        data: Folder of a named data set.
        heads: As in the checkpoint if None.
    """

    checkpoint: Path
    conditions: Conditions
    dataset: str | None = None
    data: Path | None = None
    n_images: int = 200
    n_batch: int = 50
    heads: Heads | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """An image of which the two say different things.

    Attributes:
        index: Among the images evaluated.
        margin: By how much the plain model's first logit exceeds its second.
    """

    index: int
    expected: int
    plain: int
    secure: int
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two sets of logits of the same images.

    Attributes:
        agreement: Share of images with the same label, in [0, 1].
        max_logit_error: Largest |secure - plain| of all logits.
        median_logit_error: Half of all logits are closer.
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
class Evaluation:
    """A private model held against the plain one.

    Attributes:
        calls: One for each batch.
    """

    dataset: str
    n_batch: int
    conditions: Conditions
    comparison: Comparison
    calls: tuple[CallCost, ...]
    notes: tuple[str, ...]

    @property
    def latency_s(self) -> float:
        """Median of the calls."""
        return median(call.latency_s for call in self.calls)


def evaluate_secure(
    request: EvaluationRequest, on_step: Callable[[str], None] = lambda step: None
) -> Evaluation:
    """The private model on test images, classes in equal shares.

    Raises:
        UsageError: If the checkpoint or the data cannot be used.
        EngineError: If a party fails.
    """
    public = with_heads(read_public_model(request.checkpoint), request.heads)
    dataset = load_test_data(
        public, request.dataset, folder=request.data, limit=request.n_images
    )
    n_batch = min(request.n_batch, len(dataset.test))
    on_step("asking the plain model")
    plain = plain_logits(request.checkpoint, public, dataset.test)
    answers, notes = _ask_parties(request, public, dataset.test, n_batch, on_step)
    secure = join_logits(answers, len(dataset.test))
    deployment = request.conditions.deployment
    return Evaluation(
        dataset=dataset.name,
        n_batch=n_batch,
        conditions=request.conditions,
        comparison=compare(plain, secure, dataset.test.labels.numpy()),
        calls=tuple(call_cost(answer, deployment) for answer in answers),
        notes=(*notes, *request.conditions.notes),
    )


def _ask_parties(
    request: EvaluationRequest,
    public: PublicModel,
    images: ImageSet,
    n_batch: int,
    on_step: Callable[[str], None],
) -> tuple[list[Answer], tuple[str, ...]]:
    with (
        TemporaryDirectory(prefix="mpcvit-image-owner-") as folder,
        open_parties(
            public, request.conditions, n_batch=n_batch, on_step=on_step
        ) as model,
    ):
        batches = write_patches(
            images.images, public, n_batch=n_batch, folder=Path(folder)
        )
        answers = []
        for number, patches in enumerate(batches, 1):
            on_step(f"batch {number} of {len(batches)}")
            answers.append(model.classify(patches))
        return answers, model.preparation.notes


@torch.no_grad()
def plain_logits(checkpoint: Path, public: PublicModel, images: ImageSet) -> Logits:
    """(n, C) of the torch model, in float32."""
    model = read_checkpoint(checkpoint).build_model()
    logits = model(public.normalize(images.images))  # (n, C)
    return np.asarray(logits.numpy(), np.float64)


def compare(plain: Logits, secure: Logits, labels: NDArray[np.int64]) -> Comparison:
    """Both sets of logits, (n, C), and the true labels, (n,)."""
    errors = np.abs(secure - plain)
    said, said_securely = plain.argmax(axis=1), secure.argmax(axis=1)
    best = np.sort(plain, axis=1)
    return Comparison(
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
