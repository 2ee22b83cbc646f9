"""Live parties of one deployment behind an emulated network."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection, Sequence, Set
from dataclasses import replace
from itertools import pairwise
from statistics import median
from types import TracebackType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, nn
from numpy.typing import NDArray

from mpcprof.costmodel.ferret import PRIMED_THREADS, THREAD_ENTRIES
from mpcprof.deployment import Deployment
from mpcprof.engine.calls import (
    Call,
    Owned,
    Setup,
    Transfer,
    counted_at_relay,
    counted_by_messages,
    split_outputs,
    to_call,
    to_transfer,
)
from mpcprof.engine.child import ANSWER_LIMIT_S, Child, Reply, ask_all
from mpcprof.engine.emulation.backends import Emulation, check_carries
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.installation import get_runtime
from mpcprof.engine.lowering import Lowered, ShareMaker, lower, runtime_settings
from mpcprof.errors import EngineError, NoAnswerError
from mpcprof.network import LOOPBACK, Network

_logger = logging.getLogger(__name__)
_START_MARGIN_S = 0.002  # for the command to reach every party before the common start
_N_STARTS = 5  # of parties that may hang in their first program
PRIMING_INPUT = np.full((8, 8), 0.5, np.float32)
PRIMING_CASE = "prime"


class Session:
    """One process per party, alive across cases; a context manager.

    The starting thread must outlive the session: the kernel ends the parties with it.

    Args:
        deployment: Build and protocol that the parties run.
        emulation: The network between them; this session closes it.
        is_traced: Whether calls keep their messages, which the relay alone can see.
        clock: Monotonic seconds, common to all processes of this machine.
    """

    def __init__(
        self,
        deployment: Deployment,
        emulation: Emulation,
        *,
        is_traced: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_traced = is_traced
        self.deployment = deployment
        self.emulation = emulation
        self.network = LOOPBACK
        self.late_s = 0.0  # of a round trip, beyond what is emulated; see link_check
        self._build = deployment.build
        self._argv = get_runtime(self._build).party_argv
        self._clock = clock
        self._parties: list[Child] = []
        self._compiler: Child | None = None
        self._shares = ShareMaker(deployment, self._compiler_child)
        self.setup: Setup

    def __enter__(self) -> "Session":
        try:
            check_carries(self.emulation.name, self._build)
            self.setup = self._start_until_primed()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def n_parties(self) -> int:
        """Number of party processes."""
        return self.deployment.n_parties

    def party_pids(self) -> tuple[int, ...]:
        """Return process ids by rank."""
        return tuple(party.pid for party in self._parties)

    def _start_until_primed(self) -> Setup:
        limit_s = self._build.first_call_limit_s
        for n_starts in range(1, _N_STARTS + 1):
            setup = self._start(n_starts)
            if setup:
                return setup
            self.close()
            _logger.warning(
                "%s: the parties hung in their first program, for %g s (%d of %d)",
                *(self.deployment, limit_s, n_starts, _N_STARTS),
            )
        raise NoAnswerError(
            f"{self.deployment}: the parties hung in their first program, {_N_STARTS} "
            f"times for {limit_s:g} s; free the processor, run the same command again"
        )

    def _start(self, n_starts: int) -> Setup | None:
        """Start parties and run their first program; None if they hang in it."""
        begin_s = self._clock()
        self.emulation.start(self.n_parties, 2 if self._build.has_drivers else 1)
        if self._is_traced and isinstance(self.emulation, RelayEmulation):
            self.emulation.keep_messages()
        self.emulation.set_network(LOOPBACK)
        n_threads = threads_of_party(self.n_parties, os.sched_getaffinity(0))
        for rank in range(self.n_parties):
            argv = (*self.emulation.command_prefix(rank), *self._argv)
            cpus = cpus_of_party(rank, self.n_parties, os.sched_getaffinity(0))
            threads = {"OMP_THREAD_LIMIT": str(n_threads)}
            self._parties.append(Child(f"party {rank}", argv, cpus, threads))
        settings = runtime_settings(self.deployment)
        self._ask([{"command": "hello"}] * self.n_parties)
        started_s = self._clock()
        replies = self._ask(
            [
                {
                    "command": "connect",
                    "rank": rank,
                    "addresses": self._addresses(rank),
                    "runtime_config": settings,
                    **self._driver_addresses(rank),
                }
                for rank in range(self.n_parties)
            ]
        )
        versions = replies[0][0]["versions"]
        connect_s = max(r["connect_s"] + r["runtime_s"] for r, _ in replies)
        calls = []
        for x in priming_inputs(self.deployment, os.cpu_count() or 1):
            pair = self._prime(x)
            if pair is None:
                return None
            calls.append(pair)
        more_s = sum(max(a.latency_s - b.latency_s, 0.0) for a, b in calls)
        return Setup(
            n_starts=n_starts,
            start_s=started_s - begin_s,
            setup_s=connect_s + more_s,
            setup_bytes=sum(max(a.total_bytes - b.total_bytes, 0) for a, b in calls),
            versions=tuple(sorted(versions.items())),
        )

    def _prime(self, x: NDArray[np.float32]) -> tuple[Call, Call] | None:
        """Call one program twice: what the first call costs more is set-up.

        None if the first call does not end in the time that it has.
        """
        program = _priming_program if x.ndim == 2 else _threads_program
        case = PRIMING_CASE
        self.load(case, self.lower(case, program, [x]), [x])
        try:
            first = self.run(case, limit_s=self._build.first_call_limit_s)
        except NoAnswerError:
            return None
        calls = first, self.run(case)
        self.unload(case)
        return calls

    def _addresses(self, rank: int, link: int = 0) -> list[str]:
        return [
            self.emulation.listen_address(rank, link)
            if peer == rank
            else self.emulation.peer_address(rank, peer, link)
            for peer in range(self.n_parties)
        ]

    def _driver_addresses(self, rank: int) -> dict[str, object]:
        if not self._build.has_drivers:
            return {}
        return {"driver_addresses": self._addresses(rank, link=1)}

    def _ask(
        self,
        headers: Sequence[dict[str, object]],
        blobs: Sequence[Sequence[bytes]] | None = None,
        limit_s: float = ANSWER_LIMIT_S,
    ) -> list[Reply]:
        watch = self.emulation.watched()
        return ask_all(self._parties, headers, blobs, watch=watch, timeout_s=limit_s)

    def set_network(self, network: Network) -> None:
        """Emulate this network from the next message on."""
        late_s = 0.0 if network.is_loopback else self.late_s
        setting = replace(network, rtt_s=max(network.rtt_s - late_s, 0.0))
        self.emulation.set_network(setting)
        self.network = network

    def lower(
        self,
        case: str,
        function: Callable[..., object],
        inputs: Sequence[NDArray[Any]],
        input_names: Sequence[str] = (),
        output_names: Sequence[str] = (),
    ) -> Lowered:
        """Compile a function for the parties, in a process that may fail on its own.

        Args:
            input_names: See `mpcprof.engine.lowering.lower`.
            output_names: See there.

        Raises:
            EngineError: If it does not compile.
        """
        compiler = self._compiler_child()
        try:
            return lower(
                function,
                inputs,
                case=case,
                deployment=self.deployment,
                compiler=compiler,
                input_names=input_names,
                output_names=output_names,
            )
        except EngineError:
            compiler.close()
            self._compiler = None
            raise

    def _compiler_child(self) -> Child:
        if self._compiler is None:
            self._compiler = Child("compiler", self._argv)
        return self._compiler

    def load(
        self, case: str, lowered: Lowered, inputs: Sequence[NDArray[Any]] = ()
    ) -> None:
        """Give every party the executable and its shares, before any clock starts.

        Args:
            inputs: All inputs; none if they come by `hold`.
        """
        ranks = range(self.n_parties)
        blobs: list[list[bytes]] = [[lowered.code] for _ in ranks]
        n_chunks: list[int] = []
        if inputs:
            shares, n_chunks = self._shares.split(inputs)
            blobs = [[lowered.code, *own] for own in shares]
        header: dict[str, object] = {
            "command": "load",
            "case": case,
            "input_names": list(lowered.input_names) if inputs else [],
            "n_chunks": n_chunks,
        }
        self._ask([header for _ in ranks], blobs)

    def hold(self, input_names: Sequence[str], owned: Owned) -> Transfer:
        """Have a party share its own inputs with the others, over the network.

        This process sees neither the values nor their shares.

        Raises:
            EngineError: If the owner cannot read them; the session is then unusable.
        """
        header = {
            **self._sharing("hold"),
            "owner": owned.rank,
            "input_names": list(input_names),
        }
        own = {
            "path": str(owned.path),
            "entries": list(owned.entries),
            "shapes": [list(shape) for shape in owned.shapes],
        }
        headers = [
            {**header, "rank": rank, **(own if rank == owned.rank else {})}
            for rank in range(self.n_parties)
        ]
        return to_transfer(self._ask(headers))

    def reveal(self, case: str, receiver: int) -> tuple[NDArray[np.float64], Transfer]:
        """Return the output of the last run of a case, which `receiver` alone joins.

        Raises:
            EngineError: If a party fails.
        """
        header = {**self._sharing("reveal"), "case": case, "receiver": receiver}
        replies = self._ask([{**header, "rank": r} for r in range(self.n_parties)])
        answer, (content,) = replies[receiver]
        array = np.frombuffer(content).reshape(answer["shape"])
        return array, to_transfer(replies)

    def _sharing(self, command: str) -> dict[str, object]:
        return {
            "command": command,
            "n_parties": self.n_parties,
            "runtime_config": runtime_settings(self.deployment),
            **self._common_start(),
        }

    def _common_start(self) -> dict[str, object]:
        """Return what tells the parties when to begin together."""
        return {"start_at_s": self._clock() + _START_MARGIN_S}

    def run(self, case: str, *, limit_s: float = ANSWER_LIMIT_S) -> Call:
        """Run a loaded case once on the present network.

        Raises:
            EngineError: If a party fails; its reason is the message.
            NoAnswerError: If a party is not done in `limit_s`; close the session then.
        """
        self.emulation.reset_counters()
        header = {"command": "run", "case": case, **self._common_start()}
        replies = self._ask([header] * self.n_parties, limit_s=limit_s)
        call = to_call(replies, self.emulation.counters())
        if self._build.counts_bytes or self.network.is_loopback:
            return call
        if call.counters is None:
            raise EngineError(
                f"{self._build.name} does not print bytes and they are counted at "
                f"the relay; use --emulation relay instead of {self.emulation.name}"
            )
        return replace(call, runs=counted_at_relay(call.runs, call.counters))

    def count(self, case: str, network: Network) -> Call:
        """Run a loaded case, on the present network, with messages that tell hops.

        Args:
            network: Network on which the longest chain is sought; none is waited for.

        Raises:
            EngineError: If a party fails; its reason is the message.
        """
        header = {
            "command": "count",
            "case": case,
            "start_at_s": self._clock() + _START_MARGIN_S,
            "delay_s": network.one_way_s,
            "seconds_per_byte": 1 / network.bandwidth_bytes_per_s,
        }
        replies = self._ask([header] * self.n_parties)
        return to_call(replies, counted_by_messages(replies))

    def fetch(self, case: str) -> NDArray[np.float64]:
        """Return the revealed output of the last run of a case.

        Several outputs come as one vector, one after another.
        """
        replies = self._ask([{"command": "fetch", "case": case}] * self.n_parties)
        by_rank = [split_outputs(reply["n_chunks"], blobs) for reply, blobs in replies]
        outputs = [self._shares.join(own) for own in zip(*by_rank, strict=True)]
        if len(outputs) == 1:
            return outputs[0]
        return np.concatenate([output.ravel() for output in outputs])

    def unload(self, case: str) -> None:
        """Forget a case on every party."""
        self._ask([{"command": "unload", "case": case}] * self.n_parties)

    def exchange_s(self, n_exchanges: int = 60) -> float:
        """Return the seconds in which all parties exchange an empty message: one hop.

        Median over pairs of exchanges: parties that begin apart take turns in waiting
        too long and too short, and two in a row take two hops together.
        """
        header = {
            "command": "exchange",
            "n_exchanges": n_exchanges,
            **self._common_start(),
        }
        replies = self._ask([header] * self.n_parties)
        times_s = [float(time_s) for time_s in replies[0][0]["exchanges_s"]]
        return median((a + b) / 2 for a, b in pairwise(times_s))

    def goodput_bytes_per_s(
        self,
        *,
        message_bytes: int,
        n_messages: int,
        pairs: Collection[tuple[int, int]] = (),
    ) -> dict[tuple[int, int], float]:
        """Return rates by sender and receiver, all of them busy at the same time.

        Args:
            pairs: Senders and receivers; all of them if none. SPU 0.9.5 only.
        """
        ranks = range(self.n_parties)
        busy = pairs or [(a, b) for a in ranks for b in ranks if a != b]
        replies = self._ask(
            [
                {
                    "command": "stream",
                    "message_bytes": message_bytes,
                    "n_messages": n_messages,
                    "seconds_per_byte": 1 / self.network.bandwidth_bytes_per_s,
                    "peers": [sender for sender, to in busy if to == rank],
                    "receivers": [to for sender, to in busy if sender == rank],
                    **self._common_start(),
                }
                for rank in ranks
            ]
        )
        return {
            (int(sender), receiver): float(rate)
            for receiver, (reply, _) in enumerate(replies)
            for sender, rate in reply["goodput_bytes_per_s_by_peer"].items()
        }

    def close(self) -> None:
        """End parties and network, each even if another fails; safe to call twice."""
        children = [*self._parties, *([self._compiler] if self._compiler else [])]
        self._parties = []
        self._compiler = None
        with contextlib.ExitStack() as stack:  # the last one in is closed first
            stack.callback(self.emulation.close)
            for child in reversed(children):
                stack.callback(child.close)


def cpus_of_party(rank: int, n_parties: int, cpus: Set[int]) -> frozenset[int]:
    """Return a party's equal share of the processors, none in common with others.

    Parties stand for different machines: none may borrow the processor of one that
    waits for the network. Empty, which means all, where there are too few to share.
    """
    share = len(cpus) // n_parties
    return frozenset(sorted(cpus)[rank * share : (rank + 1) * share])


def threads_of_party(n_parties: int, cpus: Set[int]) -> int:
    """Return how many threads of a party find a processor: its share, at least 1.

    Eigen, which multiplies SPU's matrices, starts one thread per processor of the
    machine, and they wait for each other in a loop. Two on one processor do so until
    the scheduler takes it away: 40 ms for a product of 65x64x64 instead of 1 ms.
    """
    return max(len(cpus) // n_parties, 1)


def _priming_program(x: Array) -> Array:
    """Do a matrix product, comparison, exponential and division: a bit of all.

    It runs before all cases, so that none of them pays for keys and tables.
    """
    return jnp.exp(-nn.relu(x @ x)) / (1.0 + jnp.max(x, axis=-1, keepdims=True))


def _threads_program(x: Array) -> Array:
    """Compare entries for every thread of a party: transfers in both directions."""
    positive: Array = nn.relu(x)
    return positive


def priming_inputs(
    deployment: Deployment, n_processors: int
) -> tuple[NDArray[np.float32], ...]:
    """Return the inputs of the priming programs, one after another.

    Cheetah's threads each have stocks of transfers, which the first operation makes
    that has entries for them: on a network it would pay some 250 hops for each.
    """
    inputs = (PRIMING_INPUT,)
    n_threads = min(n_processors, PRIMED_THREADS)
    if not deployment.keeps_stock or n_threads < 2:
        return inputs
    return (*inputs, np.full(n_threads * THREAD_ENTRIES, 0.5, np.float32))


def lower_priming(deployment: Deployment, compiler: Child) -> Lowered:
    """Compile the program that parties run first, as a session does."""
    return lower(
        _priming_program,
        [PRIMING_INPUT],
        case=PRIMING_CASE,
        deployment=deployment,
        compiler=compiler,
    )
