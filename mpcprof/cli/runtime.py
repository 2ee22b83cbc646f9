"""`mpcprof runtime`: the SPU builds this machine can drive."""

import json

import click


@click.group("runtime")
def command() -> None:
    """The SPU builds this machine can drive."""


@command.command("list")
@click.option("--json", "is_json", is_flag=True, help="One JSON document on stdout.")
def list_command(is_json: bool) -> None:
    """Print every SPU build mpcprof knows, and why one cannot be used."""
    from mpcprof.engine.runtime import list_runtimes

    runtimes = list_runtimes()
    if is_json:
        rows = [
            {
                "name": runtime.name,
                "python": runtime.python,
                "available": runtime.is_available,
                "problem": runtime.problem,
            }
            for runtime in runtimes
        ]
        click.echo(json.dumps({"runtimes": rows}, indent=2))
        return
    for runtime in runtimes:
        state = runtime.problem or "available"
        click.echo(f"{runtime.name}  {runtime.python}  {state}")
