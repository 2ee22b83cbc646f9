"""The command line: converts arguments, calls one library function, prints."""

import contextlib
import errno
import functools
import importlib
import io
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import click
from click.types import FuncParamType

from mpcprof.cli.progress import Terminated, ended_by_sigterm
from mpcprof.errors import FileError, MpcprofError, TerminatedError, UsageError, look_up
from mpcprof.isolation import shield

_OUTPUTS: Final = frozenset({"--output", "--report", "--trace"})
_CHECKED: Final = "checks_outputs"  # of a callback, since a group may meet it twice
_WORDS: Final = "mpcprof.words"  # of a context: what was typed behind the command

# name -> the module whose `command` it is, and what its help says in one line
CommandTable = Mapping[str, tuple[str, str]]

COMMANDS: CommandTable = {
    "doctor": ("mpcprof.cli.doctor", "What this machine can do."),
    "explore": ("mpcprof.cli.explore", "A page that prices networks live."),
    "fit": ("mpcprof.cli.fit", "How good the cost model of a profile is."),
    "link": ("mpcprof.cli.link", "Measure the link to parties of other hosts."),
    "log": ("mpcprof.cli.log", "Read an SPU log of any supported build."),
    "party": ("mpcprof.cli.party", "One party of a deployment over several hosts."),
    "predict": ("mpcprof.cli.predict", "What a model costs on any network."),
    "price": ("mpcprof.cli.price", "Price other people's numbers on any network."),
    "profile": ("mpcprof.cli.profile", "Measure a JAX function of yours."),
    "report": ("mpcprof.cli.report", "What profiles say, as a page and as tables."),
    "runtime": ("mpcprof.cli.runtime", "The SPU builds this machine can drive."),
    "sweep": ("mpcprof.cli.sweep", "Measure a grid of workloads into a profile."),
    "table": ("mpcprof.cli.table", "Show, export, merge and compare profiles."),
    "plot": ("mpcprof.cli.plot", "Draw what a profile holds."),
    "verify": ("mpcprof.cli.verify", "Hold predictions against real parties."),
    "zoo": ("mpcprof.cli.zoo", "Published private Transformers, side by side."),
}


def _name_values(command: click.Command) -> click.Command:
    """Have help show NETWORK for what `parse_network` takes, not that function's name.

    The command, and those of a group, are changed and returned.
    """
    for param in command.params:
        if isinstance(param.type, FuncParamType) and param.metavar is None:
            name = param.type.name.removeprefix("_").removeprefix("parse_")
            param.metavar = name.removesuffix("_s").removesuffix("_bytes").upper()
    for own in getattr(command, "commands", {}).values():
        _name_values(own)
    return command


def _apart(command: click.Command) -> click.Command:
    """Have it refuse to write over what it reads, whatever name or link leads there.

    The command, and those of a group, are changed and returned.
    """
    run = command.callback
    if run and not getattr(run, _CHECKED, False):

        @functools.wraps(run)
        def apart(*args: Any, **settings: Any) -> Any:  # Any: as click has it
            _check_outputs(click.get_current_context())
            return run(*args, **settings)

        setattr(apart, _CHECKED, True)
        command.callback = apart
    for own in getattr(command, "commands", {}).values():
        _apart(own)
    return command


def _check_outputs(ctx: click.Context) -> None:
    """Refuse an output that another option, an argument or any word names as well.

    Raises:
        UsageError: If one is named twice; with --force it may be.
    """
    named = [(param, ctx.params.get(param.name or "")) for param in ctx.command.params]
    outputs = {
        param.name: Path(value)
        for param, value in named
        if value and _OUTPUTS & {*param.opts}
    }
    for name, output in outputs.items():
        for param, value in named:
            if param.name == name or ctx.params.get("force"):
                continue
            for one in value if isinstance(value, tuple) else (value,):
                is_file = param.name in outputs or output.is_file()
                if is_file and isinstance(one, str | Path) and _is_same(output, one):
                    _refuse_output(output, param)
        words = [word.rpartition("=")[2] for word in ctx.meta.get(_WORDS, ())]
        if output.is_file() and sum(_is_same(output, word) for word in words) > 1:
            _refuse_output(output, None)  # an option that was read and made into more


def _is_same(output: Path, named: str | Path) -> bool:
    return bool(str(named)) and output.resolve() == Path(named).resolve()


def _refuse_output(output: Path, over: click.Parameter | None) -> NoReturn:
    what = "a file that is read"
    if isinstance(over, click.Argument):
        what = f"the {over.name}"
    elif over:
        what = f"what {over.opts[-1]} names"
    raise UsageError(f"{str(output)!r} would write over {what}; choose another place")


class ShieldedCommand(click.Command):
    """What a person starts: apart from the user's surroundings, one line if it fails.

    An `MpcprofError` becomes one line on stderr and the error's exit code, and so do
    what the system refuses, such as an output that cannot be written, and SIGTERM.

    Attributes:
        program: What a message begins with.
        extra: What to install beside mpcprof for its commands; empty for nothing.
    """

    program = ""
    extra = ""

    def __init__(self, *args: Any, **settings: Any) -> None:  # Any: as click has it
        super().__init__(*args, **settings)
        _name_values(self)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **settings: Any,  # Any: as click has it
    ) -> click.Context:
        """Read the program's own options; wrong usage is one line, not three."""
        try:
            return super().make_context(info_name, args, parent, **settings)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            if parent:
                raise
            self.program = self.program or str(info_name)
            self.report("", error.format_message())
            sys.exit(error.exit_code)

    def main(self, *args: Any, **settings: Any) -> Any:  # Any: as click has it
        """Run the program."""
        shield()
        try:
            _check_standard_files()
            with ended_by_sigterm():
                return super().main(*args, **settings)
        except FileError as error:  # printing what an option asks for, such as --help
            self.report("", str(error))
            sys.exit(1)
        except Terminated as stop:  # before or behind the work
            self._report_stop(stop)

    def invoke(self, ctx: click.Context) -> object:
        """Run what was asked for."""
        self.program = self.program or str(ctx.info_name)
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except MpcprofError as error:
            self.report("", str(error))
            ctx.exit(error.exit_code)
        except KeyboardInterrupt as stop:
            self._report_stop(stop)
        except ModuleNotFoundError as error:
            if not self.extra:
                raise
            wanted = f"pip install 'mpcprof[{self.extra}]'"
            self.report("", f"the package {error.name} is not installed: {wanted}")
            ctx.exit(1)
        except OSError as error:
            why = error.strerror or str(error)
            if error.filename:
                why = f"cannot use {error.filename!r}: {why}; check its name and mode"
            self.report("", why)
            ctx.exit(1)

    def _report_stop(self, stop: KeyboardInterrupt) -> NoReturn:
        self.report("", "stopped; the same command begins anew")
        sys.exit(TerminatedError.exit_code if isinstance(stop, Terminated) else 1)

    def report(self, command: str, message: str) -> None:
        """Print one line about what went wrong; no matter if nobody reads it."""
        text = " ".join(message.split())
        with contextlib.suppress(OSError):
            click.echo(f"{self.program}{command}: {text}", err=True)


class LazyGroup(ShieldedCommand, click.Group):
    """A group that imports a command only when it is called.

    Wrong usage is one line too, without click's three.

    Args:
        program: What a message begins with.
        table: Its commands.
        extra: What to install beside mpcprof for its commands.
    """

    def __init__(
        self,
        *args: Any,  # Any: click's own convention
        program: str,
        table: CommandTable,
        extra: str = "",
        **settings: Any,
    ) -> None:
        super().__init__(*args, **settings)
        self.program = program
        self.extra = extra
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        module = importlib.import_module(self.table[cmd_name][0])
        command = module.command
        assert isinstance(command, click.Command)
        return _apart(_name_values(command))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing:  # that is a shell which completes a name
            look_up("command", args[0], self.table)
            ctx.meta[_WORDS] = tuple(args[1:])
        return super().resolve_command(ctx, args)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(n, self.table[n][1]) for n in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            command, own = "", error.ctx
            while own and own != ctx:
                command, own = f" {own.info_name}{command}", own.parent
            self.report(command, error.format_message())
            ctx.exit(error.exit_code)


class StandardOutput(io.TextIOWrapper):
    """Standard output that says so, once, where it cannot be written."""

    def write(self, text: str) -> int:
        """Write text; a character that the locale lacks becomes a question mark."""
        with self._dropped_if_broken():
            return super().write(text)

    def flush(self) -> None:
        """Write what waits."""
        with self._dropped_if_broken():
            super().flush()

    @contextlib.contextmanager
    def _dropped_if_broken(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)  # for Python's own last flush
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if error.errno == errno.EPIPE:  # as of `| head`: click ends without a word
                raise
            raise FileError(f"cannot write standard output: {error.strerror}") from None


def _check_standard_files() -> None:
    """Open what the caller closed, before a file or a socket takes its number.

    Raises:
        FileError: If standard output is closed: a result would go nowhere.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - for good
    if sys.stdout is None:
        raise FileError("standard output is closed; redirect it to a file or /dev/null")
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        encoding, is_terminal = sys.stdout.encoding, sys.stdout.isatty()
        sys.stdout = StandardOutput(
            sys.stdout.detach(), encoding, "replace", line_buffering=is_terminal
        )


@click.group(
    cls=LazyGroup,
    program="mpcprof",
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="mpcprof")
def main() -> None:
    """Measure and price what neural networks cost under secure computation."""
