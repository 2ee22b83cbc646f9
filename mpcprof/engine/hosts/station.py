"""This host's party: its process, its peers, and what the programs of hosts say.

Programs speak over the parties' own link, so that one port and one certificate do.
"""

import hashlib
import json
import math
import os
import re
import secrets
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import version
from types import TracebackType
from typing import Any, Final

from mpcprof.builds import get_build
from mpcprof.deployment import Deployment
from mpcprof.engine.child import Child, Reply, Watched, ask_all
from mpcprof.engine.hosts.certificates import is_signed_by, sign
from mpcprof.engine.hosts.gate import Gate
from mpcprof.engine.hosts.party_file import PartyFile
from mpcprof.engine.hosts.peer import Peer
from mpcprof.engine.installation import get_runtime
from mpcprof.engine.lowering import runtime_settings
from mpcprof.engine.party.framing import Header, pack, unpack
from mpcprof.errors import EngineError, NoAnswerError, PartyDiedError, UsageError

_RETRIES: Final = 100_000  # of the link: how long to wait is for the program to say
_POLL_S: Final = 0.3
_LEAVE_S: Final = 3.0
# what SPU prints of a message that TLS refused, and, before it ends, of one that did
# not arrive: after each failure it connects anew and sends again, after 1, 3 and 5 s
_CHANGED: Final = re.compile(r"send request failed.+\[E1016\](.+)")
_SENT_IN_VAIN: Final = re.compile(r"SendImpl error (.+)")
_TOGETHER: Final = ("mpcprof", "spu", "jax")  # versions that have to be the same


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAgreement:
    """What the parties have agreed to before anything is shared.

    Attributes:
        deployment: What rank 0 asked for, and the others accepted.
        run_id: Digest of what all parties said of themselves; signed by each with TLS.
        connect_s: Seconds to connect and to start the virtual machine.
        versions: Versions of packages in this host's party.
    """

    deployment: Deployment
    run_id: str
    connect_s: float
    versions: tuple[tuple[str, str], ...]


class Station:
    """The party of this host, and the others as they are seen from here.

    Args:
        party_file: Who is who.
        clock: Monotonic seconds; no other host's is compared with them.
    """

    def __init__(
        self, party_file: PartyFile, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.file = party_file
        self.rank = party_file.rank
        self._clock = clock
        self._child: Child | None = None
        self._gate: Gate | None = None
        self.peers: dict[int, Peer] = {}
        self._argv = get_runtime(get_build(party_file.runtime)).party_argv

    def __enter__(self) -> "Station":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id of the party."""
        assert self._child is not None, "start() comes first"
        return self._child.pid

    def new_compiler(self) -> Child:
        """Start a process of this build that compiles, on no link."""
        return Child("compiler", self._argv)

    def start(self) -> None:
        """Start the party's process; it listens from `connect` on."""
        n_threads = len(os.sched_getaffinity(0))
        threads = {"OMP_THREAD_LIMIT": str(n_threads)}
        self._child = Child(f"party {self.rank}", self._argv, environment=threads)
        self.ask({"command": "hello"})
        if self.file.tls:
            self._gate = Gate(self.file.listens_at)

    def wait_for(self, rank: int, limit_s: float = math.inf) -> None:
        """Wait until a peer listens and has shown who it is.

        Args:
            limit_s: Seconds to wait; without a limit if not given.

        Raises:
            PartyDiedError: If it does not come, or who listens there is not the peer.
        """
        peer = self.peers[rank] = self._peer(rank, limit_s, "wait_limit")
        while not peer.is_reached:
            time.sleep(_POLL_S)
            if not peer.is_alive():
                raise peer.died()

    def _peer(self, rank: int, limit_s: float, limit_name: str) -> Peer:
        return Peer(
            self.file, rank, limit_s=limit_s, limit_name=limit_name, clock=self._clock
        )

    def connect(self, asked: Deployment | None) -> RunAgreement:
        """Open the link, hold what all say against each other, start the machine.

        Args:
            asked: The deployment; None to take that of rank 0.

        Raises:
            PartyDiedError: If a peer does not come, or is not who it should be.
            EngineError: If the parties do not agree.
        """
        begin_s = self._clock()
        for rank in self.file.peers:
            if rank not in self.peers:
                limit_s = self.file.connect_limit_s
                self.peers[rank] = self._peer(rank, limit_s, "connect_limit")
        inner = self._gate.inner_address if self._gate else ""
        header = {**self.file.link_header(inner), "connect_retry_times": _RETRIES}
        answer, _ = self.ask({"command": "connect", **header})
        while not all(peer.is_reached for peer in self.peers.values()):
            self.check_peers()
            time.sleep(_POLL_S)
        versions = {**answer["versions"], "mpcprof": version("mpcprof")}
        versions["jax"] = version("jax")
        deployment, run_id = self._agree(asked, versions)
        settings = runtime_settings(deployment)
        self.ask({"command": "configure", "runtime_config": settings})
        return RunAgreement(
            deployment=deployment,
            run_id=run_id,
            connect_s=self._clock() - begin_s,
            versions=tuple(sorted(versions.items())),
        )

    def _agree(
        self, asked: Deployment | None, versions: dict[str, str]
    ) -> tuple[Deployment, str]:
        own = {
            "rank": self.rank,
            "versions": {name: versions[name] for name in _TOGETHER},
            "deployment": asked.to_json() if asked else "",
            "nonce": secrets.token_hex(16),
        }
        texts = self._gather(json.dumps(own, sort_keys=True).encode())
        run_id = hashlib.sha256(b"\n".join(texts)).hexdigest()
        self._check_signatures(run_id)
        said: list[dict[str, Any]]  # Any: JSON
        try:
            said = [json.loads(text) for text in texts]
            deployment = Deployment.from_json(said[0]["deployment"])
            for rank, one in enumerate(said):
                self._check_said(rank, one, own, deployment)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise EngineError(
                "what parties say of themselves cannot be read "
                f"({type(error).__name__}: {error}); have the same mpcprof on all hosts"
            ) from None
        if asked and (difference := deployment.difference(asked)):
            raise EngineError(f"party 0 asks for another deployment: {difference}")
        if deployment.n_parties != len(self.file.addresses):
            raise EngineError(
                f"{deployment.protocol} is of {deployment.n_parties} parties, and the "
                f"party file has {len(self.file.addresses)} addresses"
            )
        return deployment, run_id

    def _check_said(
        self,
        rank: int,
        said: dict[str, Any],  # Any: JSON
        own: dict[str, Any],
        deployment: Deployment,
    ) -> None:
        for name, theirs in said["versions"].items():
            if theirs != own["versions"][name]:
                raise EngineError(
                    f"party {rank} has {name} {theirs}, this one has "
                    f"{own['versions'][name]}: expected the same; install one of them"
                )
        if said["rank"] != rank:
            raise EngineError(f"party {rank} says that it is party {said['rank']}")
        if said["deployment"]:
            theirs = Deployment.from_json(said["deployment"])
            if difference := deployment.difference(theirs):
                raise EngineError(
                    f"party {rank} and party 0 ask for different deployments: "
                    f"{difference}"
                )

    def _check_signatures(self, run_id: str) -> None:
        """Have each party sign who it is in this very run; brpc does not check it."""
        if self.file.tls is None:
            return
        signed = self._gather(sign(self.file.tls.key, _signed_text(self.rank, run_id)))
        for rank, peer in self.peers.items():
            text = _signed_text(rank, run_id)
            if not is_signed_by(peer.certificate, text, signed[rank]):
                raise EngineError(
                    f"party {rank} did not sign this run with the key of "
                    f"{self.file.name_of(rank)!r}: somebody else is on the link"
                )

    def check_peers(self) -> None:
        """Raise what is wrong with a peer.

        Raises:
            PartyDiedError: If one is gone, or did not come.
        """
        for peer in self.peers.values():
            if not peer.is_alive():
                raise peer.died()

    def ask(
        self, header: Header, blobs: Sequence[bytes] = (), *, limit_s: float = 0.0
    ) -> Reply:
        """Ask this host's party, and watch the others meanwhile.

        Args:
            limit_s: Seconds to wait; 0 for what the party file gives.

        Raises:
            PartyDiedError: If it ends, or a peer does.
            EngineError: If it answers with an error.
            NoAnswerError: If it is not done in the time that the party file gives.
        """
        assert self._child is not None, "start() comes first"
        limit_s = limit_s or self.file.answer_limit_s
        link = _LinkLog(self._child, [*self.peers.values()])
        watched: list[Watched] = [link, *self.peers.values()]
        if self._gate:
            watched.append(self._gate.watched)
        try:
            return ask_all(
                [self._child], [header], [blobs], watch=watched, timeout_s=limit_s
            )[0]
        except PartyDiedError as error:
            raise link.cut_off() or error from None
        except NoAnswerError:
            raise NoAnswerError(
                f"no answer within {limit_s:g} s: a peer hangs, or a call takes long; "
                "raise answer_limit in the party file"
            ) from None

    def tell(
        self, ranks: Sequence[int], header: Header, blobs: Sequence[bytes] = ()
    ) -> None:
        """Send a message to the programs of other hosts."""
        self._tell(ranks, pack(header, blobs))

    def _tell(self, ranks: Sequence[int], message: bytes) -> None:
        self.ask({"command": "tell", "receivers": list(ranks)}, [message])

    def hear(self, rank: int) -> Reply:
        """Return the next message of the program of another host."""
        _, (message,) = self.ask({"command": "hear", "senders": [rank]})
        try:
            return unpack(message)
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            struct.error,
        ) as error:
            raise EngineError(
                f"party {rank} sent no message of ours: {error}"
            ) from None

    def leave(self) -> None:
        """Tell the others that nothing follows, if they and this party still listen."""
        if self._child is None or not self._child.is_in_step:
            return
        with suppress(EngineError):
            self.tell(self.file.peers, {"command": "bye"})
            header = {"command": "hear", "senders": list(self.file.peers)}
            self.ask(header, limit_s=_LEAVE_S)

    def _gather(self, text: bytes) -> list[bytes]:
        """Return the texts of all parties, by rank."""
        self._tell(self.file.peers, text)
        header = {"command": "hear", "senders": list(self.file.peers)}
        _, theirs = self.ask(header)
        by_rank = dict(zip(self.file.peers, theirs, strict=True))
        return [by_rank.get(r, text) for r in range(len(self.file.addresses))]

    def close(self) -> None:
        """End the party; safe to call twice."""
        with ExitStack() as stack:
            for peer in self.peers.values():
                stack.callback(peer.close)
            for own in (self._gate, self._child):
                if own:
                    stack.callback(own.close)
        self.peers, self._gate, self._child = {}, None, None


class _LinkLog:
    """What this host's party prints of its links; `Watched` for changed bytes.

    TLS takes nothing of a message that was changed on the way, and SPU sends it again:
    no result is wrong, but nobody is told.
    """

    def __init__(self, child: Child, peers: Sequence[Peer]) -> None:
        self._child = child
        self._peers = peers

    def is_alive(self) -> bool:
        """Tell whether TLS has refused nothing that came."""
        return _CHANGED.search(self._child.tail()) is None

    def died(self) -> PartyDiedError:
        """Return the error that says that bytes were changed."""
        return PartyDiedError(
            f"what comes from {self._named(_CHANGED)} is changed on the way: TLS "
            "refuses it, nothing of it was used; see what stands between the hosts"
        )

    def cut_off(self) -> PartyDiedError | None:
        """Return the error that says that nothing arrives, if this ended the party."""
        if _SENT_IN_VAIN.search(self._child.tail()) is None:
            return None
        return PartyDiedError(
            f"what is sent to {self._named(_SENT_IN_VAIN)} does not arrive, four times "
            "in 9 s, though the party is there: something on the way cuts or changes "
            "the connection; see what stands between the hosts"
        )

    def _named(self, sign: re.Pattern[str]) -> str:
        found = sign.search(self._child.tail())
        text = found[1] if found else ""
        named = [peer for peer in self._peers if peer.address in text]
        return " or ".join(peer.name for peer in named or self._peers)


def _signed_text(rank: int, run_id: str) -> bytes:
    return f"mpcprof party {rank} of run {run_id}".encode()


def check_same_build(party_file: PartyFile, deployment: Deployment) -> None:
    """Refuse a deployment of another build or number of parties than the file's.

    Raises:
        UsageError: If it is.
    """
    if deployment.runtime != party_file.runtime:
        raise UsageError(
            f"--runtime {deployment.runtime}: the party file has runtime = "
            f"{party_file.runtime!r}; make them the same"
        )
    if deployment.n_parties != len(party_file.addresses):
        raise UsageError(
            f"--protocol {deployment.protocol} is of {deployment.n_parties} parties: "
            f"the party file has {len(party_file.addresses)} addresses"
        )
