"""Labels of images that nobody but their owner sees, and what that took."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from mpcprof.deployment import Deployment
from mpcprof.engine.calls import Call, Transfer
from mpcprof.errors import UsageError
from mpcprof.network import Network
from mpcprof.nn.architecture import Heads
from mpcvit.secure.conditions import Conditions
from mpcvit.secure.forecast import Forecast, forecast
from mpcvit.secure.image_owner import Prepared, prepare_apart
from mpcvit.secure.parties import Answer, Preparation, open_parties
from mpcvit.secure.public_model import PublicModel, read_public_model


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRequest:
    """What `mpcvit infer` was asked for.

    Attributes:
        images: Image files, or test images such as `digits:17`.
        heads: As in the checkpoint if None.
        profile: Forecast from it; None for the deployment's own in profiles/.
        n_batch: Images of a call; None for all of them in one.
        data: Folder of a named data set.
    """

    checkpoint: Path
    images: tuple[str, ...]
    conditions: Conditions
    heads: Heads | None = None
    profile: Path | None = None
    n_batch: int | None = None
    data: Path | None = None

    def __post_init__(self) -> None:
        if not self.images:
            raise UsageError("no images: expected a file, or a test image digits:17")


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What an image shows.

    Attributes:
        share: Of the class in the softmax of the logits, in [0, 1].
        expected: The class by the data set; None if it does not say.
    """

    image: str
    label: int
    class_name: str
    share: float
    expected: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCost:
    """One call of the model, inputs shared before and shares of the result sent after.

    Attributes:
        latency_s: Of the computation.
        bytes_sent: By the image owner's party.
        total_bytes_sent: Summed over parties.
        hops: On the critical path; None if nothing counted them.
        images: Sharing its images.
        result: Sending the shares of the logits to the image owner.
    """

    latency_s: float
    bytes_sent: int
    total_bytes_sent: int
    hops: float | None
    images: Transfer
    result: Transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceResult:
    """Labels, and what they cost.

    Attributes:
        calls: One for each batch.
        forecast: What a profile foresaw of a call; None without one.
        notes: What to know before trusting it.
    """

    labels: tuple[Label, ...]
    deployment: Deployment
    network: Network
    public: PublicModel
    n_batch: int
    preparation: Preparation
    calls: tuple[CallCost, ...]
    forecast: Forecast | None
    notes: tuple[str, ...]

    @property
    def latency_s(self) -> float:
        """Median of the calls."""
        return median(call.latency_s for call in self.calls)

    @property
    def forecast_error(self) -> float | None:
        """Foreseen seconds over measured ones, less 1."""
        if self.forecast is None:
            return None
        return self.forecast.prediction.latency_s / self.latency_s - 1


def infer(
    request: InferenceRequest, on_step: Callable[[str], None] = lambda step: None
) -> InferenceResult:
    """Classify the images privately, by real parties.

    Raises:
        UsageError: If the checkpoint, an image or the profile cannot be used.
        EngineError: If a party fails.
    """
    public = with_heads(read_public_model(request.checkpoint), request.heads)
    n_batch = min(request.n_batch or len(request.images), len(request.images))
    conditions = request.conditions
    foreseen, why_not = forecast(
        request.profile,
        public.architecture,
        conditions.deployment,
        conditions.network,
        n_batch,
    )
    with TemporaryDirectory(prefix="mpcvit-image-owner-") as folder:
        on_step("reading the images")
        prepared = prepare_apart(
            request.images,
            request.checkpoint,
            data=request.data,
            n_batch=n_batch,
            folder=Path(folder),
        )
        answers = []
        with open_parties(
            public, conditions, n_batch=n_batch, on_step=on_step
        ) as model:
            for number, patches in enumerate(prepared.patches, 1):
                on_step(f"classifying batch {number} of {len(prepared.patches)}")
                answers.append(model.classify(patches))
            preparation = model.preparation
    logits = join_logits(answers, len(request.images))
    return InferenceResult(
        labels=_labels(request.images, public, logits, prepared),
        deployment=conditions.deployment,
        network=conditions.network,
        public=public,
        n_batch=n_batch,
        preparation=preparation,
        calls=tuple(call_cost(answer, conditions.deployment) for answer in answers),
        forecast=foreseen,
        notes=(*filter(None, [why_not]), *preparation.notes, *conditions.notes),
    )


def with_heads(public: PublicModel, heads: Heads | None) -> PublicModel:
    """The same model, heads one by one or together: the same logits."""
    architecture = public.architecture
    changed = replace(architecture, heads=heads or architecture.heads)
    return replace(public, architecture=changed)


def join_logits(answers: Sequence[Answer], n_images: int) -> NDArray[np.float64]:
    """(n, C), without what the last batch was filled up with."""
    return np.concatenate([answer.logits for answer in answers])[:n_images]


def call_cost(answer: Answer, deployment: Deployment) -> CallCost:
    """What one call took."""
    call = answer.call
    return CallCost(
        latency_s=call.latency_s,
        bytes_sent=call.runs[0].bytes_sent or 0,
        total_bytes_sent=sum(run.bytes_sent or 0 for run in call.runs),
        hops=_hops(call, deployment),
        images=answer.images,
        result=answer.result,
    )


def _hops(call: Call, deployment: Deployment) -> float | None:
    """As SPU counted them, or as the relay saw them, which may miss waiting sends."""
    if deployment.is_counted_by_spu:
        return call.runs[0].send_actions
    return call.counters.deepest.hops if call.counters else None


def _labels(
    images: Sequence[str],
    public: PublicModel,
    logits: NDArray[np.float64],
    prepared: Prepared,
) -> tuple[Label, ...]:
    names = public.class_names
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    return tuple(
        Label(
            image=image,
            label=int(row.argmax()),
            class_name=names[int(row.argmax())],
            share=float(row.max()),
            expected=None if known is None else names[known],
        )
        for image, row, known in zip(images, shares, prepared.labels, strict=True)
    )
