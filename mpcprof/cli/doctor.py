"""`mpcprof doctor`: what this machine can do, tried rather than assumed."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from mpcprof.cli.options import example
from mpcprof.cli.progress import StepLines, spu_prints_to_stderr
from mpcprof.errors import EngineError
from mpcprof.units import format_bandwidth, format_bytes, format_duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mpcprof.doctor import DoctorReport, LinkStatus, MachineStatus, ProtocolStatus

_OK = "ok"
_PIPE_WIDTH = 160  # of a table that goes to a file or to another program
_Row = tuple[str, str, str]


@click.command("doctor", epilog=example("mpcprof doctor --quick"))
@click.option("--quick", is_flag=True, help="Only semi2k, and the link of two parties.")
@click.option("--json", "is_json", is_flag=True, help="One JSON document on stdout.")
def command(quick: bool, is_json: bool) -> None:
    """Try what this machine can do: SPU, protocols, back-ends, emulated link.

    Exit code 1 if semi2k cannot be measured over the relay.
    """
    from mpcprof.doctor import examine

    with spu_prints_to_stderr(), _progress() as on_step:
        report = examine(quick=quick, on_step=on_step)
    if is_json:
        click.echo(report.to_json())
    else:
        _print_report(report)
    if report.problem:
        raise EngineError(f"semi2k over the relay does not work: {report.problem}")


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show steps on stderr: in one changing line on a terminal, else a line each."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    if not console.is_terminal:
        with StepLines("doctor: ", suffix="") as lines:
            yield lines.describe
        return
    with console.status("") as status:
        yield lambda step: status.update(escape(step))


def _print_report(report: "DoctorReport") -> None:
    from rich.console import Console

    from mpcprof.profile.io import PACKAGED

    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)
    rows_by_title = {
        "machine": _machine_rows(report.machine),
        "runtimes": [(r.name, _state(r.problem), r.python) for r in report.runtimes],
        "protocols, by real parties": [_protocol_row(p) for p in report.protocols],
        "emulation back-ends": [
            (b.name, _state(b.reason), "") for b in report.backends
        ],
        "relay as wan, all directions at once": [_link_row(k) for k in report.links],
        "profiles that come with mpcprof, by name": [
            (name, f"{PACKAGED / name}.parquet", "") for name in report.profiles
        ],
    }
    for title, rows in rows_by_title.items():
        if rows:
            console.print(_table(title, rows))
    _print_notes(console, report.notes)


def _table(title: str, rows: list[_Row]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", show_header=False)
    n_columns = 3 if any(last for *_, last in rows) else 2
    for _ in range(n_columns):
        table.add_column(overflow="fold")
    for row in rows:  # as Text, for which brackets are not markup
        table.add_row(*(Text(cell) for cell in row[:n_columns]))
    return table


def _print_notes(console: "Console", notes: tuple[str, ...]) -> None:
    console.print("\nWhat the numbers stand for", style="bold")
    for note in notes:
        console.print(f"- {note}", markup=False, highlight=False)


def _machine_rows(machine: "MachineStatus") -> list[_Row]:
    rows = [
        ("Python", machine.python, machine.executable),
        ("host", machine.host, ""),
        ("memory", format_bytes(machine.memory_bytes, digits=3), ""),
        ("processors", str(machine.n_cpus), "that this process may use"),
    ]
    for n_parties, n_each in machine.n_cpus_by_parties:
        share = (
            f"{n_each} of its own"
            if n_each
            else "none of its own: they slow each other"
        )
        rows.append((f"a party of {n_parties}", share, ""))
    return rows


def _protocol_row(protocol: "ProtocolStatus") -> _Row:
    spent = f"{protocol.n_parties} parties"
    if not protocol.problem:
        spent += f", {format_duration(protocol.seconds, digits=3)}"
        spent += f", of that set-up {format_duration(protocol.setup_s, digits=3)}"
    return protocol.protocol, _state(protocol.problem), spent


def _link_row(link: "LinkStatus") -> _Row:
    seen = (
        f"{format_duration(link.rtt_s, digits=4)} round trip "
        f"(asked {format_duration(link.asked_rtt_s)}), "
        f"{format_bandwidth(link.goodput_bytes_per_s, digits=3)} each way "
        f"(asked {format_bandwidth(link.asked_bytes_per_s)})"
    )
    return f"{link.n_parties} parties", _state(link.problem), seen


def _state(problem: str) -> str:
    return problem or _OK
