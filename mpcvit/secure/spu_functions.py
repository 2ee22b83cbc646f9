"""The functions of SPU 0.9.5 as SPU composes them of products and truncations.

They are written over few ring operations, so that one text is both run on numbers
and followed by a bound. Constants are those of SPU's sources; a difference from the
mathematical function (exp, tanh, erf) is SPU's own.

Source: SPU, libspu/kernel/hal/fxp_base.cc and fxp_approx.cc.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeAlias

import torch
from torch import Tensor

from mpcprof.nn.algebra import T

_ERF: Final = (1.0, 0.278393, 0.230389, 0.000972, 0.078108)
_RSQRT: Final = (0.0, -15.47994394, 38.4714796, -49.86605845, 26.02942339)
_RSQRT_COARSE: Final = (0.0, -5.9417, 4.7979)
# degree 17 on [-5, 5]
_TANH: Final = (
    *(1.2514045938932097, -0.3655987797163166, 0.17253141478140663),
    *(-0.08943445792774211, 0.047703017901250824, -0.025830290571688078),
    *(0.014338801903468182, -0.008541730970059077, 0.0061230685785789475),
)


ExpMode: TypeAlias = Literal["EXP_TAYLOR", "EXP_PADE", "EXP_PRIME"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionOptions:
    """SPU's runtime options that change what its functions compute.

    Attributes:
        exp_mode: Form of the exponential, SPU's `fxp_exp_mode`.
        exp_steps: Squarings of the exponential, SPU's `fxp_exp_iters`.
        prime_offset: SPU's `experimental_exp_prime_offset`.
        is_prime_cut: Whether EXP_PRIME cuts x below, where it would be garbage.
        division_steps: Goldschmidt steps, SPU's `fxp_div_goldschmidt_iters`.
        has_coarse_rsqrt: SPU's `enable_lower_accuracy_rsqrt`.
    """

    exp_mode: ExpMode = "EXP_TAYLOR"
    exp_steps: int = 8
    prime_offset: int = 0
    is_prime_cut: bool = True
    division_steps: int = 2
    has_coarse_rsqrt: bool = False

    @classmethod
    def of(cls, runtime_options: Mapping[str, object]) -> "FunctionOptions":
        """Read SPU's runtime options; the others change no number."""
        names = {
            "fxp_exp_mode": "exp_mode",
            "fxp_exp_iters": "exp_steps",
            "experimental_exp_prime_offset": "prime_offset",
            "fxp_div_goldschmidt_iters": "division_steps",
            "enable_lower_accuracy_rsqrt": "has_coarse_rsqrt",
        }
        own: dict[str, Any] = {  # Any: as SPU types them
            names[name]: value
            for name, value in runtime_options.items()
            if name in names and value != "EXP_DEFAULT"
        }
        is_cut = not runtime_options.get("experimental_exp_prime_disable_lower_bound")
        return cls(**own, is_prime_cut=is_cut)


class SpuFunctions(ABC, Generic[T]):
    """SPU's functions over the ring operations of a subclass.

    A public number is rounded towards 0 to `fraction_bits` bits, as SPU encodes it.
    """

    def __init__(self, fraction_bits: int, functions: FunctionOptions) -> None:
        self.fraction_bits = fraction_bits
        self.functions = functions

    @abstractmethod
    def mul(self, x: T, y: T) -> T:
        """Multiply each pair of entries and truncate."""

    @abstractmethod
    def scale(self, x: T, factor: float) -> T:
        """Multiply by a public number and truncate."""

    @abstractmethod
    def divide_by_power(self, x: T, n_bits: int) -> T:
        """Truncate away the last bits: x / 2**n_bits."""

    @abstractmethod
    def times(self, x: T, whole: int) -> T:
        """Multiply by a public whole number, which needs no truncation."""

    @abstractmethod
    def weigh(self, terms: Sequence[T], factors: Sequence[float]) -> T:
        """Sum terms times public factors, with one truncation."""

    @abstractmethod
    def add(self, x: T, y: T) -> T:
        """Sum of each pair of entries."""

    @abstractmethod
    def subtract(self, x: T, y: T) -> T:
        """Difference of each pair of entries."""

    @abstractmethod
    def shift(self, x: T, constant: float) -> T:
        """Sum with a public number."""

    @abstractmethod
    def choose(self, test: T, x: T, y: T | float) -> T:
        """Take x where test > 0, else y."""

    @abstractmethod
    def by_top_bit(self, x: T, function: Callable[[Tensor], T]) -> T:
        """Apply a function to the place m of the top bit of each x.

        2**m <= x < 2**(m + 1) in units of the last bit; -1 stands for x <= 0.
        """

    @abstractmethod
    def exact(self, values: Tensor) -> T:
        """Make secrets of numbers that are known without an error."""

    def negate(self, x: T) -> T:
        """-x of each entry."""
        return self.times(x, -1)

    def exp(self, x: T) -> T:
        """(1 + x / 2**n)**(2**n)."""
        power = self.shift(self.divide_by_power(x, self.functions.exp_steps), 1.0)
        for _ in range(self.functions.exp_steps):
            power = self.square(power)
        return power

    def square(self, x: T) -> T:
        """Each entry times itself."""
        return self.mul(x, x)

    def reciprocal(self, x: T) -> T:
        """1/x by Goldschmidt; 0 from |x| = 2**fraction_bits on, and at 0."""
        positive = self._abs(x)

        def invert(top_bit: Tensor) -> T:
            factor = self._inverse_power(top_bit)
            return self.mul(self._inverse_of_norm(positive, factor), factor)

        inverse = self.by_top_bit(positive, invert)
        return self.choose(self.negate(x), self.negate(inverse), inverse)

    def divide(self, x: T, y: T) -> T:
        """x/y: the dividend comes between the last two products of 1/y."""
        positive = self._abs(y)

        def invert(top_bit: Tensor) -> T:
            factor = self._inverse_power(top_bit)
            inverse = self._inverse_of_norm(positive, factor)
            return self.mul(self.mul(inverse, x), factor)

        quotient = self.by_top_bit(positive, invert)
        return self.choose(self.negate(y), self.negate(quotient), quotient)

    def _abs(self, x: T) -> T:
        return self.choose(self.negate(x), self.negate(x), x)

    def _inverse_power(self, top_bit: Tensor) -> T:
        """2**-(m + 1) for x in [2**m, 2**(m + 1)), both in real numbers."""
        bits = self.fraction_bits
        return self._power(bits - 1 - top_bit, (top_bit >= 0) & (top_bit < 2 * bits))

    def _power(self, exponent: Tensor, is_there: Tensor, times: float = 1.0) -> T:
        power = times * torch.exp2(exponent.to(torch.float64))
        return self.exact(torch.where(is_there, power, 0.0))

    def _inverse_of_norm(self, x: T, factor: T) -> T:
        """1/c of c = x factor in [0.5, 1), from 2.9142 - 2 c."""
        norm = self.mul(x, factor)
        inverse = self.shift(self.times(norm, -2), 2.9142)
        error = self.shift(self.negate(self.mul(norm, inverse)), 1.0)
        n_steps = self.functions.division_steps
        if self.fraction_bits >= 30:
            n_steps = max(n_steps, 3)
        for step in range(n_steps):
            inverse = self.mul(inverse, self.shift(error, 1.0))
            if step + 1 < n_steps:
                error = self.square(error)
        return inverse

    def rsqrt(self, x: T) -> T:
        """x**-0.5 by a polynomial on [0.25, 0.5); 0 from 2**(fraction_bits - 1) on."""

        def invert(top_bit: Tensor) -> T:
            bits = self.fraction_bits
            is_there = (top_bit >= 0) & (top_bit + 1 < 2 * bits)
            factor = self._power(bits - 2 - top_bit, is_there)
            norm = self.mul(x, factor)  # [0.25, 0.5)
            coarse = self.functions.has_coarse_rsqrt
            root = self.shift(
                self._polynomial(norm, _RSQRT_COARSE if coarse else _RSQRT),
                3.1855 if coarse else 4.14285016,
            )
            return self.mul(root, self._half_power(top_bit + 1))

        return self.by_top_bit(x, invert)

    def _half_power(self, top_bit: Tensor) -> T:
        """2**(-(e + 1) / 2) for a top bit at e + f; sqrt 2 is a whole number here."""
        bits = self.fraction_bits
        half = bits // 2
        root = math.floor(2.0 ** (half + bits % 2) * math.sqrt(2.0))
        whole = 2 ** ((bits + 3) // 2) if bits % 2 else 2**half
        even, odd = (whole, root) if bits % 2 else (root, whole)
        place = torch.div(top_bit, 2, rounding_mode="floor")
        is_there = (top_bit >= 1) & (place < 2 * half)
        factor = torch.where(top_bit % 2 == 0, float(even), float(odd))
        power = torch.exp2((2 * half - 1 - bits - place).to(torch.float64))
        return self.exact(torch.where(is_there, factor * power, 0.0))

    def _polynomial(self, x: T, coefficients: Sequence[float]) -> T:
        """Sum c_i x**i; powers by doubling, one truncation of the sum."""
        powers = [x]
        degree = len(coefficients) - 1
        while len(powers) < degree:
            n_more = min(len(powers), degree - len(powers))
            top = powers[-1]
            powers += [self.mul(power, top) for power in powers[:n_more]]
        weighed = self.weigh(powers, coefficients[1:])
        return self.shift(weighed, coefficients[0]) if coefficients[0] else weighed

    def tanh(self, x: T) -> T:
        """Odd Chebyshev polynomial of degree 17 of x cut to [-5, 5]."""
        lifted = self.choose(self.negate(self.shift(x, 5.0)), self._all(x, -5.0), x)
        below = self.shift(self.negate(lifted), 5.0)
        cut = self.choose(below, lifted, 5.0)
        norm = self.scale(cut, 0.2)
        twice = self.shift(self.times(self.square(norm), 4), -2.0)
        terms = [norm, self.mul(norm, self.shift(twice, -1.0))]
        for _ in _TANH[2:]:
            terms.append(self.subtract(self.mul(twice, terms[-1]), terms[-2]))
        return self.weigh(terms, _TANH)

    def _all(self, x: T, constant: float) -> T:
        return self.shift(self.times(x, 0), constant)

    def erf(self, x: T) -> T:
        """1 - p(|x|)**-4 up to |x| = 3, then 1; with the sign of x."""
        size = self._abs(x)
        is_small = self.shift(self.negate(size), 3.0)
        # beyond 3 SPU computes it too, and drops it
        small = self.choose(is_small, size, 0.0)
        power = self.square(self.square(self._polynomial(small, _ERF)))

        def invert(top_bit: Tensor) -> T:
            factor = self._inverse_power(top_bit)
            return self.mul(self._inverse_of_norm(power, factor), factor)

        inner = self.shift(self.negate(self.by_top_bit(power, invert)), 1.0)
        value = self.choose(is_small, inner, 1.0)
        return self.choose(self.negate(x), self.negate(value), value)

    def gelu_exact(self, x: T) -> T:
        """x (1 + erf(x / sqrt 2)) / 2."""
        inner = self.erf(self.scale(x, math.sqrt(0.5)))
        return self.mul(self.scale(x, 0.5), self.shift(inner, 1.0))

    def gelu_tanh(self, x: T) -> T:
        """x (1 + tanh(sqrt(2/pi) (x + 0.044715 x**3))) / 2."""
        cubed = self.scale(self.mul(self.square(x), x), 0.044715)
        inner = self.tanh(self.scale(self.add(x, cubed), math.sqrt(2 / math.pi)))
        return self.mul(self.scale(x, 0.5), self.shift(inner, 1.0))
