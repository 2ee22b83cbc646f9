"""Every approximation of `mpcprof.nn` beside SPU's own functions: error, hops, bytes.

    python benchmarks/approximations.py [--parties]

Prints the table of docs/approximations.md: largest errors in float64, hops and bytes as
predicted. With `--parties` also the errors of parties on semi2k (64 bits, 18 of them
fraction), whose hops and bytes must be those predicted; a minute.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr

from mpcprof.cli import ShieldedCommand
from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.deployment import make_deployment
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.session import Session
from mpcprof.errors import EngineError
from mpcprof.network import NETWORKS
from mpcprof.nn.activation import ACTIVATIONS
from mpcprof.nn.approximation import (
    InverseBounds,
    SoftmaxBounds,
    bounded_inverse,
    bounded_softmax,
    choose_inverse,
    goldschmidt_inverse,
)
from mpcprof.nn.attention import get_attention
from mpcprof.nn.rows import puma_exp
from mpcprof.nn.steps import Bare, CountingAlgebra
from mpcprof.profile.io import read_profile
from mpcprof.workloads.jax_algebra import JaxAlgebra
from mpcvit.models.algebra import OPS

TOKENS, WIDTH, HEAD_DIM, N_VALUES = 65, 256, 64, 4096


class Entry(NamedTuple):
    """One line: (algebra, *inputs) to what should be `exact`; bytes are by value."""

    name: str
    domain: str
    function: Callable[..., Any]  # Any: the algebra's own arrays
    inputs: Sequence[NDArray[np.float64]]
    exact: NDArray[np.float64]
    n_values: int = N_VALUES
    scale: NDArray[np.float64] | float = 1.0  # of errors

    def error(self, result: NDArray[np.float64]) -> str:
        """Return the largest error of a result; in float64, 0 is up to 1e-9."""
        return f"{np.max(np.abs(result - self.exact) / self.scale).clip(1e-9):.1e}"


def elementwise() -> Iterator[Entry]:
    """Yield GeLUs on their domains, then exp and inverses, SPU's own and others."""
    for name, own in ACTIVATIONS.items():
        if name == "relu" or "gelu" in name:
            x = np.linspace(*own.domain, N_VALUES)[:, None]
            yield Entry(name, "", own.function, [x], x * ndtr(x))
    x = np.linspace(-14, 0, N_VALUES)[:, None]
    yield Entry("exp, SPU", "", lambda ops, x: ops.exp(x), [x], np.exp(x))
    yield Entry("exp, PUMA", "", puma_exp, [x], np.exp(x))
    yield _inverse("1/x, SPU", lambda ops, x: ops.reciprocal(x), -1.0, 100)
    yield _inverse("x^-1/2, SPU", lambda ops, x: ops.rsqrt(x), -0.5, 100)
    for power, name, n in ((-1.0, "1/x", 9), (-0.5, "x^-1/2", 7)):
        for bounds, ratio in {
            choose_inverse(0.999 * ratio**-0.5, 1.001 * ratio**0.5, power, error): ratio
            for ratio, error in itertools.product((20, 100, 300, 1000), (1e-2, 1e-3))
        }.items():
            how = f"degree {bounds.degree}" + " and Newton" * bounds.n_steps
            function = partial(bounded_inverse, bounds=bounds, power=power)
            yield _inverse(f"{name}, {how}", function, power, ratio)
        function = partial(goldschmidt_inverse, power=power, divisor=6.0, n_steps=n)
        yield _inverse(f"{name}, Goldschmidt, {n} steps", function, power, 100)


def _inverse(name: str, function: Any, power: float, ratio: int) -> Entry:
    x = np.geomspace(ratio**-0.5, ratio**0.5, N_VALUES)[:, None]
    return Entry(name, "", function, [x], x**power, scale=x**power)


def norms() -> Iterator[Entry]:
    """Yield norms of 65 folded tokens, of mean 0."""
    for ratio, error in ((20, 1e-3), (20, 1e-5), (100, 1e-4), (300, 1e-3)):
        exact = np.random.default_rng(0).normal(size=(TOKENS, WIDTH))
        exact /= np.sqrt((exact**2).mean(axis=1, keepdims=True))
        x = exact * np.geomspace(1 / ratio, 1, TOKENS)[:, None] ** 0.5
        bounds = choose_inverse(0.99 * WIDTH / ratio, 1.01 * WIDTH, -0.5, error)
        name, own = f"layernorm, degree {bounds.degree}", partial(_norm, bounds=bounds)
        yield Entry(name, f"variance {1 / ratio:.2g} to 1", own, [x], exact, x.size)


def _norm(ops: Any, x: Any, bounds: InverseBounds) -> Any:  # Any: the algebra's own
    total = ops.row_sum(ops.square(x))
    return ops.mul(x, bounded_inverse(ops, total, bounds, -0.5, WIDTH**0.5))


def softmaxes() -> Iterator[Entry]:
    """Yield softmax of one head, with both of its products, and SPU's."""
    for end, n in ((6, 3), (6, 2), (4, 2), (2, 1)):
        q, k, v = np.random.default_rng(0).normal(size=(3, 1, TOKENS, HEAD_DIM))
        q *= 0.999 * end / np.abs(q @ k.swapaxes(1, 2)).max()
        weights = np.exp(q @ k.swapaxes(1, 2))
        total = weights.sum(axis=2, keepdims=True)
        sums = choose_inverse(0.99 * total.min(), 1.01 * total.max(), -1.0, 1e-3)
        bounds = SoftmaxBounds(low=-end, high=end, n_squarings=n, total=sums)
        name, rest = f"softmax, n_squarings {n}", (weights / total @ v, weights.size)
        domain = f"scores within {end}, sums {total.min():.0f} to {total.max():.0f}"
        inputs = [q * bounds.score_factor**0.5, k * bounds.score_factor**0.5, v]
        function = partial(bounded_softmax, bounds=bounds)
        yield Entry(name, domain, function, inputs, *rest)
        for own in ("softmax", "softmax_puma") if n == 3 else ():
            spu = partial(get_attention(own).function, is_folded=True)
            yield Entry(f"{own}, SPU", domain, spu, [q, k, v], *rest)


def table_line(entry: Entry, model: CostModel, session: Session | None) -> str:
    """Return the line of one entry; parties must count what the model predicts."""
    counting = CountingAlgebra()
    entry.function(counting, *(Bare(x.shape) for x in entry.inputs))
    cost = model.predict(counting.steps, NETWORKS["wan"])
    errors = entry.error(entry.function(OPS, *map(torch.tensor, entry.inputs)).numpy())
    errors += " | "
    if session:
        inputs = [x.astype(np.float32) for x in entry.inputs]
        function = partial(entry.function, JaxAlgebra())
        session.load("case", session.lower("case", function, inputs), inputs)
        run = session.run("case").runs[0]
        errors += entry.error(session.fetch("case"))
        session.unload("case")
        if (run.send_actions, run.bytes_sent) != (cost.hops, cost.bytes_sent):
            raise EngineError(f"{entry.name}: {run} is not {cost}")
    low, high = entry.inputs[0].min(), entry.inputs[0].max()
    by_value = f"{cost.hops:.0f} | {cost.bytes_sent / entry.n_values:.1f}"
    cells = (entry.name, entry.domain or f"{low:.3g} to {high:.3g}", errors, by_value)
    return f"| {' | '.join(cells)} |"


@click.command(cls=ShieldedCommand)
@click.option("--parties", "has_parties", is_flag=True, help="Ask parties, too.")
def main(has_parties: bool) -> None:
    """Print error, hops and bytes a value of each approximation."""
    model = fit_cost_model(read_profile(Path("profiles/semi2k.parquet")))
    click.echo("| approximation | domain | error | by parties | hops | bytes |")
    click.echo("|---" * 6 + "|")
    parties = Session(make_deployment("semi2k"), RelayEmulation())
    with parties if has_parties else nullcontext() as session:
        for entry in itertools.chain(elementwise(), norms(), softmaxes()):
            click.echo(table_line(entry, model, session))


if __name__ == "__main__":
    main()
