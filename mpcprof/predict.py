"""A model or a block, predicted on one network or several, for people and programs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from mpcprof.costmodel.memory import forecast_memory_bytes
from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.costmodel.offline import (
    OfflineCosts,
    OfflineRow,
    count_randomness,
    price_offline,
)
from mpcprof.costmodel.prediction import Part, Prediction, sum_by_layer
from mpcprof.deployment import Deployment
from mpcprof.errors import MissingEntryError, UnknownNameError, UsageError, did_you_mean
from mpcprof.money import Bill, Tariff
from mpcprof.network import Network
from mpcprof.nn.architecture import (
    MIXING,
    Architecture,
    Heads,
    get_model,
    names_heads,
    read_architecture,
    uniform_architecture,
)
from mpcprof.nn.catalogue import AnyNetwork, count_inputs, trace_model
from mpcprof.nn.efficientvit import EfficientViT, get_efficientvit, is_efficientvit
from mpcprof.nn.plan import REWRITES, Plan, choose_plan
from mpcprof.nn.preset import Embedding, ModelPreset
from mpcprof.nn.steps import Step
from mpcprof.profile.record import Profile
from mpcprof.trace.predicted import predict_timeline
from mpcprof.trace.timeline import Timeline
from mpcprof.units import format_bytes, format_duration, format_hops

_SHOWN = 14  # lines of a split
_N_POSITIONS: Final = {"bert-base": 512, "bert-large": 512}  # that weights have
_OF_NETWORK: Final = (  # what `predict --json` says of each network
    *("latency_s", "interval_s", "bytes_sent", "total_bytes_sent"),
    *("hops", "compute_s", "basis", "notes"),
)

# The groups of the paper's Figures 1 and 3(a), in the order of the stack from below.
GROUPS: Final = ("softmax", "GeLU", "MatMul", "LayerNorm", "other")
SOFTMAX_GROUPS: Final = ("exp", "reciprocal", "max", "rest of softmax")
_GELU: Final = ("gelu_tanh", "gelu_exact")
_SOFTMAX_PARTS: Final = ("softmax", "softmax_by_entry")  # last words of a step's part
_SOFTMAX_OPERATIONS: Final = ("max", "exp", "sum", "reciprocal", "mul")


def operation_group(step: Step) -> str:
    """Return the member of `GROUPS` that a step belongs to.

    Softmax is everything between Q K^T and the product with V except the scaling, which
    is `other`. LayerNorm is all of a normalisation, the classifier's too. MatMul is
    every product of matrices, with its truncation.
    """
    if step.operation == "matmul":
        return "MatMul"
    if step.operation in _GELU:
        return "GeLU"
    where = step.part.rpartition("/")[2]
    if where in _SOFTMAX_PARTS and step.operation in _SOFTMAX_OPERATIONS:
        return "softmax"
    return "LayerNorm" if where in ("norm", "head") else "other"


def softmax_group(step: Step) -> str:
    """Return the member of `SOFTMAX_GROUPS` that a step of softmax belongs to."""
    is_named = step.operation in SOFTMAX_GROUPS
    return step.operation if is_named else "rest of softmax"


def choose_architecture(
    *,
    attention: str | None,
    model: str | None = None,
    preset: ModelPreset | None = None,
    activation: str | None = None,
    norm: str | None = None,
    heads: Heads | None = None,
    n_layers: int | None = None,
    n_tokens: int | None = None,
    embedding: Embedding | None = None,
) -> Architecture:
    """Return a variant in every head of a model, a mixer in every layer, or a file's.

    Args:
        attention: Name of a variant or a mixer, or path of a file; None for softmax, or
            as the file of `model` says.
        model: Name of a preset, or file of sizes; beside a file of an architecture,
            the one it must have.
        preset: Sizes for a variant; None for those of `model`, or of `cifar`.
        activation: None for GeLU by tanh, or as the file says.
        norm: None for layernorm, or as the file says.
        heads: None for heads one by one, or as the file says.
        n_layers: None for the preset's number of layers.
        n_tokens: Length of texts; None for the preset's.
        embedding: How words are embedded; None as the preset says.

    Raises:
        UsageError: If a name is unknown, or the file says otherwise.
    """
    if attention is None:
        is_whole = bool(model) and names_heads(str(model))
        attention, model = (str(model), None) if is_whole else ("softmax", model)
    if attention in MIXING:
        preset = preset or get_model(model or "cifar")
        preset = _resized(preset, n_tokens, embedding)
        return uniform_architecture(
            replace(preset, n_layers=n_layers or preset.n_layers),
            attention=attention,
            activation=activation or "gelu_tanh",
            norm=norm or "layernorm",
            heads=heads or "serial",
        )
    path = Path(attention)
    if path.suffix != ".json" and not path.exists():
        raise UnknownNameError(
            f"{attention!r} is neither a file nor a variant; "
            f"{did_you_mean(attention, [*MIXING])}"
        )
    read = read_architecture(path)
    activations = {name for layer in read.activation for name in layer}
    for option, asked, own in (
        ("--activation", activation, sorted(activations)),
        ("--norm", norm, sorted({*read.norm})),
    ):
        if asked and own != [asked]:
            raise UsageError(
                f"{option} {asked}: {attention} has {', '.join(own)}; leave "
                f"{option} out"
            )
    if model and get_model(model).name != read.model.name:
        raise UsageError(
            f"--model {model}: {attention} is of model {read.model.name}; leave "
            "--model out"
        )
    if n_layers and n_layers != read.n_layers:
        raise UsageError(
            f"--layers {n_layers}: {attention} has {read.n_layers}; leave it out"
        )
    sizes = _resized(read.model, n_tokens, embedding)
    return replace(read, heads=heads or read.heads, model=sizes)


def _resized(
    model: ModelPreset, n_tokens: int | None, embedding: Embedding | None
) -> ModelPreset:
    """Return the model for texts of that length, of which it has the positions.

    Raises:
        UsageError: If it has fewer, or as `ModelPreset.resized`.
    """
    n_positions = _N_POSITIONS.get(model.name)
    if n_tokens and n_positions and n_tokens > n_positions:
        raise UsageError(
            f"--tokens {n_tokens}: model {model.name} has {n_positions} positions; "
            f"expected at most {n_positions}"
        )
    return model.resized(n_tokens=n_tokens, embedding=embedding)


def choose_network(
    *,
    model: str,
    attention: str | None,
    activation: str | None = None,
    norm: str | None = None,
    heads: Heads | None = None,
    n_layers: int | None = None,
    n_tokens: int | None = None,
    embedding: Embedding | None = None,
    image_size: int | None = None,
    n_classes: int | None = None,
) -> AnyNetwork:
    """Return an EfficientViT, or a Vision Transformer as `choose_architecture` does.

    Args:
        image_size: Height and width of the image in pixels, of an EfficientViT.
        n_classes: Number of classes, of an EfficientViT.

    Raises:
        UsageError: If a name is unknown, or an option says nothing of the network.
    """
    name = attention if attention and is_efficientvit(attention) else model
    sizes = {"--image": image_size, "--classes": n_classes}
    if not is_efficientvit(name):
        _refuse(sizes, "says the size of an EfficientViT; leave")
        return choose_architecture(
            model=model,
            attention=attention,
            activation=activation,
            norm=norm,
            heads=heads,
            n_layers=n_layers,
            n_tokens=n_tokens,
            embedding=embedding,
        )
    together = "batched" if heads == "batched" else None
    own = {
        "--activation": activation,
        "--norm": norm,
        "--layers": n_layers,
        "--tokens": n_tokens,
        "--embedding": embedding,
    }
    why = f"{name} has ReLU, folded BatchNorm and heads that wait for each other;"
    _refuse(own | {"--heads": together}, f"is no choice: {why} leave")
    network = get_efficientvit(name)
    if name == attention:
        _refuse({"--model": model or None}, f"is no choice: {name} says it; leave")
        attention = None
    return replace(
        network,
        attention=attention or network.attention,
        image_size=image_size or network.image_size,
        n_classes=n_classes or network.n_classes,
    )


def _refuse(options: Mapping[str, object], why: str) -> None:
    """Refuse the first option that is given."""
    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option} {value} {why} {option} out")


def plan_network(
    asked: str | None,
    network: AnyNetwork,
    n_batch: int,
    *,
    deployment: Deployment,
    link: Network,
    heads: Heads | None = None,
) -> Plan | None:
    """Return the plan that a person asked for, as `choose_plan` does.

    The rewrites of an EfficientViT are always on: it is deployed without a plan.

    Raises:
        UsageError: If the plan cannot be read, or is for something else.
    """
    if isinstance(network, EfficientViT):
        if asked not in (None, REWRITES):
            raise UsageError(
                f"--plan {asked}: {network.name} takes no plan, its rewrites are "
                "always on; leave --plan out"
            )
        return None
    return choose_plan(
        asked, network, n_batch, deployment=deployment, network=link, heads=heads
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionReport:
    """Predictions of one model on several networks.

    Attributes:
        predictions: One prediction for each network, in their order.
        n_parties: Parties whose machines are paid for.
        n_inputs: Inputs that share a call.
        peak_memory_bytes: Forecast of the most memory that a party needs; None where
            nothing was measured that tells it.
        offline: Priced offline phase, if it was asked for; in no prediction.
        tariff: What machines and traffic cost, if that was asked for.
        steps: What was predicted.
        timeline: Predicted timeline on the first network, if it was asked for.
    """

    title: str
    deployment: str
    hosts: str
    networks: tuple[Network, ...]
    predictions: tuple[Prediction, ...]
    n_parties: int = 2
    n_inputs: int = 1
    peak_memory_bytes: float | None = None
    offline: OfflineCosts | None = None
    tariff: Tariff | None = None
    steps: tuple[Step, ...] = field(default=(), repr=False)
    timeline: Timeline | None = None

    def to_json(self) -> str:
        """Return the document of `predict --json`: the first network, and all."""
        first = self.predictions[0]
        every = [
            {"network": str(network)}
            | {name: getattr(one, name) for name in _OF_NETWORK}
            | self._cost_document(one)
            for network, one in zip(self.networks, self.predictions, strict=True)
        ]
        return json.dumps(
            {
                "title": self.title,
                "deployment": self.deployment,
                "hosts": self.hosts,
                **every[0],
                "per_call_s": first.per_call_s,
                "notes": first.notes,
                "layers": [asdict(part) for part in sum_by_layer(first)],
                **asdict(first),
                "networks": every,
                "peak_memory_bytes": self.peak_memory_bytes,
                **self._offline_document(),
                **({"trace": self.timeline.to_json()} if self.timeline else {}),
            }
        )

    def _cost_document(self, prediction: Prediction) -> dict[str, object]:
        """Return the money for an input under a key of its own; nothing if unasked."""
        bill = self.bill(prediction)
        return {"cost": asdict(bill) | asdict(bill.total)} if bill else {}

    def bill(self, prediction: Prediction) -> Bill | None:
        """Return what an input costs by the tariff; None without one."""
        if self.tariff is None:
            return None
        return self.tariff.bill(
            n_parties=self.n_parties,
            latency_s=prediction.latency_s,
            total_bytes_sent=prediction.total_bytes_sent,
            n_inputs=self.n_inputs,
        )

    def _offline_document(self) -> dict[str, object]:
        """Return the offline phase under a key of its own; nothing without one."""
        if self.offline is None:
            return {}
        networks = [
            {
                "network": str(network),
                "offline_s": self.offline.latency_s(network),
                "with_offline_s": one.latency_s + self.offline.latency_s(network),
            }
            for network, one in zip(self.networks, self.predictions, strict=True)
        ]
        return {"offline": {**asdict(self.offline), "networks": networks}}

    def lines(self) -> list[str]:
        """Return a line per network, then the split on the first one."""
        lines = [f"{self.title}; {self.deployment}"]
        for network, prediction in zip(self.networks, self.predictions, strict=True):
            lines.append(f"{network}: {prediction}")
            if bill := self.bill(prediction):
                lines.append(f"  an inference costs {bill}")
        if self.peak_memory_bytes is not None:
            lines.append(
                f"memory of a party: {self.peak_memory_bytes / 1e9:.2f} GB at its "
                "peak, a forecast"
            )
        first = self.predictions[0]
        notes = (note for one in self.predictions for note in one.notes)
        lines += [f"note: {note}" for note in dict.fromkeys(notes)]
        lines += [f"by layer, on {self.networks[0]}:", *_split(sum_by_layer(first))]
        lines += ["by operation:", *_split(first.operations)]
        lines += self.timeline.lines() if self.timeline else []
        return lines + self._offline_lines()

    def _offline_lines(self) -> list[str]:
        """Return the table of the offline phase; nothing without one."""
        if self.offline is None:
            return []
        lines = [
            "offline, priced and not measured, network alone: by "
            f"{self.offline.protocol}, {self.offline.meaning}",
            *(_offline_line(row) for row in self.offline.rows),
            f"  all: {format_bytes(self.offline.total_bytes, digits=4)} by both parties"
            f" together, {format_hops(self.offline.hops)} hops",
        ]
        for network, prediction in zip(self.networks, self.predictions, strict=True):
            offline_s = self.offline.latency_s(network)
            parts = (offline_s, prediction.latency_s, offline_s + prediction.latency_s)
            texts = (format_duration(seconds, digits=4) for seconds in parts)
            lines.append("{}: {} offline + {} = {}".format(network, *texts))
        return lines


def predict_model(
    model: CostModel,
    architecture: AnyNetwork,
    networks: Sequence[Network],
    n_batch: int = 1,
    plan: Plan | None = None,
) -> PredictionReport:
    """Predict a whole Transformer for a batch of inputs, deployed by a plan.

    Raises:
        MissingEntryError: If the profile lacks an operation of it.
    """
    steps = trace_model(architecture, n_batch, plan)
    title = f"{_describe(architecture, plan)}, batch {n_batch}"
    title += ", by a plan" * bool(plan)
    n_shared = count_inputs(architecture, n_batch, plan)
    report = predict_steps(model, title, steps, networks, n_shared)
    report = replace(report, n_inputs=n_batch)
    if isinstance(architecture, EfficientViT) or not architecture.model.n_words:
        return report
    noted = []
    for network, one in zip(networks, report.predictions, strict=True):
        note = _embedding_note(model, architecture.model, steps, network, one)
        noted.append(replace(one, notes=(*one.notes, note)))
    return replace(report, predictions=tuple(noted))


def _describe(network: AnyNetwork, plan: Plan | None) -> str:
    if isinstance(network, EfficientViT):
        return (
            f"{network.name}, {network.image_size} pixels, "
            f"{network.n_classes} classes, "
            f"{network.n_heads_in_sequence} heads of {network.attention} in sequence, "
            f"{network.n_multiply_adds / 1e6:.4g} M multiply-adds"
        )
    preset, heads = network.model, plan.heads if plan else network.heads
    return (
        f"{preset.name}, {preset.n_layers} layers, {preset.n_heads} heads "
        f"{heads}, {preset.n_tokens} tokens{_embedded(preset)}, width {preset.width}"
    )


def _embedded(model: ModelPreset) -> str:
    """Return how the tokens of a model come to be; "" for those of an image."""
    if not model.n_words:
        return " given embedded" * bool(model.n_embeddings)
    return " as one-hot rows" if model.is_one_hot else " looked up by the client"


def _embedding_note(
    model: CostModel,
    sizes: ModelPreset,
    steps: Sequence[Step],
    network: Network,
    whole: Prediction,
) -> str:
    """Say what the embedding of words costs, or what the client must hold for it."""
    if not sizes.is_one_hot:
        return (
            f"the client looks words up, so it holds the table of {sizes.n_rows} x "
            f"{sizes.width}, which is no secret to it then; --embedding one_hot keeps "
            "it secret"
        )
    product = [step for step in steps if step.part == "embedding"]
    own = model.predict(product, network, is_call=False)
    return (
        f"the one-hot product with {sizes.n_rows} rows sends "
        f"{format_bytes(own.total_bytes_sent, digits=3)}, "
        f"{own.total_bytes_sent / whole.total_bytes_sent:.0%} of all, in "
        f"{format_duration(own.latency_s, digits=3)}, besides the rows that the client "
        "shares; --embedding client looks words up instead"
    )


def predict_architecture(
    profile: Profile | CostModel,
    architecture: AnyNetwork,
    network: Network | str = "wan",
    n_batch: int = 1,
    plan: Plan | None = None,
) -> Prediction:
    """Return what one call of an architecture costs on a network.

        >>> profile = mpcprof.read_profile("profiles/semi2k.parquet")
        >>> model = mpcprof.get_model("cifar")
        >>> softmax = mpcprof.uniform_architecture(model, attention="softmax")
        >>> relu = mpcprof.uniform_architecture(model, attention="relu_softmax")
        >>> slow = mpcprof.predict_architecture(profile, softmax)
        >>> fast = mpcprof.predict_architecture(profile, relu)
        >>> fast.latency_s < slow.latency_s, fast.hops < slow.hops, fast.basis
        (True, True, 'interpolated')

    Args:
        profile: Profile, or the cost model fitted to one, which takes a second.
        network: Network, or its text such as `100MBps,10ms`.
        plan: How it is deployed; None for the network as it is.

    Raises:
        MissingEntryError: If the profile lacks an operation of the architecture.
    """
    fitted = profile if isinstance(profile, CostModel) else fit_cost_model(profile)
    return fitted.predict(architecture, network, n_batch=n_batch, plan=plan)


def check_priced(model: CostModel, steps: Iterable[Step]) -> None:
    """Name in one line all operations that the profile cannot price.

    Raises:
        MissingEntryError: If it lacks one.
    """
    needed = {step.operation for step in model.priced(steps)}
    if lacking := sorted(needed - {*model.operations}):
        raise MissingEntryError(
            f"no record of {', '.join(lacking)} to price from; "
            f"`{model.deployment.sweep_command} --only {','.join(lacking)} --output "
            "PROFILE` measures what is missing"
        )


def predict_steps(
    model: CostModel,
    title: str,
    steps: Sequence[Step],
    networks: Sequence[Network],
    n_shared: int,
) -> PredictionReport:
    """Predict any sequence of steps.

    Args:
        n_shared: Entries of all that parties hold in shares, weights included.

    Raises:
        MissingEntryError: If the profile lacks an operation.
    """
    check_priced(model, steps)
    return PredictionReport(
        title=title,
        deployment=str(model.deployment),
        hosts=model.hosts,
        networks=tuple(networks),
        predictions=tuple(model.predict(steps, network) for network in networks),
        n_parties=model.deployment.n_parties,
        peak_memory_bytes=forecast_memory_bytes(model.deployment, steps, n_shared),
        steps=tuple(steps),
    )


def with_timeline(report: PredictionReport, model: CostModel) -> PredictionReport:
    """Return a report with the timeline of its steps on its first network."""
    title = f"{report.title}; {report.deployment}, {report.networks[0]}"
    timeline = predict_timeline(model, title, report.steps, report.networks[0])
    return replace(report, timeline=timeline)


def predict_offline(
    profile: Profile,
    architecture: AnyNetwork,
    n_batch: int = 1,
    plan: Plan | None = None,
    *,
    protocol: str = "bfv",
) -> OfflineCosts:
    """Return what making the correlated randomness of one call costs, priced.

    Args:
        protocol: Name in `mpcprof.costmodel.offline.PROTOCOLS`.

    Raises:
        UsageError: If the profile's protocol has no offline phase, or no way of making
            one has that name.
        MissingEntryError: If the profile lacks an operation of the architecture.
    """
    steps = trace_model(architecture, n_batch, plan)
    return price_offline(count_randomness(profile, steps), protocol)


def _offline_line(row: OfflineRow) -> str:
    name: str = row.kind
    if row.kind == "matrix triple":
        name += " {}x{}x{}".format(*row.size)
    return (
        f"  {name:28} {row.width_bits:3} bits {row.count:14,.0f} "
        f"{format_bytes(row.total_bytes, digits=3):>9}"
    )


def _split(parts: Sequence[Part]) -> list[str]:
    total_s = sum(part.latency_s for part in parts) or 1.0
    slowest = sorted(parts, key=lambda part: -part.latency_s)
    lines = [
        f"  {part.name:24} {part.latency_s / total_s:6.1%} "
        f"{format_duration(part.latency_s, digits=3):>9} "
        f"{format_bytes(part.bytes_sent, digits=3):>9} {format_hops(part.hops):>8} hops"
        for part in slowest[:_SHOWN]
    ]
    rest = slowest[_SHOWN:]
    if rest:
        rest_s = sum(part.latency_s for part in rest)
        lines.append(f"  {len(rest)} more: {format_duration(rest_s, digits=3)}")
    return lines
