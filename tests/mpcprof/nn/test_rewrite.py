"""Rewrites give the same numbers by fewer messages."""

import numpy as np
import pytest

from mpcprof.nn.rewrite import grouped, product_price, products_s
from mpcprof.nn.steps import Bare, CountingAlgebra, Step, without_local
from mpcprof.workloads.jax_algebra import JaxAlgebra

SIZES = [
    ((4, 3, 5, 3), "the diagonal"),
    ((4, 3, 1, 9), "the diagonal"),
    ((3, 2, 2, 40), "the left side"),
    ((3, 40, 2, 2), "the right side"),
]


@pytest.mark.parametrize(("size", "form"), SIZES)
@pytest.mark.parametrize("n_together", [2, 8])
@pytest.mark.parametrize("protocol", ["semi2k", "aby3"])
def test_grouped_products_are_those_of_the_batch(
    size: tuple[int, int, int, int], form: str, n_together: int, protocol: str
) -> None:
    g, p, q, r = size
    draw = np.random.default_rng(0)
    x, y = (
        draw.integers(-99, 99, s).astype(np.float32) for s in ((g, p, q), (g, q, r))
    )

    ops = grouped(JaxAlgebra(), n_together, product_price(protocol))

    np.testing.assert_array_equal(ops.matmul(x, y), x @ y)


def steps_of(size: tuple[int, int, int, int], n_together: int) -> list[Step]:
    g, p, q, r = size
    ops = CountingAlgebra()
    grouped(ops, n_together).matmul(Bare((g, p, q)), Bare((g, q, r)))
    return without_local(ops.steps)


def test_each_form_is_counted_as_one_product() -> None:
    assert steps_of((4, 65, 64, 65), 4) == [Step("matmul", (1, 260, 64, 260))]
    assert steps_of((3, 2, 2, 40), 3) == [Step("matmul", (1, 6, 6, 40))]
    assert steps_of((3, 40, 2, 2), 3) == [Step("matmul", (1, 40, 6, 6))]


def test_groups_that_do_not_fill_up_are_smaller() -> None:
    sizes = [step.size for step in steps_of((5, 8, 8, 8), 2)]

    assert sizes == [(1, 16, 8, 16), (1, 16, 8, 16), (1, 8, 8, 8)]


def test_groups_pay_until_their_bytes_cost_more_than_hops() -> None:
    few, many = (4, 65, 64, 65), (12, 257, 16, 257)

    assert min(range(1, 5), key=lambda n: products_s(few, n)) == 4
    assert min(range(1, 13), key=lambda n: products_s(many, n)) == 6


def test_cheetah_keeps_products_apart() -> None:
    price = product_price("cheetah")

    assert (
        min(range(1, 5), key=lambda n: products_s((4, 65, 64, 65), n, price=price)) == 1
    )
