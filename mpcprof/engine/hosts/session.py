"""Parties on several hosts, led from the host of rank 0; used as a `Session` is."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mpcprof.deployment import Deployment
from mpcprof.engine.calls import Owned, Setup
from mpcprof.engine.child import ANSWER_LIMIT_S, Reply
from mpcprof.engine.emulation.clock import Counters
from mpcprof.engine.hosts.party_file import PartyFile
from mpcprof.engine.hosts.station import Station, check_same_build
from mpcprof.engine.lowering import Lowered
from mpcprof.engine.party.framing import Header
from mpcprof.engine.session import PRIMING_INPUT, Session
from mpcprof.errors import EngineError, UsageError
from mpcprof.network import Network

_OWN: Final = 0
ELSEWHERE: Final = Path("at its owner")  # of a file that this host does not have


class RealLink:
    """The network that is there; an `Emulation` that emulates nothing."""

    name = "hosts"

    def start(self, n_parties: int, n_links: int = 1) -> None:
        """Do nothing: the hosts are there."""

    def command_prefix(self, rank: int) -> tuple[str, ...]:
        """Return no words."""
        return ()

    def listen_address(self, rank: int, link: int = 0) -> str:
        """Return nothing: the party file says it."""
        return ""

    def peer_address(self, rank: int, peer: int, link: int = 0) -> str:
        """Return nothing: the party file says it."""
        return ""

    def set_network(self, network: Network) -> None:
        """Do nothing: the network is as it is."""

    def reset_counters(self) -> None:
        """Do nothing: nothing is counted between hosts."""

    def counters(self) -> Counters | None:
        """Return None: nothing is counted between hosts."""
        return None

    def watched(self) -> tuple[()]:
        """Return nothing: a station watches its peers."""
        return ()

    def close(self) -> None:
        """Do nothing."""


class HostedSession(Session):
    """A session whose other parties were started on other hosts.

    Nothing of another host is seen here but what its program answers: lengths of
    calls, bytes, and, for rank 0, results. Parties agree to a program before inputs.

    Args:
        deployment: Protocol and options, which the other parties accept or refuse.
        party_file: Of this host; its rank is 0.
        hint: What helps others to make the same program, such as the batch.
        clock: Monotonic seconds of this host alone.

    Raises:
        UsageError: If the file is of another rank, build or number of parties.
    """

    def __init__(
        self,
        deployment: Deployment,
        party_file: PartyFile,
        *,
        hint: dict[str, int] | None = None,
    ) -> None:
        if party_file.rank != _OWN:
            raise UsageError(
                f"the party file is of rank {party_file.rank}: rank 0 leads; start "
                "this party with `mpcprof party`"
            )
        check_same_build(party_file, deployment)
        super().__init__(deployment, RealLink())
        self._station = Station(party_file)
        self._hint = hint or {}

    def party_pids(self) -> tuple[int, ...]:
        """Return the process id of this host's party."""
        return (self._station.pid,)

    def _start_until_primed(self) -> Setup:
        begin_s = self._clock()
        self._station.start()
        started_s = self._clock()
        agreement = self._station.connect(self.deployment)
        calls = self._prime(PRIMING_INPUT)
        assert calls is not None, "it raises where a station has no answer"
        first, second = calls
        return Setup(
            n_starts=1,
            start_s=started_s - begin_s,
            setup_s=agreement.connect_s + max(first.latency_s - second.latency_s, 0.0),
            setup_bytes=max(first.total_bytes - second.total_bytes, 0),
            versions=agreement.versions,
        )

    def _common_start(self) -> dict[str, object]:
        return {"n_parties": self.n_parties}  # and so no time of any clock

    def _ask(
        self,
        headers: Sequence[dict[str, object]],
        blobs: Sequence[Sequence[bytes]] | None = None,
        limit_s: float = ANSWER_LIMIT_S,
    ) -> list[Reply]:
        """Have every host do its part; answer how long each took by its own clock."""
        peers = self._station.file.peers
        for rank in peers:
            self._station.tell([rank], headers[rank])
        own = {**headers[_OWN], "rank": _OWN}
        limit_s = min(limit_s, self._station.file.answer_limit_s)
        given = blobs[_OWN] if blobs else ()
        replies = [self._station.ask(own, given, limit_s=limit_s)]
        replies += [self._hear(rank) for rank in peers]
        return [(_by_own_clock(header), parts) for header, parts in replies]

    def _hear(self, rank: int) -> Reply:
        header, parts = self._station.hear(rank)
        if "refused" in header:
            raise EngineError(f"party {rank} refuses: {header['refused']}")
        if "error" in header:
            raise EngineError(f"party {rank}: {header['error']}")
        return header, parts

    def load(
        self, case: str, lowered: Lowered, inputs: Sequence[NDArray[Any]] = ()
    ) -> None:
        """Agree with every host to a program by its digest, then share the inputs.

        Raises:
            EngineError: If a host refuses; it says why. Nothing has been shared then.
        """
        header = {
            "command": "agree",
            "case": case,
            "digest": program_digest(lowered),
            "input_names": list(lowered.input_names),
            "output_names": list(lowered.output_names),
            "options": dict(self.deployment.compiler_options),
            "hint": self._hint,
        }
        peers = self._station.file.peers
        self._station.tell(peers, header, [lowered.program])
        for rank in peers:
            self._hear(rank)
        self._station.ask(load_header(case), [lowered.code])
        if inputs:
            self._hold_own(lowered.input_names, inputs)

    def _hold_own(self, names: Sequence[str], inputs: Sequence[NDArray[Any]]) -> None:
        header = {**self._sharing("hold"), "owner": _OWN, "input_names": list(names)}
        arrays = [np.ascontiguousarray(x) for x in inputs]
        kinds = [{"dtype": x.dtype.str, "shape": list(x.shape)} for x in arrays]
        others: list[Sequence[bytes]] = [() for _ in self._station.file.peers]
        self._ask(
            [{**header, "arrays": kinds}, *([header] * len(others))],
            [[x.tobytes() for x in arrays], *others],
        )

    def fetch(self, case: str) -> NDArray[np.float64]:
        """Return the output of the last run of a case, which this host alone joins."""
        return self.reveal(case, _OWN)[0]

    def close(self) -> None:
        """Say good-bye where that is possible, end this host's party."""
        try:
            if hasattr(self, "setup"):
                self._station.leave()
        finally:
            self._station.close()
            super().close()


def program_digest(lowered: Lowered) -> str:
    """Return the SHA-256 of an executable: equal on hosts that compiled the same."""
    return hashlib.sha256(lowered.code).hexdigest()


def load_header(case: str) -> Header:
    """Return the command by which a party takes an executable without inputs."""
    return {"command": "load", "case": case, "input_names": [], "n_chunks": []}


def owned_elsewhere(rank: int, shapes: dict[str, tuple[int, ...]]) -> Owned:
    """Return inputs that another host's party finds in a file of its own."""
    own = tuple(shapes.values())
    return Owned(rank=rank, path=ELSEWHERE, shapes=own, entries=tuple(shapes))


def _by_own_clock(header: Header) -> Header:
    """Return an answer with times from its own begin: no two clocks are compared."""
    if "begin_s" not in header:
        return header
    return {**header, "begin_s": 0.0, "end_s": header["end_s"] - header["begin_s"]}
