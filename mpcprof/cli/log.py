"""`mpcprof log`: what an SPU log says, as tables or as data."""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpcprof.cli.options import example
from mpcprof.errors import LogError, UsageError
from mpcprof.units import format_bytes, format_duration

if TYPE_CHECKING:
    from rich.table import Table

    from mpcprof.engine.spulog import SpuRun
    from mpcprof.profile.record import Operation

_DIGITS = 3
_PIPE_WIDTH = 120  # of a table that goes to a file or to another program
_NOT_PRINTED = "-"


@click.command("log", epilog=example("mpcprof log party0.log --json"))
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Operations per level in a table; --json has all.",
)
def command(path: Path, as_json: bool, top: int) -> None:
    """Read an SPU log: per run seconds, bytes, actions, and per operation.

    FILE is what a party printed with enable_pphlo_profile or enable_hal_profile on
    (SPU 0.3.1b0 to 0.9.5, or OpenBumbleBee), `-` for standard input; as it was printed
    or as docker, Kubernetes or journald kept it, gzip or not. Lines of other programs
    are skipped. Under Ray, log with RAY_DEDUP_LOGS=0: it drops lines otherwise. A log
    of MP-SPDZ is for `mpcprof price`.
    """
    runs = _read_runs(path)
    for i, run in enumerate(runs, start=1):
        if run.problem:
            click.echo(f"mpcprof: run {i} ({run.name}): {run.problem}", err=True)
        if run.n_merged_lines:
            click.echo(
                f"mpcprof: run {i} ({run.name}): Ray merged {run.n_merged_lines} lines "
                "of other parties or runs into these lines; their numbers are lost: "
                "set RAY_DEDUP_LOGS=0 to log each party",
                err=True,
            )
    if as_json:
        document = {"runs": [asdict(run) for run in runs]}
        click.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        _print_tables(_run_table(i, run, top) for i, run in enumerate(runs, start=1))


def _read_runs(path: Path) -> "tuple[SpuRun, ...]":
    from mpcprof.engine.spulog import read_spu_log

    is_stdin = str(path) == "-"
    try:
        if is_stdin:
            return read_spu_log(sys.stdin.buffer)
        with path.open("rb") as stream:
            return read_spu_log(stream)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"{str(path)!r}: {reason}; expected a log file, or - for standard input"
        ) from None
    except LogError as error:
        if not is_stdin:
            _refuse_spdz(path)
        raise LogError(f"{'standard input' if is_stdin else path}: {error}") from None


def _refuse_spdz(path: Path) -> None:
    """Say which command reads a log of MP-SPDZ, if it is one."""
    from mpcprof.engine.spdzlog import read_spdz_log

    with path.open(encoding="utf-8", errors="replace") as lines:
        runs = read_spdz_log(lines)
    if runs:
        raise LogError(
            f"{path}: a log of MP-SPDZ, {len(runs)} runs, and none of SPU; "
            f"`mpcprof price {path} --network 100MBps,10ms` prices its megabytes and "
            "rounds on another network"
        )


def _print_tables(tables: "Iterable[Table]") -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)
    for table in tables:
        console.print(table)


def _run_table(number: int, run: "SpuRun", top: int) -> "Table":
    from rich.table import Table
    from rich.text import Text

    title = Text(f"run {number}: {run.name}")
    if run.source:
        title.append(f"  ({run.source})")
    table = Table(title=title, title_justify="left", caption_justify="left")
    for header in ("level", "operation"):
        table.add_column(header, overflow="fold")
    for header in ("count", "time", "sent", "received", "sends", "recvs"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_row(
        "total", "", "", _seconds(run.total_s), *_counters(run), end_section=True
    )
    for level in dict.fromkeys(o.level for o in run.operations):
        _add_level(table, [o for o in run.operations if o.level == level], top)
    if run.problem:
        table.caption = Text(f"! {run.problem}")
    return table


def _add_level(table: "Table", operations: "list[Operation]", top: int) -> None:
    from rich.text import Text

    longest_first = sorted(operations, key=lambda o: o.duration_s, reverse=True)
    for operation in longest_first[:top]:
        table.add_row(
            operation.level,
            Text(operation.name),
            str(operation.count),
            _seconds(operation.duration_s),
            *_counters(operation),
        )
    if len(operations) > top:
        table.add_row(operations[0].level, f"{len(operations) - top} more (--top)")
    table.add_section()


def _counters(item: "SpuRun | Operation") -> tuple[str, str, str, str]:
    return (
        _size(item.bytes_sent),
        _size(item.bytes_received),
        _number(item.send_actions),
        _number(item.recv_actions),
    )


def _seconds(seconds: float) -> str:
    return format_duration(seconds, digits=_DIGITS)


def _size(size_bytes: int | None) -> str:
    if size_bytes is None:
        return _NOT_PRINTED
    return format_bytes(size_bytes, digits=_DIGITS)


def _number(count: int | None) -> str:
    return _NOT_PRINTED if count is None else str(count)
