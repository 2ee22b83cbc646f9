"""The controller's side of back-ends that put each party into its own namespace.

A holder process makes one namespace per party and keeps it by an open descriptor; a
party enters it with `nsenter` through `/proc/HOLDER/fd`.
"""

import math
import shutil
from typing import ClassVar

from mpcprof.engine.child import Child, python_child
from mpcprof.engine.party.framing import Header
from mpcprof.engine.wan.namespaces import PORT, host
from mpcprof.errors import BackendUnavailableError, LinkError
from mpcprof.network import Network


class Holder:
    """Controller's side of the process that holds the namespaces of the parties.

    Args:
        name: The back-end, as `Emulation.name`.
        module: What the process runs; it calls `serve`.
        options: Sent along with its first command.

    Raises:
        BackendUnavailableError: If this machine cannot do it; says why.
    """

    def __init__(self, name: str, module: str, n_parties: int, **options: str) -> None:
        self._nsenter = find_nsenter()
        self.child: Child = python_child(f"{name} emulation", module)
        try:
            answer = self.ask({"command": "start", "n_parties": n_parties, **options})
        except BaseException:
            self.child.close()
            raise
        if "unavailable" in answer:
            self.child.close()
            raise BackendUnavailableError(
                f"{name} emulation: {answer['unavailable']}; "
                "--emulation relay needs nothing"
            )
        self._descriptors: list[int] = answer["namespaces"]
        self._has_user_namespace: bool = answer["has_user_namespace"]

    def ask(self, header: Header) -> Header:
        """The holder's answer.

        Raises:
            LinkError: If it refuses.
        """
        answer = self.child.ask(header)
        if "refused" in answer:
            raise LinkError(f"{self.child.name}: {answer['refused']}")
        return answer

    def command_prefix(self, rank: int) -> tuple[str, ...]:
        """Words that make a command run in the namespace of `rank`.

        `nsenter` replaces itself by the command: the process id, the open
        descriptors and the parent-death signal stay.
        """
        process = f"/proc/{self.child.pid}"
        words = [self._nsenter, f"--net={process}/fd/{self._descriptors[rank]}"]
        if self._has_user_namespace:
            words += [f"--user={process}/ns/user", "--preserve-credentials"]
        return tuple(words)


def find_nsenter() -> str:
    """Path of `nsenter`.

    Raises:
        BackendUnavailableError: If there is none.
    """
    path = shutil.which("nsenter")
    if path is None:
        raise BackendUnavailableError("there is no command nsenter (util-linux)")
    return path


def line_header(network: Network) -> Header:
    """The `set` command for a network."""
    bandwidth = network.bandwidth_bytes_per_s
    return {
        "command": "set",
        "one_way_s": network.one_way_s,
        "bandwidth_bytes_per_s": None if math.isinf(bandwidth) else bandwidth,
    }


class NamespaceEmulation:
    """What the back-ends in namespaces have in common; an `Emulation`.

    Attributes:
        name: As a record says it.
        module: What the holder process runs; it calls `namespaces.serve`.
    """

    name: str
    module: ClassVar[str]

    def __init__(self, **options: str) -> None:
        self._options = options
        self._holder: Holder | None = None

    @property
    def holder(self) -> Holder:
        """The holder process, which `start` starts."""
        assert self._holder is not None, "start() comes first"
        return self._holder

    def start(self, n_parties: int) -> None:
        """Make namespaces and the links between them, open until `set_network`.

        Raises:
            BackendUnavailableError: If this machine cannot; says why.
        """
        self._holder = Holder(self.name, self.module, n_parties, **self._options)

    def command_prefix(self, rank: int) -> tuple[str, ...]:
        """Words that put a party into its namespace; see `Holder.command_prefix`."""
        return self.holder.command_prefix(rank)

    def listen_address(self, rank: int) -> str:
        """The address of the party in its namespace."""
        return f"{host(rank)}:{PORT}"

    def peer_address(self, rank: int, peer: int) -> str:
        """Where `peer` listens, the same for everyone."""
        return self.listen_address(peer)

    def set_network(self, network: Network) -> None:
        """Change all lines, in both directions, while connections stay open.

        Raises:
            LinkError: If the back-end cannot emulate it.
        """
        self.holder.ask(line_header(network))

    def reset_counters(self) -> None:
        """Nothing: packets do not show the messages."""

    def counters(self) -> None:
        """None: see `reset_counters`."""

    def watched(self) -> tuple[Child, ...]:
        """The holder process."""
        return (self._holder.child,) if self._holder else ()

    def close(self) -> None:
        """End the holder; a namespace goes with its last process, links and all."""
        if self._holder:
            self._holder.child.close()
            self._holder = None
