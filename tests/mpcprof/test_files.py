import doctest
import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

import mpcprof.files
from mpcprof.dims import Dims
from mpcprof.errors import FileBusyError, FileError, UsageError
from mpcprof.files import check_writable, decode_json, locked, read_json, replace_file


def test_the_examples_are_right():
    assert doctest.testmod(mpcprof.files, extraglobs={"Dims": Dims}).failed == 0


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "a.json")

    replace_file(tmp_path / "link", "{}")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a.json").read_text() == "{}"


def test_a_file_keeps_the_mode_it_had(tmp_path):
    (tmp_path / "a").touch(0o640)

    replace_file(tmp_path / "a", "new")

    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_the_folder_of_a_file_is_made_and_a_file_in_its_place_is_one_line(tmp_path):
    replace_file(tmp_path / "no" / "such" / "a", "new")

    assert (tmp_path / "no" / "such" / "a").read_text() == "new"
    with pytest.raises(FileError, match=r"cannot write .*b': .*; choose another place"):
        replace_file(tmp_path / "no" / "such" / "a" / "b", "new")


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        replace_file(pipe, b"content")

        assert os.read(reader, 100) == b"content"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path, monkeypatch
):
    (tmp_path / "a").write_text("old")

    def full_disk(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(FileError, match=r"a': No space left on device; choose anot"):
        replace_file(tmp_path / "a", "new")

    assert (tmp_path / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_temporary_of_the_dead_goes_and_one_of_the_living_stays(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".a.{dead.pid}.tmp").write_text("")
    (tmp_path / f".a.{os.getppid()}.tmp").write_text("")

    replace_file(tmp_path / "a", "")

    assert {p.name for p in tmp_path.iterdir()} == {"a", f".a.{os.getppid()}.tmp"}


def test_a_lock_has_one_holder_and_leaves_no_file(tmp_path):
    path = tmp_path / "new" / "a"
    busy = pytest.raises(FileBusyError, match=r"a' is being written by another")
    with locked(path), busy:
        locked(path).__enter__()

    with locked(path):
        pass
    assert [*(tmp_path / "new").iterdir()] == []


_HOLDER = """
import subprocess, sys, time
from pathlib import Path
from mpcprof.files import locked

with locked(Path(sys.argv[1])):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_holder_is_free_though_its_child_lives(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, tmp_path / "a"], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    with pytest.raises(FileBusyError):
        locked(tmp_path / "a").__enter__()
    holder.kill()
    holder.wait()
    holder.stdout.close()

    with locked(tmp_path / "a"):
        os.kill(child, 0)

    os.kill(child, 9)


@pytest.mark.parametrize("place", ["file/a", "/proc/a", "."])
def test_a_place_that_takes_no_file_is_not_called_busy(tmp_path, place):
    (tmp_path / "file").touch()

    for attempt in (check_writable, lambda path: locked(path).__enter__()):
        with pytest.raises(FileError, match="cannot write") as raised:
            attempt(tmp_path / place)
        assert not isinstance(raised.value, FileBusyError)


@dataclass(frozen=True, kw_only=True)
class Layer:
    heads: Literal["serial", "batched"] = "serial"


@dataclass(frozen=True, kw_only=True)
class Config:
    n_epochs: int
    names: tuple[str, ...] = ()
    sizes: dict[str, int] | None = None
    layer: Layer | None = None
    layers: tuple[Layer, ...] = ()
    by_name: dict[str, Layer] | None = None
    pair: tuple[int, float] | None = None

    def __post_init__(self) -> None:
        if self.n_epochs < 1:
            raise UsageError(f"n_epochs={self.n_epochs}: expected at least 1")


def test_json_becomes_one_of_our_types(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"n_epochs": 3, "layers": [{"heads": "batched"}]}))

    config = read_json(path, Config)

    assert config == Config(n_epochs=3, layers=(Layer(heads="batched"),))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"n_epochs": "3"}', "n_epochs='3': expected int"),
        ('{"n_epochs": 0}', "n_epochs=0: expected at least 1"),
        ('{"n_epochs": 3, "name": 2}', "unknown key 'name'; did you mean names?"),
        ('{"n_epochs": 3, "names": ["a", 2]}', r"names\[1\]=2: expected text"),
        ('{"n_epochs": 3, "sizes": {"a": "b"}}', r"sizes\.a='b': expected int"),
        (
            '{"n_epochs": 3, "layer": {"heads": "x"}}',
            "layer.heads='x': expected serial or batched",
        ),
        (
            '{"n_epochs": 3, "layers": [{"heads": "x"}]}',
            r"layers\[0\].heads='x': expected serial or batched",
        ),
        (
            '{"n_epochs": 3, "by_name": {"a": {"heads": "x"}}}',
            r"by_name\.a\.heads='x': expected serial or batched",
        ),
        ('{"n_epochs": 3, "pair": [1]}', r"pair=\[1\]: expected 2 values"),
        ('{"n_epochs": 3, "layers": [3]}', r"layers\[0\]=3: expected object"),
        ('{"n_epochs": true}', "n_epochs=True: expected int"),
        ('{"n_epochs": 1.5}', r"n_epochs=1\.5: expected int"),
        ("{}", "the key 'n_epochs' is missing"),
        ("[]", r"\[\]: expected object"),
        ('{"n_epochs": NaN}', "n_epochs=nan: expected a finite number"),
        ("[" * 100_000, "not JSON"),
        (b"\xff", "not JSON"),
    ],
)
def test_json_of_another_shape_is_one_line_that_names_key_and_value(text, problem):
    with pytest.raises(UsageError, match=rf"^a\.json: {problem}") as raised:
        decode_json(text, Config, what="a.json")

    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(UsageError, match=r"cannot read settings 'no/a': No such file"):
        read_json(Path("no/a"), Config, what="settings")


def test_a_device_is_no_place_for_what_is_read_again():
    with pytest.raises(FileError, match="cannot write '/dev/full': it is a device"):
        check_writable(Path("/dev/full"))
