"""CrypTen beside SPU: primitives, attentions and GeLUs, measured and refused.

    mpcprof runtime install crypten
    python benchmarks/crypten_beside_spu.py [--workload NAME ...] [--network NETWORK]
    python benchmarks/crypten_beside_spu.py --show

Measures every workload by two CrypTen parties over the TUN emulation into --output;
stopped, the same command goes on where it was. Beside each stand the hops and seconds
of SPU 0.9.5 in semi2k by its profile. What CrypTen gets wrong has its error in the
table, and no seconds (with --mode priced a busy machine tells it as well). Sizes are
those of a layer of the CIFAR network. All rows so far go to a file beside --output,
which --show prints.
"""

import json
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from mpcprof.cli import ShieldedCommand
from mpcprof.cli.options import FILE, json_option, mode_option, network_option
from mpcprof.cli.progress import progress_bar, resumable, spu_prints_to_stderr
from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.dims import Dims
from mpcprof.engine.measure import Case
from mpcprof.files import replace_file
from mpcprof.network import Network
from mpcprof.nn.catalogue import trace_block
from mpcprof.profile.io import read_profile
from mpcprof.profile.record import Record
from mpcprof.sweep.config import make_config
from mpcprof.sweep.run import SweepResult, sweep
from mpcprof.units import format_bytes, format_duration
from mpcprof.workloads import blocks, primitives  # noqa: F401 - register them
from mpcprof.workloads.registry import get_workload

HOPS_PER_ROUND: Final = 4  # of gloo's all_reduce between two parties
SIZES: Final = {"n_heads": 4, "n_tokens": 65, "head_dim": 64}
SIZES_OF_ROWS: Final = {"n_tokens": 65, "width": 256, "hidden": 512}
WORKLOADS: Final = (
    *("mul", "square", "matmul", "relu", "max", "exp", "reciprocal", "rsqrt"),
    *("sigmoid", "tanh", "gelu_tanh", "gelu_exact"),
    *("attn.softmax", "attn.softmax_puma", "attn.relu_softmax", "attn.scale"),
    *("attn.2quad", "attn.2quad_shifted", "attn.2quad_secformer"),
    *("mlp.relu", "mlp.gelu_tanh", "mlp.gelu_exact", "mlp.gelu_puma"),
    *("mlp.gelu_bumblebee", "mlp.gelu_secformer", "mlp.quad"),
    *("layernorm", "layernorm_secformer"),
)
HEADER: Final = (
    *("workload", "rounds", "hops", "sent", "latency", "error"),
    *("SPU hops", "SPU sent", "SPU latency", "times"),
)
RULE: Final = ("---",) * len(HEADER)
_OFF_BY: Final = re.compile(r"off by up to (\S+),")


class Row(NamedTuple):
    """A workload; None where CrypTen is wrong. Bytes are those of one party."""

    workload: str
    hops: float | None
    bytes_sent: float | None
    latency_s: float | None
    error: float | None
    spu_hops: float
    spu_bytes_sent: float
    spu_latency_s: float

    def cells(self) -> tuple[str, ...]:
        """Return the row as text."""
        own: tuple[str, ...] = ("-", "-", "-", "refused")
        times = "-"
        if self.latency_s and self.hops is not None and self.bytes_sent is not None:
            own = (
                *(f"{self.hops / HOPS_PER_ROUND:g}", f"{self.hops:g}"),
                format_bytes(self.bytes_sent, digits=3),
                format_duration(self.latency_s, digits=3),
            )
            times = f"{self.latency_s / self.spu_latency_s:.2g}"
        return (
            *(self.workload, *own, "?" if self.error is None else f"{self.error:.2g}"),
            *(f"{self.spu_hops:g}", format_bytes(self.spu_bytes_sent, digits=3)),
            *(format_duration(self.spu_latency_s, digits=3), times),
        )


def case_of(name: str) -> Case:
    """Return a workload at the sizes of a layer."""
    workload = get_workload(name)
    sizes = SIZES if "n_heads" in workload.dim_names else SIZES_OF_ROWS
    dims = Dims(**{dim: sizes[dim] for dim in workload.dim_names})
    return Case(workload=workload, dims=dims)


def row_of(case: Case, record: Record | str, model: CostModel, at: Network) -> Row:
    """Return the row of a record, or of the reason why there is none."""
    spu = model.predict(trace_block(case.workload.name, case.dims), at)
    by_spu = (spu.hops, spu.bytes_sent, spu.latency_s)
    if isinstance(record, str):
        found = _OFF_BY.search(record)
        error = float(found[1]) if found else None
        return Row(case.workload.name, None, None, None, error, *by_spu)
    own = (record.hops, record.bytes_sent, record.latency_s, record.max_abs_error)
    return Row(case.workload.name, *own, *by_spu)


def measure(path: Path, **asked: Any) -> SweepResult:
    """Measure what is not on file yet."""
    config = make_config(runtime="crypten", protocol="crypten", enough_s=0.0, **asked)
    with (
        resumable(str(path), kept="what was measured is"),
        spu_prints_to_stderr(),
        progress_bar(str(config.deployment)) as progress,
    ):
        return sweep(config, path, progress)


@click.command(cls=ShieldedCommand)
@click.option("--workload", "names", multiple=True, default=WORKLOADS)
@click.option("--repeats", type=click.IntRange(min=1), default=2, show_default=True)
@network_option
@mode_option
@click.option("--spu", type=FILE, default="profiles/semi2k.parquet", show_default=True)
@click.option("--output", type=FILE, default="profiles/crypten.parquet")
@click.option("--show", "is_shown", is_flag=True, help="Measure nothing.")
@json_option
def main(names: Any, network: Network, spu: Path, output: Path, **asked: Any) -> None:
    """Print each workload on CrypTen, and the hops and seconds of SPU beside it."""
    path = output.with_suffix(".json")
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not asked["is_shown"]:
        cases = tuple(case_of(name) for name in names)
        how = {name: asked[name] for name in ("mode", "repeats")}
        result = measure(output, cases=cases, network=network, **how)
        found: dict[str, Record | str] = {r.workload: r for r in result.profile}
        found |= {one.case.workload.name: one.reason for one in result.left_out}
        model = fit_cost_model(read_profile(spu))
        rows = [row_of(c, found[c.workload.name], model, network) for c in cases]
        known |= {row.workload: row._asdict() for row in rows}
        replace_file(path, json.dumps(known, indent=1, sort_keys=True) + "\n")
    if asked["is_json"]:
        click.echo(json.dumps([*known.values()], indent=1))
    else:
        shown = [Row(**known[name]) for name in WORKLOADS if name in known]
        for cells in (HEADER, RULE, *(row.cells() for row in shown)):
            click.echo(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
