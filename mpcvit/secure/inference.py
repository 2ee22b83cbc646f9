"""Labels of images that nobody but their owner sees, and what that took."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from mpcprof.costmodel.model import fit_cost_model
from mpcprof.costmodel.prediction import Part, Prediction, sum_by_layer
from mpcprof.deployment import Deployment
from mpcprof.engine.calls import Call, Transfer
from mpcprof.engine.recording import waiting_share
from mpcprof.engine.traced import call_timeline
from mpcprof.errors import MissingEntryError, ProfileError, UsageError
from mpcprof.network import Network
from mpcprof.nn.architecture import Heads
from mpcprof.nn.catalogue import AnyNetwork, trace_model
from mpcprof.nn.efficientvit import EfficientViT
from mpcprof.nn.plan import Plan
from mpcprof.nn.steps import Step
from mpcprof.predict import plan_network
from mpcprof.profile.io import default_profile, find_profile, read_profile
from mpcprof.progress import SILENT, Progress
from mpcprof.trace.timeline import Timeline
from mpcvit.checkpoint_header import CheckpointHeader, read_header
from mpcvit.secure.image_owner import Prepared, prepare_apart
from mpcvit.secure.parties import Answer, Conditions, Preparation, open_parties


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceConfig:
    """What `mpcvit infer` was asked for.

    Attributes:
        images: Image files, or test images such as `digits:17`.
        heads: How heads run; None as in the checkpoint.
        profile: Profile to predict from; None for the deployment's in profiles/.
        n_batch: Images of a call; None for all of them in one.
        data: Folder of a named data set.
        plan: File of a plan, or `rewrites`; None for the network as it is.
    """

    checkpoint: Path
    images: tuple[str, ...]
    conditions: Conditions
    heads: Heads | None = None
    profile: Path | None = None
    n_batch: int | None = None
    data: Path | None = None
    plan: str | None = None

    def __post_init__(self) -> None:
        if not self.images:
            raise UsageError("no images: expected a file, or a test image digits:17")


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """The class of an image.

    Attributes:
        image: The image as the config names it.
        share: Share of the class in the softmax of the logits, in [0, 1].
        expected: The class by the data set; None if it does not say.
    """

    image: str
    label: int
    class_name: str
    share: float
    expected: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCost:
    """Cost of one call of the model, and of sharing before and after it.

    Attributes:
        latency_s: Seconds of the computation.
        bytes_sent: Bytes sent by the image owner's party.
        total_bytes_sent: Bytes sent, summed over parties.
        hops: Hops on the critical path; None if nothing counted them.
        images: Sharing its images.
        result: Sending the shares of the logits to the image owner.
        driver_s: Seconds beside the computation that a program around SPU took.
    """

    latency_s: float
    bytes_sent: int
    total_bytes_sent: int
    hops: float | None
    images: Transfer
    result: Transfer
    driver_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPrediction:
    """What a profile predicts of one call.

    Attributes:
        profile: File of the profile.
        hosts: Hosts on which the profile was measured.
    """

    profile: str
    hosts: str
    prediction: Prediction

    @property
    def layers(self) -> tuple[Part, ...]:
        """Costs by layer, without what every call costs."""
        return sum_by_layer(self.prediction)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceResult:
    """Labels, and what they cost.

    Attributes:
        heads: How heads ran.
        calls: The cost of each batch.
        prediction: What a profile predicts of a call; None without one.
        notes: What to know before trusting it.
        timeline: What the parties did in the last call, if that was asked for.
    """

    labels: tuple[Label, ...]
    deployment: Deployment
    network: Network
    heads: Heads
    n_batch: int
    preparation: Preparation
    calls: tuple[CallCost, ...]
    prediction: CallPrediction | None
    notes: tuple[str, ...]
    timeline: Timeline | None = None

    @property
    def latency_s(self) -> float:
        """Median seconds of the calls."""
        return median(call.latency_s for call in self.calls)

    @property
    def prediction_error(self) -> float | None:
        """Predicted seconds over measured ones, less 1."""
        if self.prediction is None:
            return None
        return self.prediction.prediction.latency_s / self.latency_s - 1


def infer(config: InferenceConfig, progress: Progress = SILENT) -> InferenceResult:
    """Classify the images privately, by real parties.

        >>> from mpcprof.deployment import make_deployment
        >>> from mpcvit.secure.inference import InferenceConfig
        >>> from mpcvit.secure.parties import Conditions
        >>> config = InferenceConfig(
        ...     checkpoint=folder / "run" / "model.safetensors",
        ...     images=("digits:17",),
        ...     conditions=Conditions(
        ...         deployment=make_deployment("semi2k"),
        ...         network=mpcprof.parse_network("lan"),
        ...     ),
        ... )
        >>> len(mpcvit.infer(config).labels)
        1

    Raises:
        UsageError: If the checkpoint, an image or the profile cannot be used.
        EngineError: If a party fails.
    """
    header = with_heads(read_header(config.checkpoint), config.heads)
    n_batch = min(config.n_batch or len(config.images), len(config.images))
    conditions = config.conditions
    plan = deployed_plan(
        config.plan, header.architecture, n_batch, conditions, config.heads
    )
    predicted, why_not = predict_call(
        config.profile,
        header.architecture,
        conditions.deployment,
        conditions.network,
        n_batch,
        plan,
    )
    with TemporaryDirectory(prefix="mpcvit-image-owner-") as folder:
        progress.describe("reading the images")
        prepared = prepare_apart(
            config.images,
            config.checkpoint,
            data=config.data,
            n_batch=n_batch,
            folder=Path(folder),
        )
        answers = []
        with open_parties(
            config.checkpoint,
            header.architecture,
            conditions,
            n_batch=n_batch,
            plan=plan,
            on_step=progress.describe,
        ) as model:
            n_batches = len(prepared.patches)
            progress.begin(n_batches)
            for number, patches in enumerate(prepared.patches, 1):
                progress.describe(f"classifying batch {number} of {n_batches}")
                answers.append(model.classify(patches))
                progress.advance()
            preparation = model.preparation
    if preparation.network != conditions.network:  # hosts saw another one
        predicted, why_not = predict_call(
            config.profile,
            header.architecture,
            conditions.deployment,
            preparation.network,
            n_batch,
            plan,
        )
    logits = join_logits(answers, len(config.images))
    return InferenceResult(
        labels=_labels(config.images, header, logits, prepared),
        deployment=conditions.deployment,
        network=preparation.network,
        heads=_heads(header.architecture, plan),
        n_batch=n_batch,
        preparation=preparation,
        calls=tuple(call_cost(answer, conditions.deployment) for answer in answers),
        prediction=predicted,
        notes=(*filter(None, [why_not]), *preparation.notes, *conditions.notes(plan)),
        timeline=_timeline(config, answers[-1].call) if conditions.is_traced else None,
    )


def _timeline(config: InferenceConfig, call: Call) -> Timeline:
    conditions = config.conditions
    title = f"{config.checkpoint}, {conditions.deployment}, {conditions.network}"
    return call_timeline(call, title, conditions.network)


def deployed_plan(
    asked: str | None,
    architecture: AnyNetwork,
    n_batch: int,
    conditions: Conditions,
    heads: Heads | None,
) -> Plan | None:
    """Return the plan that was asked for, under the conditions of the parties.

    Raises:
        UsageError: As `plan_network`.
    """
    return plan_network(
        asked,
        architecture,
        n_batch,
        deployment=conditions.deployment,
        link=conditions.network,
        heads=heads,
    )


def with_heads(header: CheckpointHeader, heads: Heads | None) -> CheckpointHeader:
    """Return the model with heads serial or batched, which give the same logits.

    Raises:
        UsageError: If heads that wait for each other are to be batched.
    """
    architecture = header.architecture
    if isinstance(architecture, EfficientViT):
        if heads == "batched":
            raise UsageError(
                f"--heads batched: the heads of {architecture.name} wait for each "
                "other; leave --heads out"
            )
        return header
    changed = replace(architecture, heads=heads or architecture.heads)
    return replace(header, architecture=changed)


def _heads(architecture: AnyNetwork, plan: Plan | None) -> Heads:
    if isinstance(architecture, EfficientViT):
        return "serial"
    return plan.heads if plan else architecture.heads


def join_logits(answers: Sequence[Answer], n_images: int) -> NDArray[np.float64]:
    """Join logits to (n, C), without what the last batch was filled up with."""
    return np.concatenate([answer.logits for answer in answers])[:n_images]


def call_cost(answer: Answer, deployment: Deployment) -> CallCost:
    """Return what one call took."""
    call = answer.call
    return CallCost(
        latency_s=call.latency_s,
        bytes_sent=call.runs[0].bytes_sent or 0,
        total_bytes_sent=sum(run.bytes_sent or 0 for run in call.runs),
        hops=_hops(call, deployment),
        images=answer.images,
        result=answer.result,
        driver_s=call.driver_s,
    )


def _hops(call: Call, deployment: Deployment) -> float | None:
    """Return SPU's count, of what waits, or the relay's, which may miss sends."""
    if deployment.is_counted_by_spu:
        return round((call.runs[0].send_actions or 0) * waiting_share([call]))
    return call.counters.deepest.hops if call.counters else None


def _labels(
    images: Sequence[str],
    header: CheckpointHeader,
    logits: NDArray[np.float64],
    prepared: Prepared,
) -> tuple[Label, ...]:
    names = header.class_names
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


def predict_call(
    profile: Path | None,
    architecture: AnyNetwork,
    deployment: Deployment,
    network: Network,
    n_batch: int,
    plan: Plan | None = None,
) -> tuple[CallPrediction | None, str]:
    """Return the prediction, or None and the reason why there is none.

    Args:
        profile: The profile; None for profiles/PROTOCOL.parquet, or else the packaged
            one of the protocol, if it can predict.

    Raises:
        UsageError: If the profile that is named is of another deployment.
        ProfileError: If it cannot be read.
        MissingEntryError: If it lacks an operation.
    """
    path = profile or default_profile(deployment.protocol)
    if profile is None and not find_profile(path).exists():
        return None, f"no prediction: there is no {path}; name one with --profile"
    try:
        steps = trace_model(architecture, n_batch, plan)
        return _predict(path, steps, deployment, network), ""
    except (UsageError, ProfileError, MissingEntryError) as error:
        if profile is not None:
            raise
        is_named = str(path) in str(error)  # an entry that is missing names no file
        return None, f"no prediction: {'' if is_named else f'{path}: '}{error}"


def _predict(
    path: Path, steps: Sequence[Step], deployment: Deployment, network: Network
) -> CallPrediction:
    read = read_profile(path)
    difference = read.deployment.without_drivers.difference(deployment.without_drivers)
    if difference:
        raise UsageError(
            f"{path} is of another deployment: {difference}; name one of this "
            "deployment with --profile"
        )
    model = fit_cost_model(read)
    prediction = model.predict(steps, network)
    return CallPrediction(profile=str(path), hosts=model.hosts, prediction=prediction)
