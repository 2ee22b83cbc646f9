"""What each SPU option changes in semi2k: hops, bytes and largest error by workload.

    python benchmarks/spu_options.py [--only trunc] [--module]

Starts two parties for each entry of `mpcprof.spu_options` and prints the table of
docs/spu-options.md; with --module the lines of that module. Four minutes. Counts, by
--failures, truncations that fail where they often do, beside the formula.
"""

import click
import jax
import numpy as np

from mpcprof.cli import ShieldedCommand
from mpcprof.deployment import make_deployment
from mpcprof.dims import Dims
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.session import Session
from mpcprof.spu_options import (
    MEASURED_AT,
    SPU_OPTIONS,
    Effect,
    SpuOption,
    failure_probability,
    failure_size,
)
from mpcprof.workloads.registry import Workload, get_workload
from mpcprof.workloads.user import make_user_workload

COUNTED = (  # protocol, ring, fraction bits, size of the product
    ("semi2k", 64, 18, 2.0**20),
    ("semi2k", 64, 18, -(2.0**24)),
    ("semi2k", 64, 14, 2.0**28),
    ("semi2k", 64, 22, -(2.0**12)),
    ("semi2k", 128, 26, 2.0**68),
    ("aby3", 64, 18, 2.0**25),
    ("cheetah", 64, 18, 2.0**25),
)


@click.command(cls=ShieldedCommand)
@click.option("--only", default="", help="Entries with this text in their names.")
@click.option("--module", "is_module", is_flag=True, help="Lines of the module.")
@click.option("--failures", "n_products", type=int, default=0, help="Count these.")
def main(only: str, is_module: bool, n_products: int) -> None:
    """Measure every entry whose name holds --only, or count failures."""
    if n_products:
        for protocol, field_bits, fraction_bits, size in COUNTED:
            deployment = make_deployment(
                protocol,
                field_bits=field_bits,
                fraction_bits=fraction_bits,
                options=["trunc_allow_msb_error=true"],
            )
            with Session(deployment, RelayEmulation()) as session:
                click.echo(count_failures(session, size, n_products))
        return
    header = ["option", *MEASURED_AT]
    if not is_module:
        click.echo(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for option in SPU_OPTIONS:
        if only in str(option):
            row = module_lines if is_module else markdown_row
            with Session(option.deployment(), RelayEmulation()) as session:
                click.echo(row(option, measure_option(session)))


def measure_option(session: Session) -> list[Effect]:
    """Return the effect of an option on each workload, by parties that have it."""
    return [
        measure_effect(session, find_workload(name, dims), dims)
        for name, dims in MEASURED_AT.items()
    ]


def find_workload(name: str, dims: Dims) -> Workload:
    """Return the workload of that name; softmax alone is none of the registry's."""
    if name != "softmax":
        return get_workload(name)
    shape = (dims.n_heads, dims.n_tokens, dims.n_tokens)
    return make_user_workload(jax.nn.softmax, (shape,), name=name, domain=((-4, 4),))


def measure_effect(session: Session, workload: Workload, dims: Dims) -> Effect:
    """Call a workload once, and compare it with float64."""
    given = dims if workload.dim_names else Dims()
    inputs = workload.make_inputs(given, np.random.default_rng(0))
    session.load("case", session.lower("case", workload.function, inputs), inputs)
    run = session.run("case").runs[0]
    error = np.max(np.abs(session.fetch("case") - workload.reference(*inputs)))
    session.unload("case")
    return Effect(
        hops=run.send_actions or 0,
        bytes_sent=run.bytes_sent or 0,
        max_error=float(f"{error:.2g}"),
    )


def markdown_row(option: SpuOption, effects: list[Effect]) -> str:
    """Return a line of the table of docs/spu-options.md."""
    cells = [f"{e.hops}, {e.bytes_sent / 1e6:.4g}, {e.max_error:g}" for e in effects]
    return f"| {option} | {' | '.join(cells)} |"


def module_lines(option: SpuOption, effects: list[Effect]) -> str:
    """Return the lines of `mpcprof.spu_options`."""
    cells = [f"{e.hops} {e.bytes_sent} {e.max_error:g}" for e in effects]
    return f"{option}\n    {'; '.join(cells[:4])};\n    {'; '.join(cells[4:])}"


def count_failures(session: Session, size: float, n_products: int) -> str:
    """Return how many of so many products of one size come out wrong."""
    deployment = session.deployment
    x = np.full(n_products, 2.0 ** (np.log2(abs(size)) // 2), np.float32)
    inputs = [x, np.full(n_products, size / x[0], np.float32)]
    session.load("case", session.lower("case", lambda x, y: x * y, inputs), inputs)
    session.run("case")
    errors = np.abs(session.fetch("case") - size)
    session.unload("case")
    wrong = errors[errors > 0.5 * failure_size(deployment)]
    formula = n_products * failure_probability(deployment, abs(size))
    return (
        f"{deployment}, x = {size:g}: {len(wrong)} of {n_products} wrong, formula "
        f"{formula:.1f}; off by {sorted({f'{e:g}' for e in np.round(wrong, -1)})}, "
        f"formula {failure_size(deployment):g}"
    )


if __name__ == "__main__":
    main()
