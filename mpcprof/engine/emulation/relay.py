"""The userspace relay as an emulation back-end: no privilege needed."""

import contextlib
import socket

from mpcprof.engine.child import Child, python_child
from mpcprof.engine.emulation.backend import Counters, LineCount
from mpcprof.engine.emulation.clock import Path
from mpcprof.engine.party.framing import Header
from mpcprof.errors import EngineError, LinkError, PartyDiedError
from mpcprof.network import Network

_HOST = "127.0.0.1"
_MODULE = "mpcprof.engine.emulation.relay_process"


class RelayEmulation:
    """One relay process; parties listen on loopback and dial the relay's ports.

    Args:
        base_port: First port to use, for parties and then relay links, or 0 for
            free ones chosen by the kernel.
    """

    name = "relay"

    def __init__(self, base_port: int = 0) -> None:
        self._base_port = base_port
        self._child: Child | None = None
        self._party_ports: list[int] = []
        self._link_ports: dict[tuple[int, int], int] = {}

    def start(self, n_parties: int) -> None:
        """Start the relay and open one port per ordered pair.

        Raises:
            LinkError: If a port is in use.
        """
        self._party_ports = free_ports(n_parties, self._base_port)
        self._child = python_child("relay", _MODULE)
        self._child.ask({"command": "start", "n_parties": n_parties})
        port = self._base_port + n_parties if self._base_port else 0
        pairs = [(a, b) for a in range(n_parties) for b in range(n_parties) if a != b]
        for index, pair in enumerate(pairs):
            self._link_ports[pair] = self._listen(pair, port + index if port else 0)

    def _listen(self, pair: tuple[int, int], port: int) -> int:
        header = {
            "command": "listen",
            "sender": pair[0],
            "receiver": pair[1],
            "host": _HOST,
            "port": port,
            "promised_ports": self._party_ports,
            "target_port": self._party_ports[pair[1]],
        }
        try:
            taken = self._ask(header)["port"]
        except PartyDiedError:
            raise
        except EngineError as error:
            raise LinkError(
                f"the relay cannot listen on port {port}: {error}; "
                "choose another --base-port"
            ) from None
        return int(taken)

    def _ask(self, header: Header) -> Header:
        assert self._child is not None, "start() comes first"
        return self._child.ask(header)

    def command_prefix(self, rank: int) -> tuple[str, ...]:
        """Nothing: the party runs where the controller runs."""
        return ()

    def listen_address(self, rank: int) -> str:
        """A loopback port of this party's own."""
        return f"{_HOST}:{self._party_ports[rank]}"

    def peer_address(self, rank: int, peer: int) -> str:
        """The relay's port for what `rank` sends to `peer`."""
        return f"{_HOST}:{self._link_ports[rank, peer]}"

    def set_network(self, network: Network) -> None:
        """Both take effect at the next chunk; connections stay open."""
        self._ask(
            {
                "command": "set",
                "delay_s": network.one_way_s,
                "seconds_per_byte": 1 / network.bandwidth_bytes_per_s,
            }
        )

    def reset_counters(self) -> None:
        """Begin counting the critical path and the bytes anew."""
        self._ask({"command": "reset"})

    def counters(self) -> Counters:
        """Critical path and bytes since the reset; see `PathClock`."""
        counted = self._ask({"command": "count"})
        lower, upper, deepest = counted["paths"]
        return Counters(
            lower=Path(*lower),
            upper=Path(*upper),
            deepest=Path(*deepest),
            carried_bytes=sum(n_bytes for *_, n_bytes in counted["bytes"]),
            lines=tuple(
                LineCount(
                    sender=sender,
                    receiver=receiver,
                    n_messages=n_messages,
                    payload_bytes=n_bytes,
                    n_waits=n_waits,
                )
                for sender, receiver, n_messages, n_bytes, n_waits in counted[
                    "messages"
                ]
            ),
        )

    def watched(self) -> tuple[Child, ...]:
        """The relay process."""
        return (self._child,) if self._child else ()

    def close(self) -> None:
        """End the relay."""
        if self._child:
            self._child.close()
            self._child = None


def free_ports(n_ports: int, base_port: int = 0) -> list[int]:
    """Ports that nobody listens on: `base_port` and the next ones, or any.

    Raises:
        LinkError: If one of the ports asked for is taken.
    """
    with contextlib.ExitStack() as stack:
        ports = []
        for index in range(n_ports):
            wanted = base_port + index if base_port else 0
            probe = stack.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, wanted))
            except OverflowError:
                raise LinkError(
                    f"port {wanted} is above 65535; choose a lower --base-port"
                ) from None
            except OSError as error:
                raise LinkError(
                    f"port {wanted} is in use ({error.strerror}); "
                    "choose another --base-port, or none to take free ones"
                ) from None
            ports.append(int(probe.getsockname()[1]))
    return ports
