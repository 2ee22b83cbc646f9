"""Child processes are asked, watched and ended, whatever happens."""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import pytest

from mpcprof.engine.child import Child, ask_all
from mpcprof.errors import EngineError, PartyDiedError
from tests.processes import is_running, still_running

PROGRAM = """
import os, signal, socket, sys, time
from mpcprof.engine.party.framing import ChannelClosedError, receive_frame, send_frame

channel = socket.socket(fileno=int(sys.argv[1]))
while True:
    try:
        header, blobs = receive_frame(channel)
    except ChannelClosedError:
        break
    command = header["command"]
    if command == "echo":
        send_frame(channel, {"n_blobs": len(blobs), "said": header["say"]}, blobs)
    elif command == "cpus":
        send_frame(channel, {"cpus": sorted(os.sched_getaffinity(0))})
    elif command == "fail":
        send_frame(channel, {"error": "ValueError: no such case"})
    elif command == "say":
        print(header["text"], end="", flush=True)
        send_frame(channel, {})
    elif command == "die":
        print("first words", flush=True)
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), header["signal"])
    elif command == "exit":
        sys.exit(3)
    elif command == "hush":
        channel.close()
        time.sleep(60)
    else:
        time.sleep(60)
"""

# starts a child, says its process id, and waits to be killed
CONTROLLER = """
import sys, time
from mpcprof.engine.child import Child

child = Child("orphan", sys.argv[1:])
child.ask({"command": "echo", "say": "started"})
print(child.pid, flush=True)
time.sleep(60)
"""

BUSY = """
import socket, sys, time
from mpcprof.engine.party.framing import receive_frame, send_frame
from mpcprof.engine.child import die_with_parent

die_with_parent()
channel = socket.socket(fileno=int(sys.argv[1]))
receive_frame(channel)
send_frame(channel, {})
time.sleep(60)  # and hears no more
"""


@pytest.fixture
def start(tmp_path):
    """Starts children that run `PROGRAM`, and closes them."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    children = []

    def start_one(name="child", cpus=frozenset()):
        children.append(Child(name, [sys.executable, str(script)], cpus))
        return children[-1]

    yield start_one
    for child in children:
        child.close()


def test_an_answer_carries_header_and_blobs(start):
    child, blobs = start(), [b"", b"x" * 3_000_000, b"\x00\xff"]

    [(header, echoed)] = ask_all([child], [{"command": "echo", "say": "a"}], [blobs])

    assert header == {"n_blobs": 3, "said": "a"}
    assert echoed == blobs


def test_answers_come_in_the_order_of_the_children(start):
    children = [start(f"child {index}") for index in range(3)]
    questions = [{"command": "echo", "say": index} for index in range(3)]

    replies = ask_all(children, questions)

    assert [header["said"] for header, _ in replies] == [0, 1, 2]


def test_an_error_is_an_answer_and_the_child_goes_on(start):
    child = start("party 1")

    with pytest.raises(EngineError, match=r"^party 1: ValueError: no such case$"):
        child.ask({"command": "fail"})

    assert child.ask({"command": "echo", "say": "on"})["said"] == "on"


def test_a_killed_child_is_reported_with_its_signal_and_its_last_line(start):
    child = start("party 1")

    with pytest.raises(
        PartyDiedError, match=r"party 1 was killed by signal 9;.* last words$"
    ):
        child.ask({"command": "die", "signal": signal.SIGKILL})

    assert not child.is_alive()


def test_a_child_that_ended_by_itself_is_reported_with_its_exit_code(start):
    child = start("party 0")

    with pytest.raises(PartyDiedError, match=r"party 0 ended with 3;.*\(nothing\)$"):
        child.ask({"command": "exit"})


def test_a_child_that_is_dead_already_cannot_be_asked(start):
    child = start()
    os.kill(child.pid, signal.SIGTERM)
    assert still_running([child.pid]) == []

    with pytest.raises(PartyDiedError, match="was killed by signal 15"):
        child.ask({"command": "echo", "say": "?"})


def test_a_child_that_closes_its_channel_and_lives_is_reported(start, monkeypatch):
    monkeypatch.setattr("mpcprof.engine.child._GRACE_S", 0.1)
    child = start()

    with pytest.raises(PartyDiedError, match="closed its channel but still runs"):
        child.ask({"command": "hush"})


def test_the_death_of_a_watched_child_ends_the_wait_for_others(start):
    asked, relay = start("party 0"), start("relay")
    os.kill(relay.pid, signal.SIGKILL)

    with pytest.raises(PartyDiedError, match="relay was killed by signal 9"):
        ask_all([asked], [{"command": "sleep"}], watch=[relay])


def test_a_child_that_does_not_answer_in_time_is_an_error(start):
    hours_s = (3600.0 * n for n in itertools.count())

    with pytest.raises(EngineError, match="no answer from child in time"):
        ask_all(
            [start()],
            [{"command": "sleep"}],
            timeout_s=60.0,
            clock=lambda: next(hours_s),
        )


def test_a_log_has_no_name_that_a_killed_controller_could_leave(
    start, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "logs"))
    (tmp_path / "logs").mkdir()
    child = start("closing")

    left = [*(tmp_path / "logs").iterdir()]
    child.close()

    assert left == []
    assert not is_running(child.pid)


def test_reading_the_log_leaves_the_next_words_where_they_belong(start):
    child = start("party 0")
    child.ask({"command": "say", "text": "first\n"})
    assert child._last_line() == "first"

    child.ask({"command": "say", "text": "second " * 1000 + "\n"})

    assert child._last_line().endswith("second second")
    child.ask({"command": "say", "text": "third"})
    assert child._last_line() == "third"


def test_closing_ends_a_child_that_does_not_listen(start):
    child = start()
    with pytest.raises(EngineError, match="no answer"):
        ask_all([child], [{"command": "sleep"}], timeout_s=0.0)

    child.close()

    assert not is_running(child.pid)


def test_closing_twice_does_no_harm(start):
    child = start()

    child.close()
    child.close()

    assert not child.is_alive()


def test_a_child_keeps_to_its_processors_and_the_parent_to_its_own(start):
    before = os.sched_getaffinity(0)
    one = frozenset([max(before)])

    child = start(cpus=one)

    assert child.ask({"command": "cpus"})["cpus"] == sorted(one)
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("program", [PROGRAM, BUSY], ids=["listens", "busy"])
def test_a_child_ends_when_its_parent_is_killed(tmp_path, program):
    script = tmp_path / "program.py"
    script.write_text(program)
    argv = [sys.executable, "-c", CONTROLLER, sys.executable, str(script)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as controller:
        pid = int(controller.stdout.readline())
        assert is_running(pid)

        controller.kill()
        controller.wait()

        assert still_running([pid]) == []


def test_a_log_that_may_not_grow_is_said_so_with_its_folder(start, monkeypatch):
    child = start("party 1")
    monkeypatch.setattr("mpcprof.engine.child.resource.getrlimit", lambda _: (3, -1))

    with pytest.raises(
        EngineError,
        match=r"party 1 cannot write its log: no file above 3 bytes in /.*; make room",
    ):
        child.ask({"command": "say", "text": "four"})


def test_a_full_folder_of_temporary_files_is_said_so(start, monkeypatch):
    child = start("party 1")
    full = SimpleNamespace(f_blocks=9, f_bfree=1, f_bavail=1, f_frsize=4096)
    monkeypatch.setattr(os, "fstatvfs", lambda _: full)

    with pytest.raises(
        EngineError, match=r"log: no space left in /.*, or set TMPDIR to another folder"
    ):
        child.ask({"command": "say", "text": "lost"})


def test_no_folder_for_temporary_files_is_said_so(start, monkeypatch):
    def refuse():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)

    with pytest.raises(EngineError, match="no place for a log: No usable temporary"):
        start("party 1")
