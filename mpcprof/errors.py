"""Everything that can go wrong, as one family of errors.

Each error is an `MpcprofError` and the nearest builtin. Its message is one line that
names the value, what was expected, and what to do. `exit_code` is what the command
line returns: 2 for wrong usage, 1 for work that failed.
"""

from collections.abc import Mapping
from typing import ClassVar, TypeVar

Value = TypeVar("Value")


class MpcprofError(Exception):
    """Base of every error that mpcprof raises on purpose."""

    exit_code: ClassVar[int] = 1


class UsageError(MpcprofError, ValueError):
    """Something the user typed is not acceptable."""

    exit_code: ClassVar[int] = 2


class UnknownNameError(UsageError, LookupError):
    """A name (workload, protocol, preset, option ...) is not known."""


class RangeError(MpcprofError, ArithmeticError):
    """A value is outside the range in which an approximation holds."""


class UnitError(UsageError):
    """A quantity lacks its unit, or is not a quantity."""


class FileError(MpcprofError, OSError):
    """A file cannot be written."""


class FileBusyError(FileError):
    """Another process is writing the same file or folder."""


class ProfileError(MpcprofError, ValueError):
    """A profile cannot be read, written, or combined."""


class ProfileBusyError(ProfileError):
    """Another process is writing the same profile."""


class MissingEntryError(MpcprofError, LookupError):
    """Something was asked for that has not been measured."""


class LogError(MpcprofError, ValueError):
    """A text holds no SPU log that can be read."""


class TuningError(MpcprofError, RuntimeError):
    """No plan does what was asked for."""


class EngineError(MpcprofError, RuntimeError):
    """The parties could not be started, or one of them failed."""


class NoAnswerError(EngineError):
    """A child lives but has not answered in time."""


class TerminatedError(EngineError):
    """Work was ended by SIGTERM."""

    exit_code: ClassVar[int] = 143  # as a shell reports it: 128 + 15


class PartyDiedError(EngineError):
    """A party process ended while it was needed."""


class LinkError(EngineError):
    """The emulated link is not what was asked for."""


class BackendUnavailableError(EngineError):
    """This machine cannot run an emulation back-end or a runtime."""


def look_up(noun: str, name: str, table: Mapping[str, Value]) -> Value:
    """Return the entry of `table` called `name`.

    Raises:
        UnknownNameError: If there is none; the message offers the nearest names.
    """
    if name not in table:
        raise UnknownNameError(f"no {noun} {name!r}; {did_you_mean(name, [*table])}")
    return table[name]


def did_you_mean(name: str, known: "list[str] | tuple[str, ...]") -> str:
    """Return a hint: the close matches of `name`, or all known names."""
    from difflib import get_close_matches

    same = [one for one in known if one.casefold() == name.casefold()]
    if close := same or get_close_matches(name, known, n=3):
        return f"did you mean {', '.join(close)}?"
    return f"known: {', '.join(known)}"
