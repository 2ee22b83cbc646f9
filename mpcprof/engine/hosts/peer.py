"""Another host's party, watched from here through a connection of our own to its port.

Nothing is sent over it. It shows who listens there before our own party speaks, and its
end shows, at once, that the peer is gone, of which the SPU link says nothing for long.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

from mpcprof.engine.hosts.party_file import PartyFile, tls_context
from mpcprof.errors import PartyDiedError

_TRY_S: Final = 3.0  # for a connection, and for each answer of a handshake
_QUIET_S: Final = 5  # until a silent host is asked, and between questions
_N_QUESTIONS: Final = 3
_STARTING_S: Final = 15.0  # in which a port may be open before the party is behind it
_CERTIFICATE: Final = "does not accept our certificate"
_SILENT: Final = "it listens and says nothing: it may not reach this party"
_ALTERED: Final = ("bad record mac", "bad signature", "decrypt error", "digest check")
_NOT_TLS: Final = (
    "closes the connection before a certificate is shown: it speaks no TLS, or "
    "does not accept ours; compare [tls] of both party files"
)


class Peer:
    """A party on another host; it is reached when `is_alive` first finds it there.

    Args:
        limit_s: Seconds in which it has to come.
        limit_name: Key of the party file that says so.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        party_file: PartyFile,
        rank: int,
        *,
        limit_s: float,
        limit_name: str = "connect_limit",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rank = rank
        self.address = party_file.addresses[rank]
        self.name = f"party {rank} at {self.address}"
        self.certificate = ""  # as PEM, once it is reached over TLS
        self._file = party_file
        self._clock = clock
        self._limit_s = limit_s
        self._limit_name = limit_name
        self._deadline_s = clock() + limit_s
        self._socket: socket.socket | None = None
        self._problem = ""
        self._closed_s: float | None = None

    @property
    def is_reached(self) -> bool:
        """Whether it listened, and showed who it is."""
        return self._socket is not None

    def is_alive(self) -> bool:
        """Tell whether it is there, or may still come."""
        if not self._problem:
            self._problem = self._find_problem()
        return not self._problem

    def died(self) -> PartyDiedError:
        """Return the error that says what is wrong with it."""
        return PartyDiedError(f"{self.name} {self._problem}")

    def close(self) -> None:
        """Close the connection."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def _find_problem(self) -> str:
        if self._socket:
            return _how_it_ended(self._socket)
        try:
            reached = socket.create_connection(self._file.endpoint(self.rank), _TRY_S)
        except OSError as error:
            return self._not_there(error.strerror or str(error))
        try:
            self._socket = self._greet(reached)
        except TimeoutError:
            reached.close()
            return self._not_there(_SILENT)
        except _RefusedError as refused:
            reached.close()
            is_early = str(refused) == _NOT_TLS and not self._is_late()
            return "" if is_early else str(refused)
        _watch_for_silence(self._socket)
        return ""

    def _not_there(self, reason: str) -> str:
        if self._clock() < self._deadline_s:
            return ""
        return (
            f"did not come within {self._limit_s:g} s ({reason}); start it there, see "
            "whether it refused this party, compare addresses and firewalls, or raise "
            f"{self._limit_name} in the party file"
        )

    def _is_late(self) -> bool:
        """Tell whether a port has closed connections for longer than a start takes."""
        now_s = self._clock()
        self._closed_s = now_s if self._closed_s is None else self._closed_s
        return now_s - self._closed_s >= min(_STARTING_S, self._limit_s)

    def _greet(self, reached: socket.socket) -> socket.socket:
        reached.settimeout(_TRY_S)
        if self._file.tls is None:
            return reached
        files = self._file.tls
        context = tls_context(files)
        # in 1.3 a peer refuses our certificate only after we are done
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        try:
            secured = context.wrap_socket(reached)
        except ssl.SSLCertVerificationError as error:
            raise _RefusedError(
                f"shows a certificate that is refused: {error.verify_message}; "
                f"expected one by {files.authority}"
            ) from None
        except ssl.SSLError as error:
            raise _RefusedError(_failed_handshake(error.reason or "")) from None
        except TimeoutError:
            raise
        except OSError:
            raise _RefusedError(_NOT_TLS) from None
        name, expected = _common_name(secured), self._file.name_of(self.rank)
        if name != expected:
            secured.close()
            raise _RefusedError(
                f"shows the certificate of {name!r}: expected that of {expected!r}"
            )
        self.certificate = ssl.DER_cert_to_PEM_cert(secured.getpeercert(True) or b"")
        return secured


class _RefusedError(Exception):
    """Who answers is not the peer, in words."""


def _failed_handshake(reason: str) -> str:
    """Return what a reason of OpenSSL means: `_NOT_TLS` if it is none of the peer's."""
    words = reason.replace("_", " ").lower()
    if any(sign in words for sign in _ALTERED):
        return (
            f"and this party do not read what the other sent: {words}; something "
            "changes it on the way, see what stands between the hosts"
        )
    return f"{_CERTIFICATE}: {words}" if "alert" in words else _NOT_TLS


def _common_name(secured: ssl.SSLSocket) -> str:
    found: Any = secured.getpeercert() or {}  # Any: nested tuples by OpenSSL's names
    names = dict(pair for part in found.get("subject", ()) for pair in part)
    return str(names.get("commonName", ""))


def _watch_for_silence(connection: socket.socket) -> None:
    """Have the kernel ask a silent host whether it is there; never wait for it."""
    connection.setblocking(False)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _QUIET_S),
        ("TCP_KEEPINTVL", _QUIET_S),
        ("TCP_KEEPCNT", _N_QUESTIONS),
    ):
        with contextlib.suppress(AttributeError, OSError):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _how_it_ended(connection: socket.socket) -> str:
    """Return how a connection ended; empty while it has not."""
    try:
        if connection.recv(1):
            return ""
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return ""
    except TimeoutError:
        return "does not answer: its host or the network is down"
    except OSError:
        pass
    return "is gone: it was stopped or has failed; what it printed there says why"
