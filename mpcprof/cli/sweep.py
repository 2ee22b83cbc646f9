"""`mpcprof sweep`: a grid of workloads into a profile."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpcprof.cli.options import (
    deployment_options,
    example,
    json_option,
    measure_options,
    seen_network,
    sharded,
    spread_options,
)
from mpcprof.cli.progress import progress_bar, resumable, spu_prints_to_stderr
from mpcprof.units import format_duration, parse_duration_s, parse_int_list

if TYPE_CHECKING:
    from mpcprof.network import Network
    from mpcprof.shard import Shard
    from mpcprof.sweep.run import SweepResult


@click.command(
    epilog=example(
        "mpcprof sweep --protocol semi2k --preset quick --output mine.parquet"
    )
)
@deployment_options
@measure_options
@click.option("--preset", default="quick", show_default=True, help="quick, paper, full")
@click.option("--only", default="", help="Workloads, such as exp,gelu,attn.*")
@click.option(
    "--heads", "n_heads", type=parse_int_list, help="Instead of the preset's: 1,2,4."
)
@click.option(
    "--tokens", "n_tokens", type=parse_int_list, help="Instead of the preset's."
)
@click.option("--hidden", type=parse_int_list, help="Instead of the preset's.")
@click.option("--width", type=parse_int_list, help="Instead of the preset's.")
@click.option(
    "--case-limit",
    "case_limit_s",
    type=parse_duration_s,
    help="Leave out cases whose calls together take longer, such as 60s.",
)
@click.option(
    "-o", "--output", "path", help="The profile. [default: profiles/PROTOCOL.parquet]"
)
@click.option("--fresh", "is_fresh", is_flag=True, help="Start the profile anew.")
@spread_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    path: str | None,
    is_fresh: bool,
    is_json: bool,
    protocol: str,
    shard: "Shard | None",
    cluster: str,
    parties: Path | None,
    network: "Network",
    **asked: Any,  # one value per option; see grid_config
) -> None:
    """Measure a grid of workloads into a profile.

    Cases that are on file already are not measured again: a sweep that was stopped, by
    Ctrl-C or by force, goes on where it was. Exit code 1 if a case failed, or if all
    were left out.
    """
    from mpcprof.sweep.grid import grid_config
    from mpcprof.sweep.run import sweep

    config = grid_config(
        protocol=protocol,
        shard=shard,
        parties=parties,
        network=seen_network(parties, network),
        **asked,
    )
    if path is None:
        path = str(sharded(Path("profiles", f"{protocol}.parquet"), shard))
    with (
        resumable(path, kept="what was finished is"),
        spu_prints_to_stderr(),
        progress_bar("setting up") as progress,
    ):
        result = sweep(config, path, progress, is_fresh=is_fresh, cluster=cluster)
    click.echo(_as_json(path, result) if is_json else _as_text(path, result))
    ctx.exit(1 if result.has_failed else 0)


def _as_text(path: str, result: "SweepResult") -> str:
    from mpcprof.profile.parts import misfit

    lines = [f"left out: {one.case}: {one.reason}" for one in result.left_out]
    lines.append(
        f"{path}: {len(result.profile)} records; {result.n_measured} measured now, "
        f"{result.n_resumed} there before, {len(result.left_out)} left out; "
        f"set-up {format_duration(result.setup_s, digits=3)}, measuring "
        f"{format_duration(result.measuring_s, digits=3)}, of it in calls "
        f"{format_duration(result.timed_s, digits=3)}"
    )
    profile = result.profile
    if line := misfit(profile.records, profile.deployment):
        lines.append(f"note: {line}")
    if len(hosts := result.profile.hosts) > 1:
        lines.append(
            f"note: records of {len(hosts)} machines ({'; '.join(hosts)}), and compute "
            "holds for one; `mpcprof sweep --fresh` measures all of them on this one"
        )
    return "\n".join(lines)


_COUNTED = ("n_measured", "n_resumed", "setup_s", "measuring_s", "timed_s")


def _as_json(path: str, result: "SweepResult") -> str:
    from mpcprof.profile.parts import misfit

    return json.dumps(
        {
            "path": path,
            "n_records": len(result.profile),
            "hosts": [*result.profile.hosts],
            **{name: getattr(result, name) for name in _COUNTED},
            "misfit": misfit(result.profile.records, result.profile.deployment),
            "left_out": [
                {
                    "workload": one.case.workload.name,
                    "dims": dict(one.case.dims.items()),
                    "reason": one.reason,
                    "has_failed": one.has_failed,
                }
                for one in result.left_out
            ],
        }
    )
