"""Files as everything here writes, locks and reads them: whole or not at all.

>>> replace_file(Path("run/result.json"), '{"n_epochs": 3}')  # doctest: +SKIP
>>> with locked(Path("run/config.json")):  # doctest: +SKIP
...     ...  # the only writer, until the block ends or the process dies
>>> read_json(Path("run/result.json"), RunResult)  # doctest: +SKIP
"""

import contextlib
import itertools
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from mpcprof.errors import FileBusyError, FileError, UsageError, did_you_mean

Value = TypeVar("Value")

_AT = re.compile(r"^(?P<problem>.*) - at `\$(?P<path>.*)`$", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_WRONG_TYPE = re.compile(r"Expected `(.+)`, got `(.+)`")
_JSON_WORDS = {"array": "list", "str": "text", "bool": "true or false"}


def replace_file(path: Path, content: bytes | str) -> None:
    """Make `content` the file at `path`: at once, durably, with the mode it had.

    A link stays a link; a pipe or a device is written to as it is. Temporary files
    that dead writers left behind are removed.

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
    if path.is_dir():
        raise FileError(f"cannot write {os.fspath(path)!r}: it is a folder")
    if path.is_char_device() or path.is_block_device():  # which would not end
        raise FileError(f"cannot write {os.fspath(path)!r}: it is a device")
    if path.exists() and not os.access(path, os.W_OK):
        raise FileError(f"cannot write {os.fspath(path)!r}: it is read-only")
    with _write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):  # a file without a name
            pass


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
        values = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        problem = _not_finite(text) or f"not JSON: {error}"
        raise UsageError(f"{what}: {problem}") from None
    return convert_json(values, kind, what=what)


def _not_finite(text: bytes | str) -> str:
    """Return one line on the first NaN or Infinity, which other programs write."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    return next(_numbers_not_finite(values, ""), "")


def _numbers_not_finite(values: Any, key: str) -> Iterator[str]:  # Any: JSON
    if isinstance(values, float) and not math.isfinite(values):
        yield f"{key.removeprefix('.')}={values}: expected a finite number"
    elif isinstance(values, dict):
        for name, value in values.items():
            yield from _numbers_not_finite(value, f"{key}.{name}")
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from _numbers_not_finite(value, f"{key}[{index}]")


# Any: parsed JSON, which this function gives its type
def convert_json(values: Any, kind: type[Value], *, what: str) -> Value:
    """Return parsed JSON as a `kind`; see `decode_json`.

    Raises:
        UsageError: In one line: `what`, the key, the value given, the one expected.
    """
    _check_keys(values, kind, what)
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        problem = _explain(str(error), values, kind)
        raise UsageError(f"{what}: {problem}") from None


def _check_keys(values: Any, kind: Any, what: str) -> None:  # Any: JSON, and its type
    """Refuse keys that no dataclass has, here or further inside."""
    inside = (kind, *get_args(kind))
    if isinstance(values, list):
        for value in values:
            _check_keys(value, inside[1] if len(inside) > 1 else None, what)
    for one in inside if isinstance(values, dict) else ():
        if not (isinstance(one, type) and is_dataclass(one)):
            continue
        known = [field.name for field in fields(one) if field.init]
        for key, value in values.items():
            if key not in known:
                hint = _name_hint(key, one, known)
                raise UsageError(f"{what}: unknown key {key!r}; {hint}")
            if isinstance(value, dict | list):
                _check_keys(value, get_type_hints(one)[key], what)


def _name_hint(key: str, kind: Any, known: list[str]) -> str:  # Any: a dataclass
    """Return the key that other programs call `key`, else the nearest known ones."""
    for name, others in getattr(kind, "elsewhere", {}).items():
        if key in others:
            return f"here it is called {name}"
    return did_you_mean(key, known)


def _explain(message: str, values: Any, kind: Any) -> str:  # Any: JSON, and its type
    """Return the message of msgspec in our words: key, value given, value expected."""
    match = _AT.match(message)
    problem, path = (match["problem"], match["path"]) if match else (message, "")
    key = path.removeprefix(".")
    if missing := _MISSING.fullmatch(problem):
        place = f" in {key}" if key else ""
        return f"the key {missing[1]!r} is missing{place}"
    if "[...]" in path:  # a value of an object, whose key msgspec does not tell
        return f"{key}: {problem}"
    steps = [a or int(b) for a, b in _STEP.findall(path)]
    if wrong := _WRONG_TYPE.fullmatch(problem):
        names = [_JSON_WORDS.get(name, name) for name in wrong[1].split(" | ")]
        problem = f"expected {' or '.join(names)}"
    elif problem.startswith("Invalid enum value"):
        problem = f"expected {_choices(kind, steps)}"
    elif not path:
        return problem  # a check of our own, which names the field
    for step in steps:
        values = values[step]
    if isinstance(values, dict) and key and not wrong:  # its own check names a field
        return f"{key}: {problem}"
    return f"{key}={values!r:.80}: {problem}" if key else f"{values!r:.80}: {problem}"


def _choices(kind: Any, steps: list[str | int]) -> str:  # Any: a type expression
    """Return the values that a Literal allows, found by walking from `kind` to it."""
    for step in steps:
        kind = get_args(kind)[0] if isinstance(step, int) else _hint(kind, step)
    literals = [one for one in (kind, *get_args(kind)) if get_origin(one) is Literal]
    return " or ".join(str(choice) for one in literals for choice in get_args(one))


def _hint(kind: Any, name: str) -> Any:  # Any: a type expression
    classes = [one for one in (kind, *get_args(kind)) if is_dataclass(one)]
    return get_type_hints(classes[0])[name]


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
    return FileError(
        f"cannot write {os.fspath(path)!r}: {error.strerror}; "
        "choose another place with --output"
    )


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
