"""PARTY.toml: who a party is, where its peers are, and what it may run.

>>> read_party_file(Path("party0.toml"))  # doctest: +SKIP
"""

import re
import ssl
import sys
from collections import Counter
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal

from mpcprof.builds import DEFAULT_BUILD, get_build
from mpcprof.errors import UsageError
from mpcprof.files import convert_json
from mpcprof.units import parse_duration_s

# the standard library's from Python 3.11 on
tomllib: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
_ADDRESS: Final = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\s:/]+):(\d{1,5})")
_DIGEST: Final = re.compile(r"[0-9a-f]{8,64}")
_EXAMPLE: Final = "such as 10.0.0.1:9100"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Files with which a party shows who it is; paths are from its party file's folder.

    Attributes:
        certificate: Its certificate, PEM; its common name is in `names`.
        key: Its private key, PEM, without a password.
        authority: Certificate of who signed the certificates of all parties.
    """

    certificate: str
    key: str
    authority: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyFile:
    """One party of a deployment over several hosts.

    Attributes:
        rank: Number of this party; 0 leads, owns what goes in and alone gets results.
        addresses: Where each party, by rank, is dialled from this host.
        listen: Where this party listens; its own address if empty.
        names: Common name in the certificate of each party; party0, party1 ... if none.
        runtime: SPU build of this party.
        may_run: `any`, or the digests of programs that it runs for rank 0; 8 letters
            are enough.
        connect_limit: How long a peer may take to come.
        wait_limit: How long a party that serves one session waits for rank 0.
        answer_limit: How long a call may take.
        tls: None for links that everybody on the way can read.

    Raises:
        UsageError: If a value is not acceptable.
    """

    rank: int
    addresses: tuple[str, ...]
    listen: str = ""
    names: tuple[str, ...] = ()
    runtime: str = DEFAULT_BUILD.name
    may_run: Literal["any"] | tuple[str, ...] = "any"
    connect_limit: str = "60s"
    wait_limit: str = "1h"
    answer_limit: str = "10min"
    tls: TlsFiles | None = None

    def __post_init__(self) -> None:
        n_parties = len(self.addresses)
        if n_parties not in (2, 3):
            raise UsageError(f"{n_parties} addresses: expected one for each of 2 or 3")
        if not 0 <= self.rank < n_parties:
            raise UsageError(f"rank={self.rank}: expected 0 to {n_parties - 1}")
        for address in (*self.addresses, *filter(None, [self.listen])):
            _split(address)
        address, n_there = Counter(self.addresses).most_common(1)[0]
        if n_there > 1:
            raise UsageError(f"two parties at {address}: expected two places")
        if self.names and len({*self.names}) != n_parties:
            raise UsageError(f"names={list(self.names)}: expected {n_parties} others")
        for digest in () if self.may_run == "any" else self.may_run:
            if not _DIGEST.fullmatch(digest):
                raise UsageError(
                    f'may_run has {digest!r}: expected "any", or digests of programs, '
                    "8 to 64 of 0-9a-f, as a refusal prints them"
                )
        if get_build(self.runtime).has_drivers:
            raise UsageError(
                f"runtime = {self.runtime!r}: its drivers need a link of their own, "
                "and a party file names SPU's alone; on several hosts run "
                "examples/secretflow_inference.py, or another runtime"
            )
        for limit in (self.connect_limit, self.wait_limit, self.answer_limit):
            parse_duration_s(limit)

    @property
    def connect_limit_s(self) -> float:
        """Seconds that a peer may take to come."""
        return parse_duration_s(self.connect_limit)

    @property
    def wait_limit_s(self) -> float:
        """Seconds that a party which serves one session waits for rank 0."""
        return parse_duration_s(self.wait_limit)

    @property
    def answer_limit_s(self) -> float:
        """Seconds that a call may take."""
        return parse_duration_s(self.answer_limit)

    @property
    def peers(self) -> tuple[int, ...]:
        """Ranks of the other parties."""
        return tuple(r for r in range(len(self.addresses)) if r != self.rank)

    def name_of(self, rank: int) -> str:
        """Return the common name that the certificate of a party has."""
        return self.names[rank] if self.names else f"party{rank}"

    def endpoint(self, rank: int) -> tuple[str, int]:
        """Return host and port at which a party is dialled."""
        return _split(self.addresses[rank])

    @property
    def listens_at(self) -> tuple[str, int]:
        """Host and port at which this party listens."""
        return _split(self.listen or self.addresses[self.rank])

    def link_header(self, inner: str = "") -> dict[str, object]:
        """Return where the party's program listens and dials, and its TLS files.

        Args:
            inner: Where it listens behind a gate; empty for no gate.
        """
        addresses = [*self.addresses]
        addresses[self.rank] = inner or self.listen or addresses[self.rank]
        tls = asdict(self.tls) if self.tls else None
        return {"rank": self.rank, "addresses": addresses, "tls": tls}

    def may_run_program(self, digest: str) -> bool:
        """Tell whether the file allows a program."""
        return self.may_run == "any" or any(map(digest.startswith, self.may_run))


def _split(address: str) -> tuple[str, int]:
    match = _ADDRESS.fullmatch(address)
    if match is None or not 0 < int(match[2]) < 65536:
        raise UsageError(f"{address!r} is no address; expected HOST:PORT, {_EXAMPLE}")
    return match[1].strip("[]"), int(match[2])


def read_party_file(path: Path) -> PartyFile:
    """Read a party file; the files that it names are there.

    Raises:
        UsageError: If it cannot be read, or a value is not acceptable.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        found = convert_json(values, PartyFile, what="party file")
    except (OSError, ValueError) as error:  # of TOML, and ours
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path}: {reason}; see docs/deploying.md") from None
    if found.tls is None:
        return found
    files = {
        name: str((path.parent / file).resolve())
        for name, file in asdict(found.tls).items()
    }
    for name, file in files.items():
        if not Path(file).is_file():
            raise UsageError(f"{path}: tls.{name} = {file!r}: there is no such file")
    tls = TlsFiles(**files)
    try:
        tls_context(tls)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return replace(found, tls=tls)


def tls_context(tls: TlsFiles) -> ssl.SSLContext:
    """Return what dials with a party's certificate, and trusts its authority alone.

    Raises:
        UsageError: If a file is not what it should be; its key is named.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # parties have names, not hosts
    try:
        context.load_verify_locations(tls.authority)
    except OSError as error:
        raise UsageError(
            f"tls.authority = {tls.authority!r}: {_reason(error)}; expected a "
            "certificate in PEM"
        ) from None
    try:
        context.load_cert_chain(tls.certificate, tls.key, password="")
    except OSError as error:
        raise UsageError(
            f"tls.certificate = {tls.certificate!r}, tls.key = {tls.key!r}: "
            f"{_reason(error)}; expected a certificate and its own key in PEM, without "
            "a password"
        ) from None
    return context


def _reason(error: OSError) -> str:
    """Return what OpenSSL, which may give no reason, or the system says."""
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "cannot be read").replace("_", " ").lower()
    return error.strerror or str(error)
