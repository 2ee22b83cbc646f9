"""How a network is deployed: rewrites, approximations and SPU's options, by layer.

A plan is made for one network by `mpcvit tune`, stored beside its checkpoint, and read
by whatever predicts or runs it. `rewrites_only` makes one that changes no function.
"""

import functools
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from mpcprof.deployment import Deployment
from mpcprof.errors import UsageError
from mpcprof.files import convert_json, decode_json, replace_file
from mpcprof.network import NETWORKS, Network
from mpcprof.nn.activation import get_activation
from mpcprof.nn.approximation import InverseBounds, SoftmaxBounds
from mpcprof.nn.architecture import Architecture, Heads, LayerActivation, LayerHeads
from mpcprof.nn.attention import (
    RELU_SOFTMAXES,
    SOFTMAXES,
    Attention,
    get_attention,
    within_scores,
    within_totals,
)
from mpcprof.nn.mixing import MIXERS
from mpcprof.nn.preset import ModelPreset
from mpcprof.nn.rewrite import ProductPrice, product_price, products_s
from mpcprof.nn.steps import Bare, CountingAlgebra, Size

SCHEMA_VERSION: Final = 1  # of `plan.json`
_REMEDY: Final = "make one for this network with mpcvit tune"
REWRITES: Final = "rewrites"  # stands for a file where a command takes a plan


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPlan:
    """How one Transformer layer is deployed.

    Without bounds, a function is SPU's own.

    Attributes:
        norm1: Range of the sum of squares, plus epsilon, of tokens before attention.
        norm2: Range of the sum of squares, plus epsilon, of tokens before the MLP.
        norm1_multiple: Whole number that tokens are multiplied by before the first
            norm, which costs nothing and keeps the sum of squares near 1.
        norm2_multiple: Whole number that tokens are multiplied by before the second.
        softmax: Ranges of the scores, and of the sums, of heads with softmax.
        total: Range of the sums, plus epsilon, of heads with a ReLU softmax.
        activation: Activation instead of those that are not linear; "" for none.
        n_together: Number of heads' products, images counted, that are one product.

    Raises:
        UsageError: If a count is below 1, or no activation has that name.
    """

    norm1: InverseBounds | None = None
    norm2: InverseBounds | None = None
    norm1_multiple: int = 1
    norm2_multiple: int = 1
    softmax: SoftmaxBounds | None = None
    total: InverseBounds | None = None
    activation: str = ""
    n_together: int = 1

    def __post_init__(self) -> None:
        for name in ("norm1_multiple", "norm2_multiple", "n_together"):
            _check_count(name, getattr(self, name))
        if self.activation:
            get_activation(self.activation)

    def attention(self, name: str) -> Attention:
        """Return the variant of that name as it is deployed in the layer."""
        if self.softmax and name in SOFTMAXES:
            return within_scores(self.softmax)
        if self.total and name in RELU_SOFTMAXES:
            return within_totals(self.total, RELU_SOFTMAXES[name])
        return get_attention(name)

    def deployed_activation(self, names: LayerActivation) -> LayerActivation:
        """Return activations with the plan's own instead of those not linear."""
        if not self.activation:
            return names
        return tuple(
            name if get_activation(name).is_linear else self.activation
            for name in names
        )

    def norm(self, name: str) -> tuple[InverseBounds | None, int]:
        """Return the range and the multiple of `norm1` or `norm2`."""
        if name == "norm1":
            return self.norm1, self.norm1_multiple
        return self.norm2, self.norm2_multiple


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a network is deployed.

        >>> from mpcprof.nn.plan import Plan, LayerPlan
        >>> plan = Plan(layers=(LayerPlan(activation="relu"),))
        >>> Plan.from_json(plan.to_json()) == plan
        True

    Attributes:
        layers: One plan for each layer.
        last_norm: Range of the sum of squares, plus epsilon, before the classifier.
        last_norm_multiple: As `LayerPlan.norm1_multiple`.
        is_folded: Whether the weights' owner folds into the weights what is linear.
        stream_scale: Factor of the folded residual stream, which norms undo; 1 where
            other things than layernorms read it.
        is_pruned: Whether the last layer computes the first token alone, which is all
            that the classifier reads.
        heads: How heads run.
        model: Name of the model; "" for any.
        architecture: Digest of the architecture, see `architecture_digest`; "" for any.
        checkpoint: SHA-256 of the checkpoint's file, hexadecimal; "" for any.
        deployment: Deployment that it is chosen for; None for any.
        failure_rate: Expected failures of an inference that its owner accepts.

    Raises:
        UsageError: If a value is out of range.
    """

    layers: tuple[LayerPlan, ...]
    last_norm: InverseBounds | None = None
    last_norm_multiple: int = 1
    is_folded: bool = True
    stream_scale: float = 1.0
    is_pruned: bool = False
    heads: Heads = "batched"
    model: str = ""
    architecture: str = ""
    checkpoint: str = ""
    deployment: Deployment | None = None
    failure_rate: float = 0.0

    def __post_init__(self) -> None:
        _check_count("last_norm_multiple", self.last_norm_multiple)
        if not 0 < self.stream_scale < math.inf:
            raise UsageError(
                f"stream_scale={self.stream_scale}: expected a finite number above 0"
            )
        if not 0 <= self.failure_rate <= 1:
            raise UsageError(
                f"failure_rate={self.failure_rate}: expected failures of an inference "
                "from 0 to 1, such as 0.001"
            )
        if not self.is_folded:
            self._check_unfolded()

    def _check_unfolded(self) -> None:
        norms = [self.last_norm]
        for layer in self.layers:
            norms += [layer.norm1, layer.norm2, layer.total]
            norms += [layer.softmax.total if layer.softmax else None]
        if any(norms) or self.stream_scale != 1 or self.is_pruned:
            raise UsageError(
                "is_folded=false: expected true, since ranges, stream_scale and "
                "is_pruned are of the folded network"
            )

    @property
    def digest(self) -> str:
        """SHA-256 of the plan, hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def product_price(self) -> ProductPrice:
        """Price of a product in the protocol of the deployment."""
        return product_price(self.deployment.protocol if self.deployment else "")

    def check_model(self, model: ModelPreset) -> None:
        """Refuse a model of another name, or with another number of layers.

        Raises:
            UsageError: If it is such a one.
        """
        n_layers = len(self.layers)
        if self.model not in ("", model.name) or n_layers != model.n_layers:
            raise UsageError(
                f"the plan is for model {self.model or 'any'} of {n_layers} layers: "
                f"this is {model.name} of {model.n_layers}; {_REMEDY}"
            )

    def check_fits(self, architecture: Architecture) -> None:
        """Refuse an architecture that the plan was not made for.

        Raises:
            UsageError: If it is such a one.
        """
        model, remedy = architecture.model.name, _REMEDY
        self.check_model(architecture.model)
        if self.architecture not in ("", architecture_digest(architecture)):
            raise UsageError(
                f"the plan is for another architecture of model {model}, with other "
                f"attention, activations or sizes; {remedy}"
            )
        if self.is_pruned and not architecture.model.reads_one_token:
            raise UsageError(
                f"is_pruned=true: expected false for model {model}, which classifies "
                f"by the mean of all tokens; {remedy}"
            )
        if self.stream_scale != 1 and not architecture.is_centred:
            raise UsageError(
                f"stream_scale={self.stream_scale:g}: expected 1 for a network with "
                f"mixers, a stem or other norms than layernorm; {remedy}"
            )
        for number, layer in enumerate(self.layers):
            if layer.activation and architecture.is_fused(number):
                raise UsageError(
                    f"the plan has activation {layer.activation!r} in layer "
                    f"{number + 1}, whose MLP is linear; {remedy}"
                )

    def check_deployment(self, deployment: Deployment) -> None:
        """Refuse a deployment that the plan was not made for.

        Raises:
            UsageError: If it is such a one.
        """
        difference = self.deployment and self.deployment.difference(deployment)
        if difference:
            raise UsageError(
                f"the plan is for another deployment: {difference}; ask for the plan's "
                "own, by a profile of it, or make a plan for this one with mpcvit tune"
            )

    def apply(self, architecture: Architecture) -> Architecture:
        """Return the architecture as deployed: how heads run, and its activations.

        A pruned last layer has the attention and the activation of the class token.
        """
        pairs = zip(architecture.activation, self.layers, strict=True)
        attention = architecture.attention
        activation = tuple(own.deployed_activation(names) for names, own in pairs)
        if self.is_pruned:
            last = tuple(names[:1] for names in attention[-1])
            attention = (*attention[:-1], last)
            activation = (*activation[:-1], activation[-1][:1])
        return replace(
            architecture, heads=self.heads, attention=attention, activation=activation
        )

    def to_json(self) -> str:
        """Return the text of `plan.json`."""
        own = asdict(self, dict_factory=_without_false)
        values = {"schema_version": SCHEMA_VERSION, **own}
        if self.deployment:
            values["deployment"] = json.loads(self.deployment.to_json())
        return json.dumps(values, indent=1)

    @classmethod
    def from_json(cls, text: bytes | str, what: str = "plan") -> "Plan":
        """Read the plan that `to_json` wrote.

        Args:
            what: The file in words, for the message.

        Raises:
            UsageError: If it is none; the message names the key.
        """
        values = decode_json(text, dict, what=what)
        deployment = values.pop("deployment", None)
        found = convert_json(values, _PlanFile, what=what)
        try:
            made_for = deployment and Deployment.from_json(json.dumps(deployment))
        except UsageError as error:
            raise type(error)(f"{what}: {error}") from None
        plan = {field.name: getattr(found, field.name) for field in fields(cls)}
        return cls(**plan | {"deployment": made_for})


@dataclass(frozen=True, slots=True, kw_only=True)
class _PlanFile(Plan):
    """The keys of `plan.json`."""

    schema_version: Literal[1] = SCHEMA_VERSION


def unplanned(architecture: Architecture) -> Plan:
    """Return the plan that changes nothing."""
    layers = (LayerPlan(),) * architecture.n_layers
    return Plan(layers=layers, is_folded=False, heads=architecture.heads)


_MOST_TOGETHER: Final = 64  # the bytes of a group grow with its square


def rewrites_only(
    architecture: Architecture,
    n_batch: int = 1,
    *,
    deployment: Deployment | None = None,
    network: Network = NETWORKS["wan"],
) -> Plan:
    """Return the plan of every exact rewrite and no approximation.

        >>> vit = mpcprof.uniform_architecture(
        ...     mpcprof.get_model("cifar"), attention="scale"
        ... )
        >>> plan = rewrites_only(vit)
        >>> plan.layers[0].n_together, plan.is_folded
        (4, True)

    Heads' products are put together in groups of the size that waits least for the
    network. The residual stream that layernorms alone read is scaled by D^(-1/2): the
    sum of its squares is then the variance, and SPU's rsqrt as accurate for it as in
    the network without a plan.

    Args:
        n_batch: Images of a call, whose products count as those of heads do.
        deployment: Deployment that the plan is for; None for any, priced as semi2k.
    """
    model = architecture.model
    price = product_price(deployment.protocol if deployment else "")
    return Plan(
        layers=tuple(
            LayerPlan(n_together=_n_together(heads, model, n_batch, network, price))
            for heads in architecture.attention
        ),
        stream_scale=model.width**-0.5 if architecture.is_centred else 1.0,
        is_pruned=model.reads_one_token,
        model=model.name,
        architecture=architecture_digest(architecture),
        deployment=deployment,
    )


@functools.lru_cache(maxsize=256)
def _n_together(
    heads: LayerHeads,
    model: ModelPreset,
    n_batch: int,
    network: Network,
    price: ProductPrice,
) -> int:
    """Return the size of groups with which a layer waits least for the network."""
    sizes = [size for size in _products(heads, model, n_batch) if size[0] > 1]
    if not sizes:
        return 1
    most = min(max(size[0] for size in sizes), _MOST_TOGETHER)

    def waiting_s(n: int) -> float:
        return sum(products_s(size, n, network, price) for size in sizes)

    return min(range(1, most + 1), key=waiting_s)


def _products(heads: LayerHeads, model: ModelPreset, n_batch: int) -> Iterator[Size]:
    """Yield the sizes of the products of a layer's heads, batched by variant."""
    if heads[0][0] in MIXERS:
        return
    n_heads = Counter(names[0] for names in heads if len({*names}) == 1)
    mixed = [name for names in heads if len({*names}) > 1 for name in {*names}]
    for name, n in (*n_heads.items(), *((name, 1) for name in mixed)):
        variant, ops = get_attention(name), CountingAlgebra()
        x = Bare((n * n_batch, model.n_tokens, model.head_dim))
        own = map(Bare, variant.weight_shapes(model.n_tokens))
        variant.function(ops, x, x, x, *own, is_folded=True)
        yield from (step.size for step in ops.steps if step.operation == "matmul")


def choose_plan(
    asked: str | None,
    architecture: Architecture,
    n_batch: int = 1,
    *,
    deployment: Deployment,
    network: Network = NETWORKS["wan"],
    heads: Heads | None = None,
) -> Plan | None:
    """Return the plan that a person asked for, of a network and a deployment.

    Args:
        asked: File of a plan, or `rewrites`; None for no plan.
        heads: How heads run; None as the plan says.

    Raises:
        UsageError: If the plan cannot be read, or is for something else.
    """
    if asked is None:
        return None
    if asked == REWRITES:
        plan = rewrites_only(
            architecture, n_batch, deployment=deployment, network=network
        )
    else:
        plan = read_plan(Path(asked))
        try:
            plan.check_fits(architecture)
            plan.check_deployment(deployment)
        except UsageError as error:
            raise type(error)(f"{asked}: {error}") from None
    return replace(plan, heads=heads or plan.heads)


Planner: TypeAlias = Callable[[Architecture], Plan]


def choose_planner(
    asked: str | None,
    model: ModelPreset,
    n_batch: int = 1,
    *,
    deployment: Deployment,
    network: Network = NETWORKS["wan"],
) -> Planner | None:
    """Return what plans the networks of one model whose heads are still to be chosen.

    Every layer computes all tokens, so that layers cost the same; a file's plan holds
    for other attention and activations than its own network has.

    Args:
        asked: File of a plan, or `rewrites`; None for no plan.

    Raises:
        UsageError: If the plan cannot be read, or is for another model or deployment.
    """
    if asked is None:
        return None
    if asked == REWRITES:
        return lambda architecture: replace(
            rewrites_only(
                architecture, n_batch, deployment=deployment, network=network
            ),
            is_pruned=False,
        )
    plan = replace(read_plan(Path(asked)), is_pruned=False)
    try:
        plan.check_model(model)
        plan.check_deployment(deployment)
    except UsageError as error:
        raise type(error)(f"{asked}: {error}") from None
    return lambda architecture: plan


def plan_identity(asked: str | None) -> str:
    """Return what tells plans apart: `rewrites`, or a digest; "" for no plan.

    Raises:
        UsageError: If the plan cannot be read.
    """
    if asked in (None, "", REWRITES):
        return asked or ""
    return read_plan(Path(str(asked))).digest


def planned_model(asked: str | None) -> str:
    """Return the name of the model that a plan is for; "" for any.

    Raises:
        UsageError: If the plan cannot be read.
    """
    return "" if asked in (None, REWRITES) else read_plan(Path(str(asked))).model


def read_plan(path: Path) -> Plan:
    """Return the plan in a file.

    Raises:
        UsageError: If there is none, or it is damaged; the message names file and key.
    """
    what = f"cannot read plan {str(path)!r}"
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{what}: {error.strerror}; expected a file that mpcvit tune wrote"
        ) from None
    return Plan.from_json(text, what)


def write_plan(path: Path, plan: Plan) -> None:
    """Write the file, whole or not at all.

    Raises:
        FileError: If it cannot be written.
    """
    replace_file(path, plan.to_json())


def architecture_digest(architecture: Architecture) -> str:
    """Return 16 hexadecimal digits that tell architectures apart, but for `heads`."""
    text = replace(architecture, heads="serial").to_json()
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_false(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Leave out `is_damped` where it is false, as files older than it do."""
    return {key: value for key, value in pairs if (key, value) != ("is_damped", False)}


def _check_count(name: str, count: int) -> None:
    if count < 1:
        raise UsageError(f"{name}={count}: expected at least 1")
