"""Work on a Ray cluster: a worker on each host, which keeps what it has set up.

    with Cluster("10.0.0.1:6379", make_worker, progress) as cluster:
        for share in cluster.run(range(40), most_each=6):
            ...

Items are numbers, which workers and the driver read alike. Ray starts the processes and
tells which hosts there are and which are lost; what a lost one had goes to another.
"""

import contextlib
import importlib
import importlib.metadata
import logging
import math
import os
import pickle
import signal
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from mpcprof.errors import (
    BackendUnavailableError,
    EngineError,
    MpcprofError,
    UsageError,
)
from mpcprof.isolation import shield
from mpcprof.progress import SILENT, Progress
from mpcprof.provenance import commit
from mpcprof.units import format_duration

_TICK_S: Final = 1.0  # between two looks at which hosts there are
_CONNECT_S: Final = 5.0
_GOODBYE_S: Final = 10.0  # for workers to end their parties
_MOST_STARTS: Final = 3  # of a worker on a host, and of workers lost with an item
_WAITED_S: Final = 30.0  # is said, when nobody works

Answer_co = TypeVar("Answer_co", covariant=True)


class Worker(Protocol[Answer_co]):
    """What works on a host; it stays there from share to share."""

    def take(self, items: tuple[int, ...]) -> Answer_co:
        """Do these items, and return what came of them.

        Raises:
            EngineError: If this host cannot; others may.
            MpcprofError: If no host can.
        """

    def close(self) -> None:
        """End what was set up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What came of a few items.

    Attributes:
        host: Name of the host in the cluster.
        answer: Answer of the worker.
        error: Why there is none.
        idle_s: Seconds since the worker's last share: what handing out took.
        busy_s: Seconds of the work.
    """

    host: str
    items: tuple[int, ...]
    answer: Any  # Any: the worker's
    error: MpcprofError | None
    idle_s: float
    busy_s: float


class Resident:
    """The process of a worker, as Ray starts it.

    Args:
        make: Pickled function without arguments that makes the worker.
        host: Its name in the cluster.
    """

    def __init__(self, make: bytes, host: str) -> None:
        shield()
        self._make = make
        self._host = host
        self._worker: Worker[object] | None = None
        self._free_s = math.nan

    def version(self) -> str:
        """Return which mpcprof this host has; from then on it waits for work."""
        self._free_s = time.monotonic()
        return own_version()

    def take(self, items: tuple[int, ...]) -> Share:
        """Let the worker do these items."""
        begin_s = time.monotonic()
        idle_s, answer = begin_s - self._free_s, None
        reason: MpcprofError | None = None
        try:
            if self._worker is None:
                self._worker = pickle.loads(self._make)()
            answer = self._worker.take(items)
        except EngineError as error:  # those with more than a message do not travel
            reason = EngineError(str(error))
        except MpcprofError as error:
            reason = error
        self._free_s = time.monotonic()
        return Share(
            host=self._host,
            items=items,
            answer=answer,
            error=reason,
            idle_s=idle_s,
            busy_s=self._free_s - begin_s,
        )

    def close(self) -> None:
        """End what the worker set up."""
        if self._worker is not None:
            self._worker.close()


def own_version() -> str:
    """Return version and commit, which are the same on all hosts of a cluster."""
    version = f"mpcprof {importlib.metadata.version('mpcprof')}"
    source = commit()
    return f"{version} ({source})" if source else version


@dataclass(slots=True, kw_only=True, eq=False)
class _Hired:
    """A worker as the driver sees it: an actor, and what it is asked just now."""

    actor: Any  # Any: Ray's, as are the references below
    node: str
    host: str
    asked: Any = None
    items: tuple[int, ...] = field(default=())
    is_ready: bool = False


class Cluster:
    """The hosts of a Ray cluster, each with workers of its own; a context.

    A worker takes all processors and GPUs of its host, or its part of them, so that
    nothing else of this cluster runs beside it; hosts without processors, as a head
    may be started, get none.

    Args:
        address: Of Ray's head, HOST:PORT, or `auto` on a host of the cluster.
        make_worker: Function that makes a worker; it is sent to the hosts.
        n_each: Number of workers on each host.

    Attributes:
        idle_s: Seconds that workers waited for work between two shares, in all.
        busy_s: Seconds of their work, in all.

    Raises:
        BackendUnavailableError: On entry, without Ray.
        EngineError: On entry, if there is no cluster.
    """

    def __init__(
        self,
        address: str,
        make_worker: Callable[[], Worker[Any]],  # Any: what `run` yields
        progress: Progress = SILENT,
        *,
        n_each: int = 1,
    ) -> None:
        self._address = address
        self._make_worker = make_worker
        self._progress = progress
        self._n_each = n_each
        self._hired: list[_Hired] = []
        self._n_started = Counter[str]()
        self._refused: dict[str, str] = {}
        self._waiting: deque[int] = deque()
        self._n_lost = Counter[int]()
        self._ray: Any = None
        self._make = b""
        self._version = own_version()
        self.idle_s = self.busy_s = 0.0

    def __enter__(self) -> "Cluster":
        self._ray = connect(self._address)
        self._make = self._ray.cloudpickle.dumps(self._make_worker)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            free = [one for one in self._hired if one.is_ready and one.asked is None]
            asked = [one.actor.close.remote() for one in free]
            with contextlib.suppress(self._ray.exceptions.RayError):
                if asked:
                    self._ray.wait(asked, num_returns=len(asked), timeout=_GOODBYE_S)
            for one in self._hired:
                self._ray.kill(one.actor)
        finally:
            self._ray.shutdown()

    def run(
        self,
        items: Sequence[int],
        most_each: int = 1,
        on_tick: Callable[[], None] = lambda: None,
    ) -> Generator[Share, None, None]:
        """Yield the share of a worker whenever one is done, until all items are.

        Args:
            most_each: Most items of a share; towards the end there are fewer.
            on_tick: Called every second or so.

        Raises:
            EngineError: If no host is left, or an item's workers die again and again.
            MpcprofError: What a worker says that holds for every host.
        """
        self._waiting.extend(items)
        waited_since_s = time.monotonic()
        while self._waiting or any(one.items for one in self._hired):
            on_tick()
            self._hire()
            self._hand_out(most_each)
            asked = {one.asked: one for one in self._hired if one.asked is not None}
            done = self._wait([*asked])
            answers = [self._answer(asked[one]) for one in done]
            self._hand_out(most_each)  # hosts go on while the caller writes to disk
            yield from (share for share in answers if share is not None)
            if done or any(one.items for one in self._hired):
                waited_since_s = time.monotonic()
            elif time.monotonic() - waited_since_s > _WAITED_S:
                waited_since_s = time.monotonic()
                self._progress.say(
                    "cluster: no host has its processors free for a worker; waiting"
                )

    def _wait(self, asked: list[Any]) -> list[Any]:  # Any: Ray's references
        """Wait until something has an answer; return all that have."""
        if not asked:
            time.sleep(_TICK_S)
            return []
        self._ray.wait(asked, timeout=_TICK_S)
        done, _ = self._ray.wait(asked, num_returns=len(asked), timeout=0)
        return [*done]

    def dispatch(self, setup_s: float = 0.0) -> str:
        """Return in words what handing out took.

        Args:
            setup_s: Seconds of set-up on all hosts, which are no work.
        """
        hosts, work_s = {one.host for one in self._hired}, self.busy_s - setup_s
        share = self.idle_s / work_s if work_s > 0 else 0.0
        return (
            f"cluster: {len(hosts)} host{'s' * (len(hosts) != 1)}; handing out took "
            f"{format_duration(self.idle_s, digits=2)}, {share:.2%} of the "
            f"{format_duration(max(work_s, 0.0), digits=3)} of work"
        )

    def _hire(self) -> None:
        """Start workers on hosts that are new, or whose worker died.

        Raises:
            EngineError: If every host is left out.
        """
        if not self._waiting:
            return
        hosts = [node for node in self._ray.nodes() if _has_processors(node)]
        for node in hosts:
            here = sum(one.node == node["NodeID"] for one in self._hired)
            for _ in range(self._n_each - here):
                if node["NodeID"] not in self._refused:
                    self._start(node)
        if not self._hired:
            reasons = "; ".join(self._refused.values()) or "no host has processors"
            raise EngineError(f"cluster {self._address}: no host is left: {reasons}")

    def _start(self, node: dict[str, Any]) -> None:  # Any: as Ray describes a host
        key, host = node["NodeID"], str(node["NodeManagerHostname"])
        names = [one.host for one in self._hired if one.node != key]
        if host in names:  # several nodes of one machine
            host = f"{host}-{key[:6]}"
        if self._n_started[key] == _MOST_STARTS * self._n_each:
            self._refuse(key, f"host {host}: its worker died {_MOST_STARTS} times")
            return
        self._n_started[key] += 1
        resources = node["Resources"]
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        actor = (
            self._ray.remote(Resident)
            .options(
                num_cpus=_part(resources["CPU"], self._n_each),
                num_gpus=_part(resources.get("GPU", 0.0), self._n_each),
                scheduling_strategy=strategies.NodeAffinitySchedulingStrategy(
                    key, soft=False
                ),
            )
            .remote(self._make, host)
        )
        asked = actor.version.remote()
        self._hired.append(_Hired(actor=actor, node=key, host=host, asked=asked))

    def _hand_out(self, most_each: int) -> None:
        free = [one for one in self._hired if one.is_ready and one.asked is None]
        for one in free:
            if not self._waiting:
                return
            # the last shares are small, so that no host idles behind another
            even = math.ceil(len(self._waiting) / (2 * len(self._hired)))
            n_items = min(most_each, even)
            one.items = tuple(self._waiting.popleft() for _ in range(n_items))
            one.asked = one.actor.take.remote(one.items)

    def _answer(self, one: _Hired) -> Share | None:
        """Return what a worker has done; None if that was nothing."""
        asked, one.asked = one.asked, None
        try:
            answer = self._ray.get(asked)
        except self._ray.exceptions.RayActorError as error:
            self._lose(one, error)
            return None
        if not one.is_ready:
            self._welcome(one, answer)
            return None
        items, one.items = one.items, ()
        self.idle_s += answer.idle_s
        self.busy_s += answer.busy_s
        if isinstance(answer.error, EngineError):
            self._waiting.extendleft(reversed(items))
            self._refuse(one.node, f"host {one.host}: {answer.error}")
            return None
        if answer.error is not None:
            raise answer.error
        share: Share = answer
        return share

    def _welcome(self, one: _Hired, version: str) -> None:
        if version != self._version:
            self._refuse(
                one.node,
                f"host {one.host} has {version}, this one {self._version}: install the "
                "same there",
            )
            return
        one.is_ready = True
        self._progress.say(f"cluster: {one.host} is ready")

    def _lose(self, one: _Hired, error: Exception) -> None:
        """Give what a lost worker had to others.

        Raises:
            EngineError: If its items were lost with other workers before.
        """
        self._hired.remove(one)
        self._waiting.extendleft(reversed(one.items))
        self._n_lost.update(one.items)
        reason = str(error).strip().splitlines() or [type(error).__name__]
        if not one.is_ready:
            self._refuse(one.node, f"host {one.host}: no worker starts: {reason[-1]}")
            return
        self._progress.say(
            f"cluster: lost the worker on {one.host}; {len(one.items)} of its items "
            "go to the others"
        )
        if max((self._n_lost[item] for item in one.items), default=0) >= _MOST_STARTS:
            raise EngineError(
                f"cluster {self._address}: {_MOST_STARTS} workers died at the same "
                f"work, the last on {one.host}; what was finished is kept"
            )

    def _refuse(self, node: str, reason: str) -> None:
        """Leave a host out from now on."""
        self._refused[node] = reason
        for one in [one for one in self._hired if one.node == node]:
            if not one.items:
                self._hired.remove(one)
                self._ray.kill(one.actor)
        self._progress.say(f"cluster: left out: {reason}")


def connect(address: str) -> Any:  # Any: the module of Ray, an extra
    """Join a cluster and return Ray's module.

    Raises:
        BackendUnavailableError: Without Ray.
        UsageError: If it is no address.
        EngineError: If there is no cluster at the address.
    """
    # of Ray's lines, some of which go to standard output, we say what matters
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise BackendUnavailableError(
            "--cluster needs Ray, which is not installed here: "
            "pip install 'mpcprof[ray]', on every host of the cluster"
        ) from None
    expected = "expected HOST:PORT of a `ray start --head`, or auto beside one"
    host, _, port = address.rpartition(":")
    if address != "auto" and not (host and port.isdecimal() and "/" not in address):
        raise UsageError(f"--cluster {address!r}: {expected}")
    on_stop = signal.getsignal(signal.SIGTERM)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        if address != "auto":
            socket.create_connection((host, int(port)), _CONNECT_S).close()
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, OverflowError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EngineError(
            f"--cluster {address}: no cluster of Ray there ({reason}); {expected}"
        ) from None
    finally:
        if on_stop is not None and "ray" in sys.modules:
            signal.signal(signal.SIGTERM, on_stop)  # Ray has one that says nothing
    return ray


def _has_processors(node: dict[str, Any]) -> bool:  # Any: as Ray describes a host
    return bool(node["Alive"] and node["Resources"].get("CPU"))


def _part(amount: float, n_parts: int) -> float:
    """Return the part of a resource; Ray takes whole numbers, or parts of one."""
    part = amount / n_parts
    return float(int(part)) if part >= 1 else part
