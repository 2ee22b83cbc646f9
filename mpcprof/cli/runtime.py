"""`mpcprof runtime`: the SPU builds this machine can drive."""

import json

import click

from mpcprof.cli.progress import StepLines


@click.group("runtime")
def command() -> None:
    """List and install the SPU builds that this machine can drive."""


@command.command("list")
@click.option("--json", "is_json", is_flag=True, help="One JSON document on stdout.")
def list_command(is_json: bool) -> None:
    """Print every SPU build mpcprof knows, and why one cannot be used."""
    from mpcprof.engine.installation import list_runtimes

    runtimes = list_runtimes()
    if is_json:
        rows = [
            {
                "name": runtime.build.name,
                "version": runtime.build.version,
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
        click.echo(f"{runtime.build.name}  {runtime.python}  {state}")


@command.command("install")
@click.argument("name")
@click.option(
    "--python", metavar="PATH", help="A Python 3.8. [default: ask uv, or search]"
)
def install_command(name: str, python: str | None) -> None:
    """Make the isolated environment of an SPU build, such as spu-0.3.1b0.

    It goes to MPCPROF_HOME/runtimes/NAME, by default below ~/.local/share/mpcprof, and
    is there wholly or not at all. Takes a minute on a usual line (about 60 MB).
    """
    from mpcprof.builds import get_build
    from mpcprof.engine.installation import install_runtime

    with StepLines(f"{name}: ", suffix="") as lines:
        place = install_runtime(get_build(name), lines.describe, python)
    click.echo(place)
