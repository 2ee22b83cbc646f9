"""Files as everything here writes, locks and reads them: whole or not at all.

>>> replace_file(Path("run/result.json"), '{"n_epochs": 3}')  # doctest: +SKIP
>>> with locked(Path("run/config.json")):  # doctest: +SKIP
...     ...  # the only writer, until the block ends or the process dies
>>> read_json(Path("run/result.json"), RunResult)  # doctest: +SKIP
"""

import contextlib
import errno
import itertools
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from itertools import repeat
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Any,
    Final,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from mpcprof.errors import FileBusyError, FileError, UsageError, did_you_mean

Value = TypeVar("Value")


def replace_file(path: Path, content: bytes | str) -> None:
    """Make `content` the file at `path`: at once, durably, with the mode it had.

    Its folder is made. A link stays a link; a pipe or a device is written to as it is.
    Temporary files that dead writers left behind are removed.

    Raises:
        FileError: If the folder or the disk does not allow it; the old file stays.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not (path.is_file() or path.is_dir()):
        with _write_errors(path):
            path.write_bytes(data)
        return
    path = path.resolve()
    temporary = _temporary(path)
    with _write_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale_temporaries(path)
            _write_durably(temporary, data)
            if path.is_file():
                temporary.chmod(path.stat().st_mode)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def check_writable(path: Path) -> None:
    """Make the folder of `path` and try it, before hours of work depend on it.

    Raises:
        FileError: If no file can be written at `path`.
    """
    with _write_errors(path):
        if path.is_dir():
            raise OSError(errno.EISDIR, "it is a folder, not a file")
        if path.is_char_device() or path.is_block_device():  # which would not end
            raise OSError(errno.EINVAL, "it is a device")
        if path.exists() and not os.access(path, os.W_OK):
            raise OSError(errno.EACCES, "it is read-only")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):  # a file without a name
            pass


def check_ending(path: Path, endings: Sequence[str]) -> None:
    """Refuse a name that ends in none of `endings`, such as .png.

    Raises:
        UsageError: If it does not.
    """
    if path.suffix.lower() not in endings:
        raise UsageError(
            f"{str(path)!r}: expected a name that ends in {' or '.join(endings)}"
        )


def check_apart(output: Path, **read: Path | None) -> None:
    """Refuse to write over a file that is read, whatever name or link leads there.

    Args:
        read: Files by what they are, such as `checkpoint`; None for one there is not.

    Raises:
        UsageError: If `output` is one of them.
    """
    for what, path in read.items():
        if path is not None and output.resolve() == path.resolve():
            raise UsageError(
                f"{os.fspath(output)!r} would write over the {what} "
                f"{os.fspath(path)!r}; choose another place"
            )


@contextlib.contextmanager
def new_folders_removed(path: Path) -> Iterator[None]:
    """Remove the folders made for `path` in the block, where it raises; empty ones."""
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in made:  # the innermost first
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only writer of `path` until the end of the block.

    The lock is a kernel lock on `PATH.lock`, released when its holder dies, whatever
    child it leaves behind. Readers are not held up.

    Raises:
        FileBusyError: If another process, or another block of this one, holds it.
        FileError: If no file can be written at `path`.
    """
    from filelock import FileLock, Timeout  # it loads asyncio: 50 ms

    check_writable(path)  # filelock takes a folder without new files for a busy one
    file = path.with_name(f"{path.name}.lock")
    # a lock by existence, the fallback, would outlive a killed holder
    lock = FileLock(file, blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise FileBusyError(
            f"{os.fspath(path)!r} is being written by another process; wait for it, or "
            "choose another place with --output"
        ) from None
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a lock file that stays blocks nobody
            file.unlink()  # while still locked: who waits for it finds a dead file
        lock.release()


def free_backup(path: Path) -> Path:
    """Return the first of `PATH.bak`, `PATH.bak-2`, ... that is no file yet."""
    suffixes = itertools.chain([".bak"], (f".bak-{n}" for n in itertools.count(2)))
    backups = (path.with_name(f"{path.name}{suffix}") for suffix in suffixes)
    return next(backup for backup in backups if not os.path.lexists(backup))


def read_json(path: Path, kind: type[Value], *, what: str = "file") -> Value:
    """Return the JSON file at `path` as a `kind`.

    Args:
        what: The file in words, such as `architecture`, for the message.

    Raises:
        UsageError: If it cannot be read, or is no such JSON; see `decode_json`.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read {what} {os.fspath(path)!r}: {error.strerror}"
        ) from None
    return decode_json(text, kind, what=f"cannot read {what} {os.fspath(path)!r}")


def decode_json(text: bytes | str, kind: type[Value], *, what: str) -> Value:
    """Return JSON text from outside as a `kind`: a dataclass, or what one consists of.

    Lists become tuples where the type says so; a dataclass checks itself as ever.

        >>> decode_json('{"n_heads": "4"}', Dims, what="dims.json")
        Traceback (most recent call last):
        mpcprof.errors.UsageError: dims.json: n_heads='4': expected int

    Raises:
        UsageError: In one line: `what`, the key, the value given, the one expected.
    """
    try:
        values = json.loads(text)  # NaN and Infinity too, which are named below
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{what}: not JSON: {error}") from None
    return convert_json(values, kind, what=what)


# Any: parsed JSON, which this function gives its type
def convert_json(values: Any, kind: type[Value], *, what: str) -> Value:
    """Return parsed JSON as a `kind`; see `decode_json`.

    Raises:
        UsageError: In one line: `what`, the key, the value given, the one expected.
    """
    try:
        converted: Value = _convert(values, kind, "")
    except UsageError as error:
        raise UsageError(f"{what}: {error}") from None
    return converted


# Any: JSON, a type expression, and what the one becomes as the other
def _convert(value: Any, kind: Any, at: str) -> Any:
    """Return a JSON value as a `kind`; `at` says where in the document it stands."""
    if isinstance(value, int | float) and not abs(value) <= sys.float_info.max:
        raise UsageError(f"{at}={value!r:.80}: expected a finite number")
    choices = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    chosen = next((one for one in choices if _is_alike(value, one)), _NOTHING)
    if chosen is _NOTHING:
        shown = f"{at}={value!r:.80}" if at else f"{value!r:.80}"
        raise UsageError(f"{shown}: expected {' or '.join(map(_word, choices))}")
    if is_dataclass(chosen):
        return _convert_object(value, chosen, at)
    origin, inside = get_origin(chosen) or chosen, get_args(chosen)
    if inside and origin in (tuple, list):
        is_free = origin is list or inside[-1] is ...
        if not is_free and len(value) != len(inside):
            raise UsageError(f"{at}={value!r:.80}: expected {len(inside)} values")
        kinds = repeat(inside[0], len(value)) if is_free else inside
        pairs = enumerate(zip(value, kinds, strict=True))
        return origin(_convert(one, own, f"{at}[{n}]") for n, (one, own) in pairs)
    if inside and origin in (dict, Mapping):
        prefix = f"{at}." if at else ""
        return {k: _convert(one, inside[1], prefix + k) for k, one in value.items()}
    return chosen(value) if chosen in (int, float) else value


_NOTHING: Final = object()
_JSON_TYPES: Final = {Mapping: dict}


def _is_alike(value: Any, kind: Any) -> bool:  # Any: JSON, and a type expression
    """Return whether a value is a `kind` on the outside, whatever it holds."""
    origin = get_origin(kind) or kind
    if origin is Literal:
        return any(type(value) is type(o) and value == o for o in get_args(kind))
    if isinstance(value, int | float) and origin in (int, float):
        is_whole = origin is float or not value % 1
        return is_whole and not isinstance(value, bool)
    if is_dataclass(origin):
        return isinstance(value, dict)
    if origin in (tuple, list):
        return isinstance(value, list | tuple)
    return origin is Any or type(value) is _JSON_TYPES.get(origin, origin)


_WORDS: Final = {tuple: "list", dict: "object", Mapping: "object", str: "text"} | {
    bool: "true or false",
    NoneType: "null",
}


def _word(kind: Any) -> str:  # Any: a type expression
    origin = get_origin(kind) or kind
    if origin is Literal:
        return " or ".join(map(str, get_args(kind)))
    return "object" if is_dataclass(origin) else _WORDS.get(origin, origin.__name__)


# Any: JSON, a dataclass, and one of its kind
def _convert_object(values: dict[str, Any], kind: Any, at: str) -> Any:
    known = {field.name: field for field in fields(kind) if field.init}
    for key in values:
        if key not in known:
            hint = _name_hint(key, kind, [*known])
            raise UsageError(f"unknown key {key!r}; {hint}")
    hints, prefix = get_type_hints(kind), f"{at}." if at else ""
    own = {k: _convert(one, hints[k], prefix + k) for k, one in values.items()}
    for name, field in known.items():
        is_needed = field.default is MISSING and field.default_factory is MISSING
        if is_needed and name not in values:
            place = f" in {at}" if at else ""
            raise UsageError(f"the key {name!r} is missing{place}")
    try:
        return kind(**own)
    except (ValueError, TypeError) as error:  # a check of its own, which names a field
        raise UsageError(f"{at}: {error}" if at else str(error)) from None


def _name_hint(key: str, kind: Any, known: list[str]) -> str:  # Any: a dataclass
    """Return the key that other programs call `key`, else the nearest known ones."""
    for name, others in getattr(kind, "elsewhere", {}).items():
        if key in others:
            return f"here it is called {name}"
    return did_you_mean(key, known)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Turn what the system says into one line that names the file."""
    try:
        yield
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> FileError:
    why = error.strerror
    if isinstance(error, FileExistsError | NotADirectoryError):
        file = file_in_place(path.parent)
        why = f"{os.fspath(file)!r} is a file, not a folder" if file else why
    return FileError(f"cannot write {os.fspath(path)!r}: {why}; choose another place")


def file_in_place(folder: Path) -> Path | None:
    """Return the file that stands where `folder` or one above it should; else None."""
    places = (folder, *folder.parents)
    return next((one for one in places if one.exists() and not one.is_dir()), None)


def _remove_stale_temporaries(path: Path) -> None:
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.tmp")
    for other in path.parent.iterdir():
        match = pattern.fullmatch(other.name)
        if match and not _is_alive(int(match[1])):
            other.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's process is alive too
        return True
    return True
