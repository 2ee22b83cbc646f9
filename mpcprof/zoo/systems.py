"""Published systems: what each puts in place of the parts of a Transformer layer.

A new one is one entry of `SYSTEMS`, of parts that `mpcprof.nn` has: see docs/zoo.md.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mpcprof.deployment import Deployment
from mpcprof.errors import UsageError, look_up
from mpcprof.nn.activation import get_activation
from mpcprof.nn.approximation import Accuracy
from mpcprof.nn.architecture import Architecture, Heads, LayerHeads, read_architecture
from mpcprof.nn.attention import get_attention
from mpcprof.nn.norm import get_norm
from mpcprof.nn.plan import Plan, read_plan
from mpcprof.nn.preset import ModelPreset

_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What a published system makes of a Transformer.

    Attributes:
        attention: Variant of every head, or of a share of all heads.
        other_attention: Variant of the other heads.
        attention_share: Share of all heads with `attention`.
        activation: Activation of every token, or of a share of each layer's tokens.
        other_activation: Activation of the other tokens.
        activation_share: Share of tokens with `activation`.
        norm: Norm of every layer.
        replaced: Functions that are not approximated but replaced, so that a network
            must be trained anew.
        source: Paper or program, with the place in it.
        differs: What is not as it was published.
        defects: What is wrong in the paper or its released program, each with its
            figure.
        network: File beside this one of a network that is not made of the parts above.
        plan: File beside this one of the plan by which the network is deployed.

    Raises:
        UsageError: If it has no source, or a share and its other part do not fit.
        UnknownNameError: If no part has such a name.
    """

    attention: str = "softmax"
    other_attention: str = ""
    attention_share: float = 1.0
    activation: str = "gelu_tanh"
    other_activation: str = ""
    activation_share: float = 1.0
    norm: str = "layernorm"
    replaced: tuple[str, ...] = ()
    source: str
    differs: str = ""
    defects: tuple[str, ...] = ()
    network: str = ""
    plan: str = ""

    def __post_init__(self) -> None:
        if not self.source.strip():
            raise UsageError("a system without a source: give its paper or program")
        for part in ("attention", "activation"):
            share = getattr(self, f"{part}_share")
            other = getattr(self, f"other_{part}")
            if not 0 <= share <= 1 or (share < 1) != bool(other):
                raise UsageError(
                    f"a system with {part}_share={share!r} and other_{part}={other!r}: "
                    "expected a share from 0 to 1, and another part if it is below 1"
                )
        for name in filter(None, (self.attention, self.other_attention)):
            get_attention(name)
        for name in filter(None, (self.activation, self.other_activation)):
            get_activation(name)
        get_norm(self.norm)

    def build(self, model: ModelPreset, heads: Heads = "batched") -> Architecture:
        """Return the network of these sizes.

        Two attentions are spread evenly over the layers; of two activations, the
        first tokens of each layer have the first one.

        Raises:
            UsageError: If the system is a network of another model.
        """
        if self.network:
            own = read_architecture(_FOLDER / self.network)
            _check_model(self.network, own.model.name, model.name)
            return replace(own, heads=heads)
        n_first = round(self.activation_share * model.n_tokens)
        n_other = model.n_tokens - n_first
        names = (self.activation,) * n_first + (self.other_activation,) * n_other
        return Architecture(
            model=model,
            heads=heads,
            attention=tuple(self._heads(model, i) for i in range(model.n_layers)),
            activation=(names if n_other else (self.activation,),) * model.n_layers,
            norm=(self.norm,) * model.n_layers,
        )

    def plan_of(
        self, architecture: Architecture, deployment: Deployment
    ) -> Plan | None:
        """Return the plan of the system's network; None for none.

        Raises:
            UsageError: If the plan is for another network or deployment.
        """
        if not self.plan:
            return None
        plan = read_plan(_FOLDER / self.plan)
        _check_model(self.plan, plan.model, architecture.model.name)
        plan.check_fits(architecture)
        made_for = plan.deployment
        if made_for and (difference := made_for.difference(deployment)):
            raise UsageError(
                f"the plan is for another deployment: {difference}; give a profile of "
                f"{made_for.protocol}, or leave this system out"
            )
        return replace(plan, heads=architecture.heads)

    def _heads(self, model: ModelPreset, layer: int) -> LayerHeads:
        """Return the heads of a layer: each layer gets a first one, then a second."""
        n_first = round(self.attention_share * model.n_layers * model.n_heads)
        return tuple(
            (self.attention,)
            if head * model.n_layers + layer < n_first
            else (self.other_attention,)
            for head in range(model.n_heads)
        )

    def lines(self, name: str) -> list[str]:
        """Return the parts of the system of that name, its source and its defects."""
        if self.network:
            return [f"{name}: {self.network}", f"  source: {self.source}"]
        attention = _of_two(
            self.attention, self.other_attention, self.attention_share, "heads"
        )
        activation = _of_two(
            self.activation, self.other_activation, self.activation_share, "tokens"
        )
        return [
            f"{name}: {attention}; {activation}; {self.norm}"
            f"{'; by a plan' * bool(self.plan)}",
            f"  source: {self.source}",
            *([f"  differs: {self.differs}"] if self.differs else ()),
            *(f"  wrong: {defect}" for defect in self.defects),
        ]

    def errors(self) -> dict[str, Accuracy]:
        """Return how far each part is from the exact function, by part."""
        if self.network or self.plan:
            return {}  # of ranges that the network's own tokens have
        found = {
            "attention": _attention_accuracy(self.attention),
            "other_attention": _attention_accuracy(self.other_attention),
            "norm": get_norm(self.norm).accuracy,
            "activation": _activation_accuracy(self.activation),
            "other_activation": _activation_accuracy(self.other_activation),
        }
        return {part: error for part, error in found.items() if error}


def _check_model(file: str, own: str, model: str) -> None:
    if own not in ("", model):
        raise UsageError(
            f"{file} is of model {own}, not {model}: give --model {own}, or leave this "
            "system out"
        )


def _attention_accuracy(name: str) -> Accuracy | None:
    """Return what an attention states; None if there is no such part."""
    return get_attention(name).accuracy if name else None


def _activation_accuracy(name: str) -> Accuracy | None:
    """Return how far an activation is from GeLU; None if it is not meant as one."""
    own = get_activation(name) if name else None
    if own is None or not (own.approximates or own.replaces):
        return None
    low, high = own.domain
    return Accuracy(of="GeLU", low=low, high=high, max_error=own.max_error)


def _of_two(first: str, other: str, share: float, what: str) -> str:
    if not other:
        return first
    return f"{first} in {share:.0%} of {what}, {other} in the others"


_MPCFORMER: Final = System(
    attention="2quad_shifted",
    activation="quad",
    replaced=("softmax", "GeLU"),
    source="MPCFormer, arXiv 2211.01452, section 3: Quad and 2Quad",
    differs="LayerNorm by SPU's rsqrt; 2Quad of s / 5, the same weights",
    defects=(
        "its timed Quad (src/benchmark/utils.py) swaps two coefficients of the trained "
        "one (activations.py): 0.25 from GeLU on -3..3 instead of 0.88, at equal cost",
        "its timed LayerNorm is a BatchNorm2d, which costs no root",
    ),
)
_MPCVIT: Final = System(
    attention="relu_softmax",
    other_attention="scale",
    attention_share=0.7,
    activation="gelu_tanh",
    replaced=("softmax",),
    source="MPCViT, arXiv 2211.13955, section 4, mu = 0.7: that share of heads RSAttn",
    differs="heads spread evenly, for the paper prints no placement; its code adds the "
    "MLP's output to the normed tokens, at equal cost",
    defects=(
        "MPCViT's Linformer baseline projects 65 tokens onto k = 77 (transformers.py)",
        "MPCViT's THE-X baseline has no activation between the three layers of T, then "
        "affine in the sum: at best 69 % off 1/x where sums span a factor of 20",
    ),
)

SYSTEMS: Final = {
    "exact": System(
        attention="softmax",
        activation="gelu_tanh",
        source="Transformer with SPU's own exp, maximum, reciprocal, rsqrt and tanh",
    ),
    "puma": System(
        attention="softmax_puma",
        activation="gelu_puma",
        source="PUMA, arXiv 2307.12533, section 4",
        differs="one comparison for all pieces of GeLU, and powers in pairs",
        defects=("its GeLU jumps by 0.016 at 3 and 0.007 at -1.95",),
    ),
    "mpcformer": _MPCFORMER,
    "mpcformer-unshifted": replace(
        _MPCFORMER,
        attention="2quad",
        source="MPCFormer as MPCViT's baseline has it (transformers.py): s^2 for "
        "(s + 5)^2",
        differs="epsilon of 2^-10 instead of 1e-5, which 18 fraction bits hold by 3",
        defects=(
            "without the shift a score of -s weighs as much as one of s: at s = 2 both "
            "weigh 4, where MPCFormer's weigh 9 and 49",
        ),
    ),
    "mpcformer-2relu": replace(
        _MPCFORMER,
        attention="relu_softmax",
        source="MPCFormer, arXiv 2211.01452, section 3: Quad and 2ReLU",
        differs="epsilon of 2^-10 instead of 1e-12, which no ring of 64 bits holds",
        defects=(
            *_MPCFORMER.defects,
            "its timed 2ReLU has no epsilon: a row without a positive score is 0 / 0",
        ),
    ),
    "the-x": System(
        attention="thex",
        activation="relu",
        norm="affine",
        replaced=("softmax", "GeLU", "LayerNorm"),
        source="THE-X, arXiv 2206.00216: ReLU, reciprocal by a network, gamma x + beta",
        differs="two parties instead of homomorphic encryption; sizes of the network "
        "as in MPCViT's code",
        defects=_MPCVIT.defects[1:],
    ),
    "secformer": System(
        attention="2quad_secformer",
        activation="gelu_secformer",
        norm="layernorm_secformer",
        replaced=("softmax",),
        source="SecFormer, arXiv 2401.00793, algorithms 1 to 3",
        differs="sines as a polynomial within 8e-5, for SPU has no shared sines; sums "
        "of 2Quad are deflated in their scores, by sqrt(5000); variances by 2048, "
        "because 18 fraction bits represent half of 1 / 2000 only to 0.7 %",
        defects=(
            "its GeLU (efficiency/utils.py) cuts at 2.5: off by 0.058 instead of 0.020",
            "its sines have period 20, reduced mod 2 pi: its GeLU is off by up to 3.9",
            "its Goldschmidt division has no eta, and diverges for sums above 2: a row "
            "of 2 equal scores of 0 has one of 50",
            "its inverse root has no eta, and diverges for variances above 3",
            "its PUMA baseline cuts at 1.95 for -1.95 and is 0 above 3: off by up to 6 "
            "on -6..6; its exp has the threshold 1e-14 for -14, and is 1 below it",
            "its exact GeLU is x erf(x / sqrt 2) / 2, without x / 2: off by 3 at 6",
            "eta = 5000 of the paper diverges at 512 tokens, whose sums are 12,800",
            "eta = 2000 of the paper is off by 1.7 % at a variance of 1, 23 % at 0.25",
        ),
    ),
    "bumblebee": System(
        attention="softmax_bumblebee",
        activation="gelu_bumblebee",
        source="BumbleBee, IACR ePrint 2023/1678, as released (activation.cc)",
        differs="one comparison for all pieces of GeLU; a ring of 64 bits throughout",
        defects=(
            "its paper's GeLU (four pieces, cuts at -5, -1.97, 3) is off by 0.033 at "
            "-5; the released one has three pieces and is off by 0.0053",
            "its paper cuts exp at -13, the program at -14",
        ),
    ),
    "nimbus": System(
        attention="softmax_nimbus",
        activation="gelu_nimbus",
        replaced=("GeLU",),
        source="Nimbus, arXiv 2411.15707, as released (nonlinear.py)",
        differs="products of the project's protocols, not Nimbus' own",
        defects=(
            "fitted to what BERT's layers see: e^0 is 0.971, GeLU is off by 0.170 at "
            "0.75, so that other networks must be tuned with it",
        ),
    ),
    "linformer": System(
        attention="linformer",
        activation="gelu_tanh",
        replaced=("softmax",),
        source="Linformer, arXiv 2006.04768, equation 7, rank a quarter of the tokens",
        defects=_MPCVIT.defects[:1],
    ),
    "mpcvit": _MPCVIT,
    "mpcvit+": replace(
        _MPCVIT,
        other_activation="identity_relu",
        activation_share=0.5,
        replaced=("softmax", "GeLU"),
        source="MPCViT+, arXiv 2211.13955, section 4.5, mu = 0.7",
        differs="half of the tokens linearised, for the paper prints a threshold "
        "alone; heads as in mpcvit",
        defects=(),
    ),
    "tuned": System(
        plan="tuned-cifar.json",
        source="the exact network, trained on CIFAR-10 and tuned: docs/tuning.md",
        differs="ranges are those of one checkpoint, which keeps 99.6 % of its labels",
    ),
    "found": System(
        network="found-cifar.json",
        replaced=("softmax", "GeLU", "LayerNorm"),
        source="mpcvit search --space free --budget 1.8s on CIFAR-10: 6 layers without "
        "MLP, shifts and convolutions behind a stem",
        differs="other layers and tokens than the model's, for images of its size",
    ),
}


def get_system(name: str) -> System:
    """Return the system of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    return look_up("system", name, SYSTEMS)
