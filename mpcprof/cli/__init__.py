"""The command line: converts arguments, calls one library function, prints."""

import importlib
from collections.abc import Mapping
from typing import Any

import click

from mpcprof.errors import MpcprofError
from mpcprof.isolation import shield

# name -> the module whose `command` it is, and what its help says in one line
CommandTable = Mapping[str, tuple[str, str]]

COMMANDS: CommandTable = {
    "doctor": ("mpcprof.cli.doctor", "What this machine can do."),
    "fit": ("mpcprof.cli.fit", "How good the cost model of a profile is."),
    "log": ("mpcprof.cli.log", "Read an SPU log of any supported build."),
    "predict": ("mpcprof.cli.predict", "What a model costs on any network."),
    "profile": ("mpcprof.cli.profile", "Measure a JAX function of yours."),
    "runtime": ("mpcprof.cli.runtime", "The SPU builds this machine can drive."),
    "sweep": ("mpcprof.cli.sweep", "Measure a grid of workloads into a profile."),
    "table": ("mpcprof.cli.table", "Show, export, merge and compare profiles."),
    "plot": ("mpcprof.cli.plot", "Draw what a profile holds."),
    "verify": ("mpcprof.cli.verify", "Hold predictions against real parties."),
}


class LazyGroup(click.Group):
    """A group that imports a command only when it is called.

    An `MpcprofError` becomes one line on stderr and the error's exit code, and so does
    wrong usage, without click's three lines about it.

    Args:
        program: What a message begins with.
        table: Its commands.
    """

    def __init__(
        self,
        *args: Any,  # Any: click's own convention
        program: str,
        table: CommandTable,
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        self.program = program
        self.table = table

    def main(self, *args: Any, **settings: Any) -> Any:  # Any: as click has it
        """Run a command, apart from what the user's surroundings would change."""
        shield()
        return super().main(*args, **settings)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        module = importlib.import_module(self.table[cmd_name][0])
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(n, self.table[n][1]) for n in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except MpcprofError as error:
            self._say("", str(error))
            ctx.exit(error.exit_code)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            command = error.ctx.info_name if error.ctx and error.ctx != ctx else None
            self._say(f" {command}" if command else "", error.format_message())
            ctx.exit(error.exit_code)

    def _say(self, command: str, message: str) -> None:
        text = " ".join(message.split())
        click.echo(f"{self.program}{command}: {text}", err=True)


@click.group(
    cls=LazyGroup,
    program="mpcprof",
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="mpcprof")
def main() -> None:
    """Measure and price what neural networks cost under secure computation."""
