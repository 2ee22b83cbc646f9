"""Random functions of `jax.numpy` from a grammar, each with its truth by numpy.

A function is a text over `xp`, which stands for `jax.numpy` or `numpy`, and over the
inputs `a` and `b`. What the two modules do not share stands in `JAX` and `NUMPY`.
"""

import functools
import re
from dataclasses import dataclass
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, log_softmax, ndtr

JAX = SimpleNamespace(
    rsqrt=jax.lax.rsqrt,
    sigmoid=jax.nn.sigmoid,
    softmax=jax.nn.softmax,
    log_softmax=jax.nn.log_softmax,
    gelu=functools.partial(jax.nn.gelu, approximate=True),
    erf=jax.lax.erf,
)
NUMPY = SimpleNamespace(
    rsqrt=lambda x: np.power(x, -0.5),
    sigmoid=expit,
    softmax=lambda x: np.exp(log_softmax(x, axis=-1)),
    log_softmax=lambda x: log_softmax(x, axis=-1),
    gelu=lambda x: x * expit(np.sqrt(8 / np.pi) * (x + 0.044715 * x**3)),
    erf=lambda x: 2 * ndtr(x * np.sqrt(2)) - 1,
)

UNARY = (
    *(
        "(-{})",
        "xp.abs({})",
        "xp.square({})",
        "xp.exp({})",
        "xp.log({})",
        "xp.log1p({})",
    ),
    *("xp.sqrt({})", "own.rsqrt({})", "(1 / {})", "xp.tanh({})", "own.sigmoid({})"),
    *("xp.maximum({}, 0)", "xp.sin({})", "xp.cos({})", "xp.sign({})", "xp.floor({})"),
    *("own.gelu({})", "own.erf({})", "xp.expm1({})", "({} ** 3)", "({} / 7)"),
    *("xp.clip({}, -0.5, 0.5)", "xp.logaddexp({}, 0)", "xp.where({0} > 0.3, {0}, -1)"),
    *("({} + 1)", "(3 - {})", "({} * 1000)", "({} * 100000)", "({} * 0.001)"),
    *("(0.0002 * {})", "xp.power({}, 1.5)", "xp.round({})", "(({} > 0.25) * 1.0)"),
)
BINARY = (
    *("({} + {})", "({} - {})", "({} * {})", "({} / {})", "xp.maximum({}, {})"),
    *("xp.minimum({}, {})", "xp.where({0} < {1}, {0}, {1} * 2)", "(({} > {}) * 1.0)"),
    *("(({} == {}) * 1.0)", "xp.hypot({}, {})", "xp.power(xp.abs({}) + 0.1, {})"),
    *(
        "xp.concatenate([{}.ravel(), {}.ravel()])",
        "xp.outer({}, {})",
        "xp.dot({}, {}.T)",
    ),
    *("xp.einsum('...i,...i->...', {}, {})", "xp.stack([{}, {}])"),
)
REDUCTIONS = (
    *("xp.sum({}, axis=-1)", "xp.mean({})", "xp.max({}, axis=-1)", "xp.min({})"),
    *("xp.prod({}, axis=-1)", "xp.var({}, axis=-1)", "xp.std({}, axis=-1)"),
    *("xp.argmax({}, axis=-1)", "xp.cumsum({}, axis=-1)", "xp.linalg.norm({})"),
    *("own.softmax({})", "own.log_softmax({})", "xp.sort({}, axis=-1)"),
    *("xp.median({}, axis=-1)", "(xp.any({} > 0.5, axis=-1) * 1.0)"),
    *("({0} - xp.mean({0}, axis=-1, keepdims=True))", "xp.argsort({}, axis=-1)"),
)
SHAPES = (
    *("{}.T", "{}.ravel()", "xp.flip({}, axis=-1)", "{}[::2]", "{}[..., 1:]", "{}[0]"),
    *("xp.tile({}, 2)", "xp.roll({}, 1)", "xp.pad({}, 1)", "{}[None]", "xp.diff({})"),
)
# binary operations stand twice for their number
RULES = (*UNARY, *BINARY, *BINARY, *REDUCTIONS, *SHAPES)
DOMAINS = (
    *(
        (-1, 1),
        (-1, 1),
        (0, 1),
        (0.5, 4),
        (-8, 8),
        (1, 3),
        (0.001, 0.002),
        (-0.01, 0.01),
    ),
    *((100, 1000), (2e5, 1e6), (0.01, 2e5), (-30, -5), (2e4, 3e4)),
)


@dataclass(frozen=True)
class RandomFunction:
    """A function of secret arrays.

    Attributes:
        text: Its expression.
    """

    seed: int
    text: str
    shapes: tuple[tuple[int, ...], ...]
    domain: tuple[tuple[float, float], ...]

    def __call__(self, *inputs):
        return self._run(jnp, JAX, inputs)

    def draw(self, rng):
        """Draw inputs from the domain."""
        pairs = zip(self.domain, self.shapes, strict=True)
        return [rng.uniform(*interval, shape) for interval, shape in pairs]

    def truth(self, *inputs):
        """Return the result in float64, by numpy alone."""
        wide = [np.asarray(x, np.float64) for x in inputs]
        with np.errstate(all="ignore"):
            return np.asarray(self._run(np, NUMPY, wide), np.float64)

    def _run(self, xp, own, inputs):
        names = dict(zip("ab", inputs, strict=False))
        return eval(self.text, {"xp": xp, "own": own, **names})  # ours


def draw_function(seed):
    """Return the random function of a seed: one to four rules deep."""
    rng = np.random.default_rng([15, seed])
    shape = tuple(int(n) for n in rng.integers(2, 6, rng.integers(1, 3)))
    domain = tuple(DOMAINS[i] for i in rng.integers(len(DOMAINS), size=2))
    while True:
        text = _grow(rng, int(rng.integers(1, 5)))
        n_inputs = 2 if "b" in _names(text) else 1
        function = RandomFunction(seed, text, (shape,) * n_inputs, domain[:n_inputs])
        if _has_result(function):
            return function


def _grow(rng, depth):
    if depth == 0:
        return str(rng.choice(["a", "a", "b"]))
    rule = str(rng.choice(RULES))
    return rule.format(_grow(rng, depth - 1), _grow(rng, int(rng.integers(depth))))


def _names(text):
    return {*re.findall(r"\b[ab]\b", text)}


def _has_result(function):
    """Tell whether shapes fit, the inputs matter and something comes out."""
    if "a" not in _names(function.text):
        return False
    try:
        result = function.truth(*(np.ones(shape) for shape in function.shapes))
    except (ValueError, IndexError, AttributeError, TypeError):
        return False
    return 0 < result.size <= 200
