"""Rewrites: the same function, written so that the parties exchange fewer messages.

SPU runs a batched product as one product per entry of the batch, each with its own
hops. `GroupedAlgebra` puts several into one product, at the price of bytes.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, cast

from mpcprof.network import NETWORKS, Network
from mpcprof.nn.algebra import Algebra, T
from mpcprof.nn.steps import Size
from mpcprof.pricing import price_s


class ProductPrice(NamedTuple):
    """What one product of (P, Q) and (Q, R) costs in a protocol.

    Attributes:
        side_bytes: Bytes that a party sends for each entry of (P, Q) and (Q, R).
        result_bytes: Bytes that it sends for each entry of (P, R).
        hops: Hops, those of the truncation included.
    """

    side_bytes: float
    result_bytes: float
    hops: int


# measured with a 64-bit ring; another ring changes both numbers by one factor
_PRICES: Final = {
    "semi2k": ProductPrice(side_bytes=8, result_bytes=4, hops=2),
    "aby3": ProductPrice(side_bytes=0, result_bytes=14, hops=3),
    # of homomorphic products the time counts: as the bytes that `wan` carries in it
    "cheetah": ProductPrice(side_bytes=800, result_bytes=1000, hops=4),
}


def product_price(protocol: str) -> ProductPrice:
    """Return the price of a protocol, that of semi2k if no other is known."""
    return _PRICES.get(protocol, _PRICES["semi2k"])


class ProductForm(NamedTuple):
    """A way to put g products of (P, Q) and (Q, R) into one.

    Attributes:
        sides: Factors of P Q and Q R: entries of the sides of the one product.
        result: Factor of P R.
        apply: (algebra, x, y) of (g, P, Q) and (g, Q, R) to (g, P, R).
    """

    sides: tuple[int, int]
    result: int
    apply: Callable[[Any, Any, Any], Any]  # Any: the algebra's own array

    def bytes_sent(self, price: ProductPrice, p: int, q: int, r: int) -> float:
        """Return the bytes that a party sends."""
        sides = self.sides[0] * p * q + self.sides[1] * q * r
        return price.side_bytes * sides + price.result_bytes * self.result * p * r


def product_forms(g: int) -> tuple[ProductForm, ...]:
    """Return the ways to put g products into one."""
    return (
        ProductForm(sides=(g, g), result=g * g, apply=_keep_diagonal),
        ProductForm(sides=(g * g, g), result=g, apply=_spread_left),
        ProductForm(sides=(g, g * g), result=g, apply=_spread_right),
    )


def _keep_diagonal(ops: Algebra[T], x: T, y: T) -> T:
    """Multiply each x by each y, and keep the pairs that belong together."""
    g, p, q = x.shape
    r = y.shape[-1]
    product = ops.matmul(ops.reshape(x, (g * p, q)), _side_by_side(ops, y))
    blocks = [
        ops.cut(ops.cut(product, 0, i * p, (i + 1) * p), 1, i * r, (i + 1) * r)
        for i in range(g)
    ]
    return ops.reshape(ops.join(blocks, 0), (g, p, r))


def _spread_left(ops: Algebra[T], x: T, y: T) -> T:
    """Multiply the x as a block-diagonal matrix by the y below each other."""
    g, p, q = x.shape
    r = y.shape[-1]
    product = ops.matmul(_block_diagonal(ops, x), ops.reshape(y, (g * q, r)))
    return ops.reshape(product, (g, p, r))


def _spread_right(ops: Algebra[T], x: T, y: T) -> T:
    """Multiply the x side by side by the y as a block-diagonal matrix."""
    g, p, _ = x.shape
    r = y.shape[-1]
    product = ops.matmul(_side_by_side(ops, x), _block_diagonal(ops, y))
    return ops.swap(ops.reshape(product, (p, g, r)))


def _side_by_side(ops: Algebra[T], x: T) -> T:
    g, p, q = x.shape
    return ops.reshape(ops.swap(x), (p, g * q))


def _block_diagonal(ops: Algebra[T], x: T) -> T:
    """Put matrices of (g, P, Q) on the diagonal of (g P, g Q), zeros elsewhere."""
    g, p, q = x.shape
    beside = []
    for i in range(g):
        block = ops.reshape(ops.cut(x, 0, i, i + 1), (p, q))
        zero = ops.subtract(block, block)  # local, where a constant would be encoded
        beside.append(ops.join([*[zero] * i, block, *[zero] * (g - 1 - i)], 1))
    return ops.join(beside, 0)


def _cheapest_form(g: int, p: int, q: int, r: int, price: ProductPrice) -> ProductForm:
    return min(product_forms(g), key=lambda form: form.bytes_sent(price, p, q, r))


@dataclass(frozen=True, slots=True)
class _Grouped(Generic[T]):
    """See `grouped`."""

    ops: Algebra[T]
    n_together: int
    price: ProductPrice

    def __getattr__(self, name: str) -> Any:  # Any: a method of the algebra
        return getattr(self.ops, name)

    def matmul(self, x: T, y: T) -> T:
        """Multiply in groups, each by the form that sends the fewest bytes."""
        if len(x.shape) != 3 or x.shape[0] == 1 or self.n_together == 1:
            return self.ops.matmul(x, y)
        done = [self._product(*pair) for pair in self._groups(x, y)]
        return done[0] if len(done) == 1 else self.ops.join(done, 0)

    def _groups(self, x: T, y: T) -> Iterator[tuple[T, T]]:
        n_products, n = x.shape[0], self.n_together
        if n >= n_products:
            yield x, y
            return
        for start in range(0, n_products, n):
            stop = min(start + n, n_products)
            yield self.ops.cut(x, 0, start, stop), self.ops.cut(y, 0, start, stop)

    def _product(self, x: T, y: T) -> T:
        g, p, q = x.shape
        if g == 1:
            return self.ops.matmul(x, y)
        form = _cheapest_form(g, p, q, y.shape[-1], self.price)
        product: T = form.apply(self.ops, x, y)
        return product


def grouped(
    ops: Algebra[T], n_together: int, price: ProductPrice = _PRICES["semi2k"]
) -> Algebra[T]:
    """Return the algebra with `n_together` products of a batch in one.

    Products of (G, P, Q) and (G, Q, R) become G / n_together products, exactly equal:
    the sides are stacked and the diagonal blocks kept, or one side is a block-diagonal
    matrix, whichever sends fewer bytes. All else passes through.
    """
    if n_together == 1:
        return ops
    return cast(Algebra[T], _Grouped(ops, n_together, price))


def products_s(
    size: Size,
    n_together: int,
    network: Network = NETWORKS["wan"],
    price: ProductPrice = _PRICES["semi2k"],
) -> float:
    """Return the seconds that G products of (P, Q) and (Q, R) wait for the network.

    Args:
        size: (G, P, Q, R).
    """
    n_products, p, q, r = size
    n_groups = math.ceil(n_products / n_together)
    form = _cheapest_form(min(n_together, n_products), p, q, r, price)
    bytes_sent = n_groups * form.bytes_sent(price, p, q, r)
    return price_s(network, hops=n_groups * price.hops, wire_bytes=bytes_sent)
