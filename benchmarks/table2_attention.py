"""MPCViT's Table 2: ten attention variants, in plain and private, beside the paper's.

    python benchmarks/table2_attention.py [--predict] [--runtime NAME]

Measures the attention of one head (65 tokens of width 64) of every variant on each
protocol and each SPU build that is installed, into files of --output; stopped, the same
command goes on where it was. With --predict it prices them from profiles/ in seconds.
A variant whose result a build has wrong stands there as refused, with the reason.
Four heads one by one, each from q, k, v to values, are a layer of the paper's network.
"""

import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import jax
import numpy as np
from scipy.stats import spearmanr

from attention_properties import properties
from attention_rows import HEADER, HEADS, PAPER, Cost, make_row
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
from mpcprof.nn.catalogue import trace_block
from mpcprof.profile.io import read_profile
from mpcprof.sweep.config import SweepConfig
from mpcprof.sweep.run import sweep
from mpcprof.workloads import blocks  # noqa: F401 - registers them
from mpcprof.workloads.registry import get_workload

BUILDS: Final = (DEFAULT_BUILD, PAPER_BUILD)
Found = tuple[dict[str, Cost], dict[str, str]]  # costs of a head, and why there is none


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


def measure(config: SweepConfig, path: Path) -> Found:
    """Measure what is not on file at `path`; return costs of a head, and refusals.

    Of a build that is wrong at random each variant has parties of its own: a wrong
    result spoils no other's calls.
    """
    is_apart = config.deployment.build.stray_share > 0
    parts = [(case,) for case in config.cases] if is_apart else [config.cases]
    costs: dict[str, Cost] = {}
    refused: dict[str, str] = {}
    with (
        resumable(path, kept="what was measured is"),
        spu_prints_to_stderr(),
        progress_bar(str(config.deployment)) as progress,
    ):
        for cases in parts:
            result = sweep(replace(config, cases=cases), path, progress)
            refused |= {one.case.workload.name: one.reason for one in result.left_out}
    for case in config.cases:
        if (key := config.key_of(case)) in result.profile:
            record = result.profile.get(key)
            latency_s = result.profile.call_s(record)
            costs[key.workload] = Cost(latency_s, record.bytes_sent, record.hops)
    return costs, refused


def predict(path: Path, dims: Dims, config: SweepConfig) -> Found:
    """Return what a head costs by the profile at `path`, and what is known as wrong."""
    model = fit_cost_model(read_profile(path))
    costs: dict[str, Cost] = {}
    refused: dict[str, str] = {}
    for name in (f"attn.{one}" for one in PAPER):
        if defect := config.deployment.build.defect_of(name):
            refused[name] = defect
            continue
        found = model.predict(trace_block(name, dims), config.network, is_call=False)
        costs[name] = Cost(found.latency_s, found.bytes_sent, found.hops)
    return costs, refused


@click.command(cls=ShieldedCommand)
@click.option("--predict", "is_predicted", is_flag=True, help="Price from profiles/.")
@click.option("--protocol", "protocols", multiple=True, default=("semi2k", "cheetah"))
@click.option("--runtime", "runtimes", multiple=True, help="[default: both, if there]")
@click.option("--tokens", "n_tokens", type=click.IntRange(min=2), default=65)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@network_option
@click.option("--output", "folder", type=FILE, default="runs/table2", show_default=True)
@json_option
def main(is_predicted: bool, protocols: Any, runtimes: Any, **asked: Any) -> None:
    """Print the ten variants for each protocol and build.

    Ranks are among those of the nine that the paper times that are not refused; (*):
    the paper prints otherwise.
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
        asked_of = {"network": network, "repeats": asked["repeats"]}
        config = SweepConfig(deployment=deployment, cases=cases, **asked_of)
        predicted = is_predicted and predict(path, dims, config)
        costs, refused = predicted or measure(config, path)
        rows = [make_row(n, plain[n], costs, refused) for n in PAPER]
        ranked = [row for row in rows if row.is_ranked]
        pairs = zip(*((row.latency_s, row.paper_s) for row in ranked), strict=True)
        rank = float(spearmanr(*pairs).statistic)
        found[str(deployment)] = {"rows": [r._asdict() for r in rows], "spearman": rank}
        if not asked["is_json"]:
            of = f"Spearman {rank:.3f} of {len(ranked)}"
            click.echo(f"{deployment}, {network}; {of}")
            print_table(HEADER, [row.cells(ranked) for row in rows])
            for row in filter(lambda one: one.refused, rows):
                click.echo(f"refused: {row.variant}: {row.refused}")
    if asked["is_json"]:
        click.echo(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
