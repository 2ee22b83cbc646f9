"""The algebra in the fixed point of SPU's ring: a private inference without parties.

Numbers are multiples of 2**-f in float64 tensors, so that products use BLAS. A product
has 2 f fraction bits: float64 holds it exactly below 2**(53 - 2 f), 131,072 at 18 bits.
From there to the end of a ring of 64 bits it is off by less than 2**-7 of the last bit
that the truncation leaves; in a ring of 128 bits with 26 bits, by up to one such bit.
"""
# ruff: noqa: D102 - the methods are documented in `Algebra` and `SpuFunctions`

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mpcprof.builds import DEFAULT_BUILD
from mpcprof.deployment import Deployment
from mpcprof.errors import UsageError
from mpcprof.nn.algebra import Matrix, Shape
from mpcprof.nn.architecture import Architecture
from mpcprof.nn.folding import fold_weights
from mpcprof.nn.plan import Plan
from mpcprof.nn.transformer import vit
from mpcvit.secure.spu_functions import FunctionOptions, SpuFunctions

Logits: TypeAlias = NDArray[np.float64]
Rounding: TypeAlias = Literal["random", "nearest", "down"]
ROUNDINGS: Final = ("random", "nearest", "down")
_MOST_IMAGES: Final = 50  # at a time
_MOST_SCORES: Final = 4_000_000  # of a layer, at a time: 32 MB
_LOG2E: Final = math.log2(math.e)
_EXP2: Final = (
    *(1.00000007744302, 0.693147180426163, 0.240226510710170),
    *(0.0555040686204663, 0.00961834122588046, 0.00133273035928143),
)
# Drawn uniformly; measured
_NOISE: Final = {"semi2k": (0.0, 1.0), "aby3": (0.0, 1.0), "cheetah": (-1.0, 1.0)}


def truncation_noise(protocol: str, *, is_local: bool = False) -> tuple[float, float]:
    """Return the ends of what a truncation adds before it rounds down, in last bits.

    Args:
        is_local: Whether each party truncates its own share, and nobody sends anything.

    Raises:
        UsageError: If a protocol's truncation is not known.
    """
    if protocol not in _NOISE:
        raise UsageError(
            f"protocol {protocol!r}: expected one whose truncation is known, "
            f"{', '.join(_NOISE)}"
        )
    return (-1.0, 0.0) if is_local else _NOISE[protocol]


def encode_number(number: float, fraction_bits: int) -> float:
    """Round a public float32 towards 0 to a multiple of 2**-fraction_bits, as SPU does.

    >>> encode_number(-0.3, 2)
    -0.25
    """
    units = 2.0**fraction_bits
    return math.trunc(float(np.float32(number)) * units) / units


class FixedPointAlgebra(SpuFunctions[Tensor]):
    """See `mpcprof.nn.algebra.Algebra`; on float64 tensors that are multiples of 2**-f.

    A truncation of SPU drops the last f bits of each share of a product; what is
    dropped may carry or not. So a number between two multiples comes out as one of
    them, the upper one with the probability of its distance from the lower one; Cheetah
    takes one bit off in half of all cases. If the last bits of a public factor are 0,
    the upper one is likelier: twice a number is always one bit too large.

    What a private inference would compute wrongly is counted by the part in which it
    happens, and computed as wrongly: `overflow`, a product that leaves the ring; `lost
    wrap`, a local truncation that is off by a part of the ring; `division`, `rsqrt` and
    `exp`, where SPU's functions end; `out of range`, where a plan's ranges end.

    Attributes:
        failures: Entries by (part, what happened).
        expected_failures: Mean number of entries that a lost wrap would ruin.
    """

    def __init__(
        self,
        fraction_bits: int = 18,
        field_bits: int = 64,
        seed: int = 0,
        *,
        protocol: str = "semi2k",
        rounding: Rounding = "random",
        functions: FunctionOptions | None = None,
        is_truncation_local: bool = False,
    ) -> None:
        """Draw truncations from the seed.

        Args:
            rounding: How a truncation rounds: at random as SPU does, or always to the
                nearest multiple, or down.
            is_truncation_local: SPU's `trunc_allow_msb_error`, which aby3 and cheetah
                do not follow.

        Raises:
            UsageError: If the protocol or the rounding is not known.
        """
        super().__init__(fraction_bits, functions or FunctionOptions())
        if rounding not in ROUNDINGS:
            raise UsageError(f"rounding {rounding!r}: expected {', '.join(ROUNDINGS)}")
        self.field_bits = field_bits
        self.rounding = rounding
        self.failures: Counter[tuple[str, str]] = Counter()
        self.expected_failures = 0.0
        self._is_local = is_truncation_local and protocol == "semi2k"
        self._noise = truncation_noise(protocol, is_local=self._is_local)
        self._random = np.random.Generator(np.random.SFC64(seed))
        self._parts: list[str] = []

    @classmethod
    def of(
        cls, deployment: Deployment, seed: int = 0, rounding: Rounding = "random"
    ) -> "FixedPointAlgebra":
        """Emulate parties of that deployment.

        Raises:
            UsageError: If it computes in a way that is not known here.
        """
        if not deployment.build.is_default:
            raise UsageError(
                f"runtime {deployment.runtime}: expected {DEFAULT_BUILD.name}, whose "
                "fixed point the emulation knows"
            )
        own = dict(deployment.runtime_options)
        return cls(
            deployment.fraction_bits,
            deployment.field_bits,
            seed,
            protocol=deployment.protocol,
            rounding=rounding,
            functions=FunctionOptions.of(own),
            is_truncation_local=bool(own.get("trunc_allow_msb_error", False)),
        )

    @property
    def n_overflows(self) -> int:
        """Number of products that left the ring."""
        return sum(n for (_, what), n in self.failures.items() if what == "overflow")

    def encode(self, array: ArrayLike | Tensor) -> Tensor:
        """Round float32 numbers towards 0 to multiples of 2**-f, as SPU shares them."""
        values = torch.as_tensor(array).to(torch.float32).to(torch.float64)
        return torch.trunc(values * self._units).mul_(1 / self._units)

    def decode(self, x: Tensor) -> Tensor:
        """Return the numbers in float32, as SPU reveals them."""
        return x.to(torch.float32)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._parts.append(name)
        try:
            yield
        finally:
            self._parts.pop()

    @property
    def _units(self) -> float:
        return 2.0**self.fraction_bits

    # ------------------------------------------------------------ truncation

    def _truncate(
        self,
        product: Tensor,
        step: Tensor | float | None = None,
        n_bits: int | None = None,
    ) -> Tensor:
        """Round a tensor of ours, in place, to multiples of 2**-f.

        Args:
            step: Distance of possible products in units of 2**-f; by default that of
                products of two secrets, 2**-f.
            n_bits: Number of bits to take away; by default f.
        """
        units = self._wrap(product).mul_(self._units)
        if self.rounding == "nearest":
            units.round_()
        elif self.rounding == "down":
            units.floor_()
        else:
            low, high = self._noise
            middle = (low + high) / 2 + (1 / self._units if step is None else step)
            units.add_(self._draw_words(units), alpha=(high - low) / 2**32)
            units.add_(middle).floor_()
        rounded = units.mul_(1 / self._units)
        return self._lose_wraps(rounded, n_bits) if self._is_local else rounded

    def _lose_wraps(self, x: Tensor, n_bits: int | None) -> Tensor:
        """Let shares wrap that each party truncates for itself.

        At 18 of 64 bits an entry x is off by 2**28 with probability |x| 2**-28: 93 of
        400,000 entries of 2**16 on parties, where that says 98.

        Source: Mohassel and Zhang 2017 (SecureML), theorem 1, of which this is exact.
        """
        bits = self.fraction_bits
        ring = 2.0 ** (self.field_bits - bits - (n_bits or bits))
        probability = x.abs() / ring
        self.expected_failures += float(probability.sum())
        is_lost = self._happens(probability)
        self._count("lost wrap", is_lost)
        return torch.where(is_lost, x - ring * x.sign(), x)

    def _draw_words(self, like: Tensor) -> Tensor:
        """Draw int32 in the shape of a tensor: half the work of drawing float64."""
        n = like.numel()
        words = self._random.integers(0, 2**64, (n + 1) // 2, dtype=np.uint64)
        return torch.from_numpy(words.view(np.int32)[:n]).view(like.shape)

    def _draw(self, like: Tensor) -> Tensor:
        """Draw numbers from [0, 1) in the shape of a tensor."""
        return self._draw_words(like).to(torch.float64) / 2**32 + 0.5

    def _happens(self, probability: Tensor) -> Tensor:
        """Draw whether each happens, as seldom as its probability says.

        Of 2**32 cells of [0, 1) the one in which a probability ends is drawn again.
        """
        ends = probability * 2**32
        cells = self._draw_words(probability).to(torch.float64) + 2**31
        happens = cells < torch.floor(ends)
        is_open = cells == torch.floor(ends)
        if bool(is_open.any()):
            rest = (ends - cells)[is_open]
            happens[is_open] = torch.from_numpy(self._random.random(len(rest))) < rest
        return happens

    def _wrap(self, product: Tensor) -> Tensor:
        """Let what leaves the ring come in at the other end, and count it."""
        end = 2.0 ** (self.field_bits - 2 - 2 * self.fraction_bits)
        if not product.numel():
            return product
        low, high = torch.aminmax(product)
        if bool(low >= -end and high < end):
            return product
        is_outside = (product < -end) | (product >= end)
        self._count("overflow", is_outside)
        ring = 4 * end
        wrapped = product - ring * torch.floor(product / ring + 0.5)
        # from a quarter of the ring on the truncation may take a share's wrap for
        # another: the closer to the end, the likelier, up to one half
        if self._is_local:
            return wrapped
        is_lost = self._happens((wrapped.abs() - end) / (2 * end))
        return torch.where(is_lost, wrapped - ring * wrapped.sign(), wrapped)

    def _count(self, what: str, is_so: Tensor) -> None:
        n = int(is_so.sum())
        if n:
            self.failures["/".join(self._parts), what] += n

    def _encode_public(self, numbers: Sequence[float]) -> tuple[list[float], float]:
        """Encode public factors; return the distance of possible products as well."""
        encoded = [encode_number(number, self.fraction_bits) for number in numbers]
        common = math.gcd(*(round(abs(number) * self._units) for number in encoded))
        step = float(common & -common) / self._units
        return encoded, min(step, 1.0) if common else 1.0

    # ------------------------------------------------------------ products

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        return self._truncate(torch.matmul(x, y))

    def mul(self, x: Tensor, y: Tensor) -> Tensor:
        return self._truncate(x * y)

    def scale(self, x: Tensor, factor: float) -> Tensor:
        (encoded,), step = self._encode_public([factor])
        return self._truncate(x * encoded, step)

    def combine(self, x: Tensor, matrix: Matrix) -> Tensor:
        columns = [self._encode_public(column) for column in zip(*matrix, strict=True)]
        public = torch.tensor([column for column, _ in columns], dtype=torch.float64)
        steps = torch.tensor([step for _, step in columns], dtype=torch.float64)
        return self._truncate(torch.matmul(x, public.T), steps)

    def divide_by_power(self, x: Tensor, n_bits: int) -> Tensor:
        return self._truncate(x * 2.0**-n_bits, 2.0**-n_bits, n_bits)

    def times(self, x: Tensor, whole: int) -> Tensor:
        return x * whole

    def weigh(self, terms: Sequence[Tensor], factors: Sequence[float]) -> Tensor:
        encoded, step = self._encode_public(factors)
        total = terms[0] * encoded[0]
        for term, factor in zip(terms[1:], encoded[1:], strict=True):
            total.add_(term, alpha=factor)
        return self._truncate(total, step)

    # ------------------------------------------------------------ ends of functions

    def exp(self, x: Tensor) -> Tensor:
        if self.functions.exp_mode == "EXP_PADE":
            return self._exp_by_bits(x)
        if self.functions.exp_mode == "EXP_PRIME":
            return self._exp_by_shares(x)
        self._count("exp", x < -(2.0 ** (self.functions.exp_steps + 1)))
        return super().exp(x)

    def _exp_by_bits(self, x: Tensor) -> Tensor:
        """2**floor(y) p(y - floor(y)), y = x log2 e; five bits of the exponent.

        A negative exponent is taken plus 32, and the power divided by 2**32.
        """
        end = encode_number(32 / _LOG2E, self.fraction_bits)
        exponent = self.scale(torch.clamp(x, -end, end), _LOG2E)
        whole = torch.floor(exponent)
        rest = exponent - whole
        powers = [rest]
        for _ in _EXP2[2:]:
            powers.append(self.mul(rest, powers[-1]))
        fraction = self.shift(self.weigh(powers, _EXP2[1:]), _EXP2[0])
        power = fraction * torch.exp2(torch.remainder(whole, 32))
        return torch.where(exponent < 0, self.divide_by_power(power, 32), power)

    def _exp_by_shares(self, x: Tensor) -> Tensor:
        """2**(y0 + y1) for random shares y0, y1 of x log2 e, each in float32.

        Below -11.78 at 26 bits and offset 13 SPU cuts x, or the result is garbage.

        Source: libspu/mpc/semi2k/exp.cc.
        """
        own = self.functions
        least = (48 - own.prime_offset - 2 * self.fraction_bits) / _LOG2E
        if own.is_prime_cut:
            x = torch.clamp(x, min=encode_number(least, self.fraction_bits))
        else:
            self._count("exp", x < least)
            x = torch.where(x < least, torch.nan, x)
        exponent = x * (round(_LOG2E * 2**24) / 2**24)
        first = self._draw(x)  # the fraction of a share
        second = exponent - first
        whole = torch.floor(second)
        units = self._units
        factors = [
            (torch.exp2(part) * units).to(torch.float32).to(torch.float64)
            for part in (first, second - whole)
        ]
        return self._truncate(factors[0] * factors[1] * torch.exp2(whole) / units**2)

    def reciprocal(self, x: Tensor) -> Tensor:
        self._check_divisor(x)
        return super().reciprocal(x)

    def divide(self, x: Tensor, y: Tensor) -> Tensor:
        self._check_divisor(y)
        return super().divide(x, y)

    def _check_divisor(self, x: Tensor) -> None:
        self._count("division", (x == 0) | (x.abs() >= self._units))

    def rsqrt(self, x: Tensor) -> Tensor:
        self._count("rsqrt", (x <= 0) | (x >= self._units / 2))
        return super().rsqrt(x)

    # ------------------------------------------------------------ comparisons

    def choose(self, test: Tensor, x: Tensor, y: Tensor | float) -> Tensor:
        return torch.where(test > 0, x, y)

    def relu(self, x: Tensor) -> Tensor:
        return torch.clamp(x, min=0.0)

    def gate(self, x: Tensor, y: Tensor) -> Tensor:
        return self.choose(x, y, 0.0)

    def row_max(self, x: Tensor) -> Tensor:
        return torch.amax(x, dim=-1, keepdim=True)

    def expect_within(self, x: Tensor, low: float, high: float) -> Tensor:
        self._count("out of range", (x < low) | (x > high))
        return x

    def by_top_bit(self, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        _, exponent = torch.frexp(x * self._units)  # 2**(exponent - 1) <= x
        return function(torch.where(x > 0, exponent - 1, -1))

    def exact(self, values: Tensor) -> Tensor:
        return values

    # ------------------------------------------------------------ local

    def row_sum(self, x: Tensor) -> Tensor:
        return torch.sum(x, dim=-1, keepdim=True)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    def subtract(self, x: Tensor, y: Tensor) -> Tensor:
        return x - y

    def shift(self, x: Tensor, constant: float) -> Tensor:
        return x + encode_number(constant, self.fraction_bits)

    def transpose(self, x: Tensor) -> Tensor:
        return x.transpose(-1, -2)

    def swap(self, x: Tensor) -> Tensor:
        return x.transpose(-2, -3)

    def reshape(self, x: Tensor, shape: Shape) -> Tensor:
        return torch.reshape(x, shape)

    def cut(self, x: Tensor, axis: int, start: int, stop: int) -> Tensor:
        return x.narrow(axis, start, stop - start)

    def join(self, arrays: Sequence[Tensor], axis: int) -> Tensor:
        return torch.cat([*arrays], axis)


def one_by_one(plan: Plan) -> Plan:
    """Return the plan with heads one product each, which changes no result."""
    layers = tuple(replace(layer, n_together=1) for layer in plan.layers)
    return replace(plan, layers=layers)


@torch.no_grad()
def emulate_network(
    deployment: Deployment,
    architecture: Architecture,
    plan: Plan | None,
    weights: Mapping[str, ArrayLike],
    patches: Tensor,
    *,
    failures: Counter[tuple[str, str]],
    seed: int = 0,
) -> Iterator[Logits]:
    """Yield the logits of private inferences, some images at a time.

    Each chunk has its own seed, so that stopping early changes no other.

    Args:
        weights: Weights of the checkpoint, which the plan folds.
        patches: Normalised patches (n, N - 1, P).
        failures: Is added what went wrong, by (part, what happened).

    Raises:
        UsageError: If a party of that deployment computes in a way not known here.
    """
    wide = {name: np.asarray(weight, np.float64) for name, weight in weights.items()}
    shared = fold_weights(architecture, plan, wide) if plan else wide
    plan = one_by_one(plan) if plan else None
    model = architecture.model
    n_scores = model.n_heads * model.n_tokens**2  # of an image
    n_images = max(1, min(_MOST_IMAGES, _MOST_SCORES // n_scores))
    for number, chunk in enumerate(torch.split(patches, n_images)):
        ops = FixedPointAlgebra.of(deployment, seed + number)
        secrets = {name: ops.encode(weight) for name, weight in shared.items()}
        logits = vit(ops, architecture, ops.encode(chunk), secrets, plan)
        failures.update(ops.failures)
        yield np.asarray(ops.decode(logits).numpy(), np.float64)
