"""Activations of the MLP. A new one is one entry of `ACTIVATIONS`.

Blocks, prices, torch networks, `architecture.json`, workloads and their tests follow
from the entry: see docs/adding-a-workload.md.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mpcprof.errors import look_up
from mpcprof.nn import gelu
from mpcprof.nn.algebra import Algebra, T


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationFold:
    """An activation as out_factor f(in_factor x + in_shift) + out_shift.

    The weights' owner folds the numbers into the linear layers around f.

    Attributes:
        function: (algebra, scaled and shifted hidden values) to f of them.
    """

    function: Callable[..., Any]  # Any: the algebra's own array
    in_factor: float = 1.0
    in_shift: float = 0.0
    out_factor: float = 1.0
    out_shift: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """A function of each hidden value of the MLP.

    Attributes:
        function: (algebra, hidden values) to as many activated values.
        source: Paper and equation.
        spu_error: Error that SPU adds to a hidden value of deviation 1, at 18 fraction
            bits; the tolerance of the MLP block is made of it.
        approximates: Name of the activation that this one stands in for.
        replaces: Name of the activation that a network had before it was trained anew
            with this one, which is no approximation of it.
        domain: Hidden values for which `max_error` is stated.
        max_error: Largest distance from the approximated or replaced function on the
            domain, in exact arithmetic.
        is_linear: Whether the two linear layers can be one.
        has_relu_behind: Whether a ReLU follows the second linear layer.
        fold: What the linear layers around it can take over; None for nothing.
    """

    function: Callable[..., Any]  # Any: the algebra's own array
    source: str
    spu_error: float = 8e-6  # two truncations
    approximates: str = ""
    replaces: str = ""
    domain: tuple[float, float] = (-8.0, 8.0)
    max_error: float = 0.0
    is_linear: bool = False
    has_relu_behind: bool = False
    fold: ActivationFold | None = None


def _quad(ops: Algebra[T], x: T) -> T:
    """0.125 x^2 + 0.25 x + 0.5 as 0.125 (x (x + 2)) + 0.5: one product, one scaling."""
    return ops.shift(ops.scale(ops.mul(x, ops.shift(x, 2.0)), 0.125), 0.5)


def _quad_linear(ops: Algebra[T], x: T) -> T:
    """0.125 x^2 + 0.5 x + 0.25 as 0.125 (x (x + 4)) + 0.25, as `_quad`."""
    return ops.shift(ops.scale(ops.mul(x, ops.shift(x, 4.0)), 0.125), 0.25)


ACTIVATIONS: Final = {
    "gelu_exact": Activation(
        function=lambda ops, x: ops.gelu_exact(x),
        source="GeLU by erf, Hendrycks and Gimpel 2016 (arXiv 1606.08415), section 2",
        spu_error=8e-4,
    ),
    "gelu_tanh": Activation(
        function=lambda ops, x: ops.gelu_tanh(x),
        source="GeLU by tanh, Hendrycks and Gimpel 2016 (arXiv 1606.08415), section 2",
        spu_error=2e-3,  # 1.4e-3 |x|, and 4e-3 where tanh bends
        approximates="gelu_exact",
        max_error=5e-4,
    ),
    # the project's own: fewest hops, fewest bytes, least error, and a known range
    "gelu_spline": Activation(
        function=gelu.spline,
        source="C0 spline of degree 2, knots at +-0.9 and +-2.6; 11 hops on semi2k",
        spu_error=2e-5,
        approximates="gelu_exact",
        max_error=0.0067,
    ),
    "gelu_clip4": Activation(
        function=gelu.clip4,
        source="polynomial of degree 4 of x clipped to +-2.2; 13 hops on semi2k",
        spu_error=2e-5,
        approximates="gelu_exact",
        max_error=0.0183,
    ),
    "gelu_abs4": Activation(
        function=gelu.abs4,
        source="polynomial of degree 4 of |x| clipped to 3.2; 13 hops on semi2k",
        spu_error=4e-5,
        approximates="gelu_exact",
        max_error=0.0017,
    ),
    "gelu_within_4": Activation(
        function=functools.partial(gelu.within, bound=4.0, n_doublings=2),
        source="x / 2 and a polynomial of degree 4 of x^2; 8 hops on semi2k",
        spu_error=4e-5,
        approximates="gelu_exact",
        domain=(-4.0, 4.0),
        max_error=0.0099,
    ),
    "gelu_within_8": Activation(
        function=functools.partial(gelu.within, bound=8.0, n_doublings=3),
        source="x / 2 and a polynomial of degree 8 of x^2; 10 hops on semi2k",
        spu_error=4e-5,
        approximates="gelu_exact",
        max_error=0.0107,
    ),
    # other systems'
    "gelu_puma": Activation(
        function=gelu.puma,
        source="PUMA, arXiv 2307.12533, section 4; jumps of 0.016 at 3, 0.007 at -1.95",
        spu_error=1e-4,
        approximates="gelu_exact",
        max_error=0.0200,
    ),
    "gelu_bumblebee": Activation(
        function=gelu.bumblebee,
        source="BumbleBee as released, activation.cc; jumps of 0.009 at +-3",
        spu_error=1e-4,
        approximates="gelu_exact",
        max_error=0.0053,
    ),
    "gelu_quick": Activation(
        function=gelu.quick,
        source="sigmoid form, Hendrycks and Gimpel 2016 (arXiv 1606.08415), section 2",
        spu_error=2e-3,
        approximates="gelu_exact",
        max_error=0.0204,
    ),
    "gelu_secformer": Activation(
        function=gelu.secformer,
        source="SecFormer's 7 sines, arXiv 2401.00793, algorithm 1, cut 1.7; jumps of "
        "0.026. Differs: its code cuts at 2.5; sines as a polynomial within 8e-5",
        spu_error=1e-4,
        approximates="gelu_exact",
        max_error=0.0196,
    ),
    "gelu_nimbus": Activation(
        function=gelu.nimbus,
        source="Nimbus, arXiv 2411.15707: degree 2, fitted to BERT's hidden values; "
        "jump of 0.30 at 0.5",
        spu_error=4e-5,
        replaces="gelu_exact",
        max_error=0.1701,
    ),
    "relu": Activation(
        function=lambda ops, x: ops.relu(x),
        source="MLP with ReLU, max(x, 0)",
        replaces="gelu_exact",
        max_error=0.1701,
    ),
    "quad": Activation(
        function=_quad,
        source="Quad, MPCFormer section 3",
        replaces="gelu_exact",
        domain=(-3.0, 3.0),
        max_error=0.8791,
        # 0.125 (x + 1)^2 + 0.375: one square
        fold=ActivationFold(
            function=lambda ops, x: ops.square(x),
            in_factor=0.125**0.5,
            in_shift=0.125**0.5,
            out_shift=0.375,
        ),
    ),
    "quad_linear": Activation(
        function=_quad_linear,
        source="Quad with a larger linear term, as MPCFormer's code times it",
        replaces="gelu_exact",
        domain=(-3.0, 3.0),
        max_error=0.2501,
        # 0.125 (x + 2)^2 - 0.25: one square
        fold=ActivationFold(
            function=lambda ops, x: ops.square(x),
            in_factor=0.125**0.5,
            in_shift=2 * 0.125**0.5,
            out_shift=-0.25,
        ),
    ),
    "identity": Activation(
        function=lambda ops, x: x,
        source="GeLU linearised, W1 W2 fused where all tokens are; MPCViT section 4.5",
        is_linear=True,
    ),
    "identity_relu": Activation(
        function=lambda ops, x: x,
        source="as identity, a ReLU behind; MPCViT section 4.5",
        is_linear=True,
        has_relu_behind=True,
    ),
}


def get_activation(name: str) -> Activation:
    """Return the activation of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    return look_up("activation", name, ACTIVATIONS)


def fold_of(names: Sequence[str]) -> ActivationFold | None:
    """Return the fold of a layer's activations; None if they differ, or have none."""
    return get_activation(names[0]).fold if len({*names}) == 1 else None
