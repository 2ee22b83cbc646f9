"""Print commands.md, then what `--help` says of every command: `make docs`."""

from collections.abc import Iterator
from pathlib import Path

import click

from mpcprof.cli import main as mpcprof
from mpcvit.cli import main as mpcvit


def sections(
    name: str, command: click.Command, parent: click.Context | None = None
) -> Iterator[str]:
    """Yield the help of a command, and of those in it."""
    context = click.Context(command, parent, info_name=name, terminal_width=88)
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            own = command.get_command(context, child)
            assert own
            yield from sections(child, own, context)


if __name__ == "__main__":
    click.echo(Path(__file__).with_suffix(".md").read_text(encoding="utf-8"))
    click.echo("\n".join([*sections("mpcprof", mpcprof), *sections("mpcvit", mpcvit)]))
