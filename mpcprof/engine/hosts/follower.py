"""A party that follows rank 0: it runs what it agreed to, and shares what it offers."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final

from mpcprof.deployment import Deployment
from mpcprof.engine.calls import Owned
from mpcprof.engine.child import Child
from mpcprof.engine.hosts.party_file import PartyFile
from mpcprof.engine.hosts.session import load_header, program_digest
from mpcprof.engine.hosts.station import Station, check_same_build
from mpcprof.engine.lowering import Lowered, runtime_settings
from mpcprof.engine.party.framing import Header
from mpcprof.engine.session import PRIMING_CASE, lower_priming
from mpcprof.errors import (
    EngineError,
    MpcprofError,
    NoAnswerError,
    PartyDiedError,
    UsageError,
)
from mpcprof.progress import Progress

_PLAIN: Final = "links are plain TCP: whoever is on the way reads and changes them"
_AGAIN_S: Final = 2.0  # after a session that failed, which the next may too
# what rank 0 may have a party do once it agreed to a program
_FOLLOWED: Final = ("hold", "run", "reveal", "unload", "exchange", "stream")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A program of this host's own, and what this host's party puts into it.

    Attributes:
        deployment: What it is compiled for; another one of rank 0 is refused.
        lower: Compile it, with a compiler and with what rank 0 hints.
        owned: Inputs of this host's party; None for none.
        about: What has to be the same on both hosts, for who reads a refusal.
    """

    deployment: Deployment
    lower: Callable[[Child, dict[str, int]], Lowered]
    owned: Owned | None = None
    about: str = "function and --input"


class RefusedError(EngineError):
    """This party does not run what rank 0 asks for."""


def follow(
    party_file: PartyFile,
    progress: Progress,
    *,
    offer: Offer | None = None,
    is_once: bool = False,
) -> None:
    """Serve rank 0, session after session, until it is ended.

    Args:
        offer: The only program to run, besides a priming one; None to run what the
            party file allows.
        is_once: Whether to end with the first session, or, without one, after the wait
            limit of the party file.

    Raises:
        UsageError: If the file is of rank 0, or of another build than the offer.
        EngineError: If the only session fails, or rank 0 does not come to it.
    """
    if party_file.rank == 0:
        raise UsageError(
            "the party file is of rank 0, which leads: start it with the command that "
            "measures or infers, as `mpcprof profile --parties PARTY.toml`"
        )
    if offer:
        check_same_build(party_file, offer.deployment)
    if party_file.tls is None:
        progress.say(f"no [tls] in the party file: {_PLAIN}")
    while True:
        try:
            _follow_once(party_file, progress, offer, is_only=is_once)
        except (UsageError, KeyboardInterrupt):
            raise
        except EngineError as error:
            if is_once:
                raise
            progress.say(f"session ended: {error}")
            time.sleep(_AGAIN_S)
        if is_once:
            return


def _follow_once(
    party_file: PartyFile, progress: Progress, offer: Offer | None, *, is_only: bool
) -> None:
    with Station(party_file) as station, ExitStack() as stack:
        compiler = station.new_compiler()
        stack.callback(compiler.close)
        station.start()
        name = f"party {party_file.rank} of {len(party_file.addresses)}"
        at_most = f" at most {party_file.wait_limit}" if is_only else ""
        progress.say(f"{name}: waits{at_most} for party 0 at {party_file.addresses[0]}")
        progress.describe(f"{name}: waits for party 0")
        station.wait_for(0, party_file.wait_limit_s if is_only else math.inf)
        agreement = station.connect(offer.deployment if offer else None)
        progress.say(f"{name}: {agreement.deployment}, run {agreement.run_id[:12]}")
        progress.describe(f"{name}: serves party 0")
        follower = _Follower(station, agreement.deployment, compiler, offer, progress)
        while follower.follow_one():
            pass
        progress.say(f"{name}: party 0 is done")


class _Follower:
    """One session with rank 0."""

    def __init__(
        self,
        station: Station,
        deployment: Deployment,
        compiler: Child,
        offer: Offer | None,
        progress: Progress,
    ) -> None:
        self._station = station
        self._deployment = deployment
        self._compiler = compiler
        self._offer = offer
        self._progress = progress
        self._agreed: set[str] = set()  # cases

    def follow_one(self) -> bool:
        """Do one thing that rank 0 asks for; False if it is done."""
        header, blobs = self._station.hear(0)
        command = header.get("command")
        if command == "bye":
            self._station.tell([0], {})
            return False
        try:
            answer = self._obey(header, blobs)
        except (PartyDiedError, NoAnswerError):
            raise
        except EngineError as error:
            with suppress(EngineError):
                self._say_no(header, error)
            raise
        self._station.tell([0], answer)  # no blob: results went over the link in shares
        return True

    def _obey(self, header: Header, blobs: Sequence[bytes]) -> Header:
        """Do what is asked for; what cannot be done ends this session, no more."""
        command = header.get("command")
        try:
            if command == "agree":
                return self._agree(header, blobs)
            if command in _FOLLOWED:
                return self._station.ask(self._checked(header))[0]
        except EngineError:
            raise
        except MpcprofError as error:
            raise RefusedError(str(error)) from error
        except LookupError as error:
            raise RefusedError(
                f"{command!r} of party 0 is no message of ours: {error!r}; have the "
                "same mpcprof on both hosts"
            ) from error
        raise RefusedError(f"{command!r} is nothing that party 0 may ask for")

    def _say_no(self, header: Header, error: EngineError) -> None:
        """Tell rank 0 why; where it listens, stay until it has heard it."""
        kind = "refused" if isinstance(error, RefusedError) else "error"
        self._station.tell([0], {kind: str(error)})
        while header.get("command") not in ("bye", *_FOLLOWED):
            header, _ = self._station.hear(0)
        self._station.tell([0], {})

    def _agree(self, header: Header, blobs: Sequence[bytes]) -> Header:
        """Compile for ourselves, compare, load; or refuse."""
        case, digest = header["case"], header["digest"]
        lowered = self._own_program(header, blobs)
        if program_digest(lowered) != digest:
            expected = self._offer.about if self._offer else "packages"
            raise RefusedError(
                f"program {case} is {digest[:12]} at party 0 and "
                f"{program_digest(lowered)[:12]} here; the {expected} must be the same "
                "on both hosts"
            )
        if not self._may_run(case, digest):
            raise RefusedError(
                f"program {case}, {digest[:12]}, is not in may_run of the party file; "
                f'add "{digest[:12]}", or have "any"'
            )
        self._station.ask(load_header(case), [lowered.code])
        if case not in self._agreed:
            self._progress.say(f"agreed to program {case}, {digest[:12]}")
        self._agreed.add(case)
        return {}

    def _own_program(self, header: Header, blobs: Sequence[bytes]) -> Lowered:
        case = header["case"]
        if case == PRIMING_CASE:
            return lower_priming(self._deployment, self._compiler)
        if self._offer:
            return self._offer.lower(self._compiler, header["hint"])
        asked = {
            "command": "compile",
            "name": case,
            "input_names": header["input_names"],
            "output_names": header["output_names"],
            "options": dict(self._deployment.compiler_options),
        }
        _, (code,) = self._compiler.ask_with_blobs(asked, [blobs[0]])
        return Lowered(
            code=code,
            input_names=tuple(header["input_names"]),
            output_names=tuple(header["output_names"]),
            program=blobs[0],
            compile_s=0.0,
        )

    def _may_run(self, case: str, digest: str) -> bool:
        if case == PRIMING_CASE or self._offer:
            return True  # it is ours, as its digest has shown
        return self._station.file.may_run_program(digest)

    def _checked(self, header: Header) -> Header:
        """Return a command as this host understands it, whatever rank 0 wrote."""
        command, rank = header["command"], self._station.rank
        case = header.get("case")
        if command in ("run", "reveal", "unload") and case not in self._agreed:
            raise RefusedError(f"there is no agreement to a program {case!r}")
        if command == "reveal" and header["receiver"] != 0:
            raise RefusedError("results are for party 0 alone")
        if command == "unload":
            self._agreed.discard(str(case))
        own: Header = {"rank": rank, "n_parties": self._deployment.n_parties}
        if command == "hold":
            own.update(self._held(header))
        if command in ("hold", "reveal"):
            own["runtime_config"] = runtime_settings(self._deployment)
        return {**header, **own}

    def _held(self, header: Header) -> Header:
        """Return what is read from this host's file, if rank 0 asks for its inputs."""
        if header["owner"] != self._station.rank:
            return {}
        owned = self._offer.owned if self._offer else None
        if owned is None:
            raise RefusedError("this party offers no inputs of its own")
        return {
            "path": str(owned.path),
            "entries": list(owned.entries),
            "shapes": [list(shape) for shape in owned.shapes],
        }
