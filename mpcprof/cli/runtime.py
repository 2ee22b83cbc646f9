"""`mpcprof runtime`: the runtimes this machine can drive."""

import json

import click

from mpcprof.cli.completion import offering
from mpcprof.cli.options import example
from mpcprof.cli.progress import StepLines


@click.group("runtime")
def command() -> None:
    """List and install what this machine can drive: SPU builds, other engines."""


@command.command("list", epilog=example("mpcprof runtime list"))
@click.option("--json", "is_json", is_flag=True, help="One JSON document on stdout.")
def list_command(is_json: bool) -> None:
    """Print every runtime that mpcprof knows, and why one cannot be used."""
    from mpcprof.engine.installation import list_runtimes

    runtimes = list_runtimes()
    if is_json:
        rows = [
            {
                "name": runtime.name,
                "version": runtime.version,
                "python": runtime.python,
                "available": not runtime.problem,
                "problem": runtime.problem,
            }
            for runtime in runtimes
        ]
        click.echo(json.dumps({"runtimes": rows}, indent=2))
        return
    for runtime in runtimes:
        state = runtime.problem or "available"
        click.echo(f"{runtime.name}  {runtime.python}  {state}")


@command.command("install", epilog=example("mpcprof runtime install spu-0.3.1b0"))
@click.argument("name", shell_complete=offering("mpcprof.builds:BUILDS"))
@click.option(
    "--python",
    metavar="PATH",
    help="A Python of the runtime's version. [default: ask uv, or search]",
)
def install_command(name: str, python: str | None) -> None:
    """Make the isolated environment of a runtime, such as spu-0.3.1b0 (or spu-0.3).

    It goes to MPCPROF_HOME/runtimes/NAME, by default below ~/.local/share/mpcprof, and
    is there wholly or not at all. Takes a minute on a usual line; a line says how many
    MB come over it.
    """
    from mpcprof.builds import get_environment
    from mpcprof.engine.installation import install_runtime

    environment = get_environment(name)
    with StepLines(f"{environment.name}: ", suffix="") as lines:
        place = install_runtime(environment, lines.describe, python)
    click.echo(place)
