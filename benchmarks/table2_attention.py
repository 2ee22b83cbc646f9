"""MPCViT's Table 2: ten attention variants, in plain and private, beside the paper's.

    python benchmarks/table2_attention.py [--predict] [--runtime NAME]

Measures the attention of one head (65 tokens of width 64) of every variant on each
protocol and each SPU build that is installed, into files of --output; stopped, the same
command goes on where it was. With --predict it prices them from profiles/ in seconds.
Four heads one by one, each from q, k, v to values, are a layer of the paper's network.
"""

import itertools
import json
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import jax
import numpy as np
from scipy.stats import spearmanr

from attention_properties import PRINTED, PROPERTIES, properties
from mpcprof.builds import DEFAULT_BUILD, PAPER_BUILD
from mpcprof.cli import ShieldedCommand
from mpcprof.cli.options import FILE, json_option, network_option
from mpcprof.cli.progress import progress_bar, resumable, spu_prints_to_stderr
from mpcprof.cli.table import print_table
from mpcprof.costmodel.model import fit_cost_model
from mpcprof.deployment import make_deployment
from mpcprof.dims import Dims
from mpcprof.engine.installation import find_runtime
from mpcprof.engine.measure import Case
from mpcprof.network import Network
from mpcprof.nn.catalogue import trace_block
from mpcprof.profile.io import read_profile
from mpcprof.sweep.config import SweepConfig
from mpcprof.sweep.run import sweep
from mpcprof.units import format_bytes, format_duration
from mpcprof.workloads import blocks  # noqa: F401 - registers them
from mpcprof.workloads.registry import get_workload
from mpcvit.paper.published import TABLE_2

HEADS, BUILDS = 4, (DEFAULT_BUILD, PAPER_BUILD)
PAPER: Final = {one.attention or "relu_unscaled": one.latency_s for one in TABLE_2}
HEADER: Final = (
    *("variant", *PROPERTIES, "plain", "private", "sent", "hops", "rank"),
    *("paper", "its rank"),
)


class Row(NamedTuple):
    """A variant, its heads one by one; bytes are those of rank 0."""

    variant: str
    properties: tuple[bool, ...]
    plain_s: float
    latency_s: float
    bytes_sent: float
    hops: float
    paper_s: float | None

    def cells(self, ranked: list["Row"]) -> tuple[str, ...]:
        """Return the row as text, with ranks among those that the paper times."""
        pairs = zip(self.properties, PRINTED[self.variant], strict=True)
        return (
            self.variant,
            *(f"{'yes' if own else 'no'}{' (*)' * (own != one)}" for own, one in pairs),
            format_duration(self.plain_s, digits=3),
            format_duration(self.latency_s, digits=4),
            format_bytes(self.bytes_sent, digits=4),
            *(f"{self.hops:g}", self._rank("latency_s", ranked)),
            f"{self.paper_s:g} s" if self.paper_s else "fail",
            self._rank("paper_s", ranked),
        )

    def _rank(self, key: str, ranked: list["Row"]) -> str:
        order = sorted(getattr(row, key) for row in ranked)
        return str(order.index(getattr(self, key)) + 1) if self.paper_s else "-"


def plain_s(name: str, dims: Dims) -> float:
    """Return the seconds of the heads in the clear, the least of twenty calls."""
    workload, seconds = get_workload(f"attn.{name}"), []
    function = jax.jit(workload.function)
    inputs = workload.make_inputs(dims, np.random.default_rng(0))
    for _ in range(21):
        begin_s = time.perf_counter()
        function(*inputs).block_until_ready()
        seconds.append(time.perf_counter() - begin_s)
    return HEADS * min(seconds)


def measure(config: SweepConfig, path: Path) -> dict[str, Any]:
    """Measure what is not on file at `path`; return seconds, bytes, hops of a head."""
    with (
        resumable(path, kept="what was measured is"),
        spu_prints_to_stderr(),
        progress_bar(str(config.deployment)) as progress,
    ):
        result = sweep(config, path, progress)
    for one in result.left_out:
        click.echo(f"left out: {one.case}: {one.reason}", err=True)
    profile = result.profile
    keys = {case.workload.name: config.key_of(case) for case in config.cases}
    found = {name: profile.get(key) for name, key in keys.items() if key in profile}
    return {n: (profile.call_s(r), r.bytes_sent, r.hops) for n, r in found.items()}


def predict(path: Path, dims: Dims, network: Network) -> dict[str, Any]:
    """Return seconds, bytes and hops of a head by the profile at `path`."""
    model, costs = fit_cost_model(read_profile(path)), {}
    for name in (f"attn.{one}" for one in PAPER):
        found = model.predict(trace_block(name, dims), network, is_call=False)
        costs[name] = (found.latency_s, found.bytes_sent, found.hops)
    return costs


@click.command(cls=ShieldedCommand)
@click.option("--predict", "is_predicted", is_flag=True, help="Price from profiles/.")
@click.option("--protocol", "protocols", multiple=True, default=("semi2k", "cheetah"))
@click.option("--runtime", "runtimes", multiple=True, help="[default: both, if there]")
@click.option("--tokens", "n_tokens", type=click.IntRange(min=2), default=65)
@network_option
@click.option("--output", "folder", type=FILE, default="runs/table2", show_default=True)
@json_option
def main(is_predicted: bool, protocols: Any, runtimes: Any, **asked: Any) -> None:
    """Print the ten variants for each protocol and build.

    Ranks are among the nine that the paper times; (*): the paper prints otherwise.
    """
    dims = Dims(n_heads=1, n_tokens=asked["n_tokens"], head_dim=64)
    cases = tuple(Case(workload=get_workload(f"attn.{n}"), dims=dims) for n in PAPER)
    plain = {name: (properties(name), plain_s(name, dims)) for name in PAPER}
    known = [r.name for r in map(find_runtime, BUILDS) if not r.problem]
    folder = Path("profiles") if is_predicted else asked["folder"]
    found: dict[str, Any] = {}
    for protocol, runtime in itertools.product(protocols, runtimes or known):
        own = "" if runtime == DEFAULT_BUILD.name else f"-{runtime.replace('-', '')}"
        path, network = folder / f"{protocol}{own}.parquet", asked["network"]
        deployment = make_deployment(protocol, runtime=runtime)
        config = SweepConfig(deployment=deployment, cases=cases, network=network)
        predicted = is_predicted and predict(path, dims, network)
        costs = predicted or measure(config, path)
        rows = [
            Row._make((n, *plain[n], *(HEADS * x for x in costs[key]), PAPER[n]))
            for n in PAPER
            if (key := f"attn.{n}") in costs
        ]
        ranked = [row for row in rows if row.paper_s]
        pairs = zip(*((row.latency_s, row.paper_s) for row in ranked), strict=True)
        rank = float(spearmanr(*pairs).statistic)
        found[str(deployment)] = {"rows": [r._asdict() for r in rows], "spearman": rank}
        if not asked["is_json"]:
            click.echo(f"{deployment}, {network}; Spearman {rank:.3f}")
            print_table(HEADER, [row.cells(ranked) for row in rows])
    if asked["is_json"]:
        click.echo(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
