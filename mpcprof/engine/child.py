"""Child processes of the engine: started, asked, watched, and always ended."""

import contextlib
import ctypes
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import IO, Protocol

from mpcprof.engine.failure import one_line
from mpcprof.engine.party.framing import (
    ChannelClosedError,
    Header,
    receive_frame,
    send_frame,
)
from mpcprof.errors import (
    BackendUnavailableError,
    EngineError,
    NoAnswerError,
    PartyDiedError,
)
from mpcprof.isolation import child_environment, module_argv

Reply = tuple[Header, list[bytes]]

ANSWER_LIMIT_S = 3600.0
_POLL_S = 0.2
_GRACE_S = 2.0
_TAIL_BYTES = 100_000
_LEAST_ROOM_BYTES = 1 << 16  # above what one write of a log takes
_PR_SET_PDEATHSIG = 1
_FATAL = "Fatal Python error"  # of a crash, followed by a stack


class Watched(Protocol):
    """Somebody whose end is the end of what the children are asked for."""

    def is_alive(self) -> bool:
        """Tell whether it is there."""

    def died(self) -> PartyDiedError:
        """Return the error that says how it ended."""


class Child:
    """A process that answers frames over a socket and writes its log to a file.

    Both ends of its life are tied to this process: the kernel kills it when the
    starting thread ends, and it exits when the socket closes. The log has no name: it
    is gone with the two, however they end.

    Args:
        name: Name of the child in messages.
        argv: Command line, without the channel's descriptor, which comes last.
        cpus: Processors it may use; all of this process's if empty.
        environment: Variables that it has besides this process's.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        cpus: frozenset[int] = frozenset(),
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self._environment = environment
        self.is_in_step = True  # every question it was asked has been answered
        self._log = _open_log()
        self.channel, theirs = socket.socketpair()
        with theirs, _only_on(cpus):
            self._process = self._start([*argv, str(theirs.fileno())], theirs)

    def _start(self, argv: list[str], theirs: socket.socket) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=child_environment(self._environment),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # a Ctrl-C at the terminal is ours to handle
            )
        except OSError as error:
            self.channel.close()
            self._log.close()
            raise BackendUnavailableError(
                f"{self.name} cannot be started: {argv[0]}: {error.strerror}"
            ) from None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Tell whether the process still runs."""
        return self._process.poll() is None

    def ask(self, header: Header, blobs: Sequence[bytes] = ()) -> Header:
        """Ask one question; return its answer. See `ask_all`."""
        return self.ask_with_blobs(header, blobs)[0]

    def ask_with_blobs(self, header: Header, blobs: Sequence[bytes]) -> Reply:
        """Ask one question; return its answer and raw bytes. See `ask_all`."""
        return ask_all([self], [header], [blobs])[0]

    def died(self) -> PartyDiedError:
        """Return the error that says how it ended and what it printed last."""
        try:
            code = self._process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            return PartyDiedError(f"{self.name} closed its channel but still runs")
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        return PartyDiedError(
            f"{self.name} {how}; nothing of this case was recorded, run the same "
            f"command again to go on. It printed last: {self.last_words()}"
        )

    def last_words(self) -> str:
        """Return the line that tells best why it ended; keep the stack of a crash."""
        tail = self.tail()
        if _FATAL in tail:
            return one_line(tail, self.name)
        return self._last_line()

    def check_log(self) -> None:
        """Refuse to go on where the log may lack what the child printed.

        Raises:
            EngineError: If the folder of temporary files is full, or a file may not
                grow; the message names it.
        """
        log = self._log.fileno()
        place, most_bytes = (
            os.fstatvfs(log),
            resource.getrlimit(resource.RLIMIT_FSIZE)[0],
        )
        n_free = place.f_bavail if os.geteuid() else place.f_bfree
        is_full = place.f_blocks and n_free * place.f_frsize < _LEAST_ROOM_BYTES
        if is_full or 0 <= most_bytes <= os.fstat(log).st_size:
            reason = "no space left" if is_full else f"no file above {most_bytes} bytes"
            raise EngineError(
                f"{self.name} cannot write its log: {reason} in "
                f"{tempfile.gettempdir()}; make room, or set TMPDIR to another folder"
            )

    def _last_line(self) -> str:
        lines = [line.strip() for line in self.tail().splitlines() if line.strip()]
        return (lines or ["(nothing)"])[-1]

    def tail(self) -> str:
        """Return the end of what it printed."""
        log = self._log.fileno()
        begin = max(os.fstat(log).st_size - _TAIL_BYTES, 0)
        # the position is the child's as well and must not move
        return os.pread(log, _TAIL_BYTES, begin).decode("utf-8", "replace")

    def close(self) -> None:
        """End the process, by force if it does not listen, and drop its log."""
        self.channel.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._log.close()


def _open_log() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise EngineError(f"no place for a log: {error.strerror}") from None


@contextlib.contextmanager
def _only_on(cpus: frozenset[int]) -> Iterator[None]:
    """Keep this thread to processors, which a process that it starts inherits."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def python_child(name: str, module: str) -> Child:
    """Start a child of this same Python that runs one of our modules."""
    return Child(name, module_argv(module))


def ask_all(
    children: Sequence[Child],
    headers: Sequence[Header],
    blobs: Sequence[Sequence[bytes]] | None = None,
    *,
    watch: Sequence[Watched] = (),
    timeout_s: float = ANSWER_LIMIT_S,
    clock: Callable[[], float] = time.monotonic,
) -> list[Reply]:
    """Ask every child at once and wait for all the answers.

    Raises:
        PartyDiedError: If a child, or one of `watch`, ended meanwhile.
        EngineError: If a child answers with an error.
        NoAnswerError: If a child does not answer within `timeout_s`.
    """
    for child in children:
        if not child.is_in_step:
            raise EngineError(
                f"{child.name} waits for a peer that failed; start a new session"
            )
    for child, header, parts in zip(
        children, headers, blobs or [()] * len(children), strict=True
    ):
        child.is_in_step = False
        try:
            send_frame(child.channel, header, parts)
        except ChannelClosedError:
            raise child.died() from None
    return _receive_all(children, watch, clock() + timeout_s, clock)


def _receive_all(
    children: Sequence[Child],
    watch: Sequence[Watched],
    deadline_s: float,
    clock: Callable[[], float],
) -> list[Reply]:
    replies: dict[str, Reply] = {}
    with selectors.DefaultSelector() as selector:
        for child in children:
            selector.register(child.channel, selectors.EVENT_READ, child)
        while len(replies) < len(children):
            ready = selector.select(_POLL_S)
            for key, _ in ready:
                child = key.data
                replies[child.name] = _receive(child)
                selector.unregister(child.channel)
            if ready:
                continue
            watched: tuple[Watched, ...] = (*children, *watch)
            for one in watched:
                if not one.is_alive():
                    raise one.died()
            if clock() > deadline_s:
                silent = [child.name for child in children if child.name not in replies]
                raise NoAnswerError(f"no answer from {', '.join(silent)} in time")
    return [replies[child.name] for child in children]


def _receive(child: Child) -> Reply:
    try:
        header, parts = receive_frame(child.channel)
    except ChannelClosedError:
        raise child.died() from None
    child.is_in_step = True
    child.check_log()
    if "error" in header:
        reason = one_line(header["error"], child.name)
        raise EngineError(f"{child.name}: {reason}")
    return header, parts


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent is gone (Linux only).

    Elsewhere the closed control channel does it, as soon as the process reads it. A
    SIGTERM to the whole group is for the parent, which says what is kept.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def run_first() -> None:
    """Run this process before ordinary ones, where that is allowed.

    A delay line that waits for a processor adds that wait to every message: with two
    busy loops on two cores a round trip of 40 ms became 48 ms. Threads inherit it.
    """
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
