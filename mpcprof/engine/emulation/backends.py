"""The ways of emulating a wide-area network: what each offers, which ones exist here.

Probing really tries: in a short-lived process with namespaces of its own, which are
gone when it ends.

Usage: `python -m mpcprof.engine.emulation.backends` prints reasons as JSON.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mpcprof.builds import Build
from mpcprof.engine.child import Child, die_with_parent
from mpcprof.engine.emulation import namespaces
from mpcprof.engine.emulation.clock import Counters
from mpcprof.engine.emulation.namespaces import find_nsenter
from mpcprof.engine.emulation.netem import (
    NetemEmulation,
    Veth,
    add_pair,
    plan_qdisc,
    shape,
)
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.emulation.tun import TunEmulation, open_tun
from mpcprof.errors import UnknownNameError, UsageError, did_you_mean
from mpcprof.isolation import module_argv
from mpcprof.network import Network
from mpcprof.profile.columns import Emulation as EmulationName

EMULATIONS = ("auto", "relay", "tun", "netem")
_NAMES = ("tun", "netem")
_TIMEOUT_S = 10.0


class Emulation(Protocol):
    """A network between the parties whose delay and rate can be set.

    Attributes:
        name: The back-end as a record names it: relay, tun or netem.
    """

    name: str

    def start(self, n_parties: int, n_links: int = 1) -> None:
        """Set up the links; called before the parties start, again after `close`.

        Links of a pair share its line: 0 is SPU's, which is counted, others are not.
        """

    def command_prefix(self, rank: int) -> tuple[str, ...]:
        """Return words to put before a party's command line, to enter its namespace."""

    def listen_address(self, rank: int, link: int = 0) -> str:
        """Return the `host:port` on which party `rank` listens."""

    def peer_address(self, rank: int, peer: int, link: int = 0) -> str:
        """Return the `host:port` that `rank` dials to reach `peer`."""

    def set_network(self, network: Network) -> None:
        """Take this delay and rate from now on; LOOPBACK: as fast as it can."""

    def reset_counters(self) -> None:
        """Begin counting anew."""

    def counters(self) -> Counters | None:
        """Return what was counted; None if this back-end sees packets only."""

    def watched(self) -> tuple[Child, ...]:
        """Return the processes of the back-end whose end is the end of the link."""

    def close(self) -> None:
        """End everything that `start` began."""


def choose_emulation(name: str) -> EmulationName:
    """Return the back-end of that name; `auto` is the relay, which runs everywhere.

    Raises:
        UnknownNameError: If there is none.
    """
    known: dict[str, EmulationName] = {
        "auto": "relay",
        "relay": "relay",
        "tun": "tun",
        "netem": "netem",
    }
    if name in known:
        return known[name]
    raise UnknownNameError(f"no emulation {name!r}; {did_you_mean(name, EMULATIONS)}")


def check_carries(name: str, build: Build) -> None:
    """Refuse a back-end that cannot carry what the parties of a build say.

    `hosts` is no emulated network: its parties are on hosts of their own.

    Raises:
        UsageError: If it cannot.
    """
    if name not in ("hosts", *build.emulations):
        raise UsageError(
            f"--emulation {name}: {build.name} opens connections of its own, which "
            f"only packets show; expected {' or '.join(build.emulations)}"
        )


def make_emulation(name: EmulationName, base_port: int = 0) -> Emulation:
    """Make a back-end that has not started yet.

    Raises:
        UsageError: If ports are asked for where each party has its own address.
    """
    if name == "relay":
        return RelayEmulation(base_port)
    if base_port:
        raise UsageError(
            f"--base-port {base_port}: only the relay takes ports, not {name}"
        )
    return TunEmulation() if name == "tun" else NetemEmulation()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendStatus:
    """Whether an emulation back-end can run here.

    Attributes:
        name: relay, tun or netem.
        reason: Why it cannot, in one line; empty if it is available.
    """

    name: str
    reason: str

    @property
    def is_available(self) -> bool:
        """Whether there is no reason against it."""
        return not self.reason


def probe_backends() -> tuple[BackendStatus, ...]:
    """Return the state of every back-end; takes 0.3 s and leaves nothing behind."""
    reasons = _ask_child() if sys.platform == "linux" else _all("it needs Linux")
    return (
        BackendStatus(name="relay", reason=""),  # needs loopback alone
        *(BackendStatus(name=name, reason=reasons[name]) for name in _NAMES),
    )


def _all(reason: str) -> dict[str, str]:
    return dict.fromkeys(_NAMES, reason)


def _ask_child() -> dict[str, str]:
    try:
        find_nsenter()
        answer = subprocess.run(
            module_argv(__name__),
            capture_output=True,
            check=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
        ).stdout
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [str(error)]
        return _all(f"the probe failed: {lines[-1]}")
    except subprocess.TimeoutExpired:
        return _all(f"the probe did not end within {_TIMEOUT_S:.0f} s")
    except namespaces.UNAVAILABLE as error:
        return _all(namespaces.reason(error))
    reasons = json.loads(answer)
    return {name: str(reasons[name]) for name in _NAMES}


# --- what follows runs in the short-lived process ---


def _try(action: Callable[[], None]) -> str:
    try:
        action()
    except namespaces.UNAVAILABLE as error:
        return namespaces.reason(error)
    return ""


def _try_namespaces() -> None:
    namespaces.isolate()
    namespaces.make_namespace()
    namespaces.widen_tcp_buffers(0)


def _try_tun() -> None:
    os.close(open_tun(0))


def _try_netem() -> None:
    here = namespaces.make_namespace()
    veth = Veth(rank=0, peer=1)
    add_pair(veth, here)
    with namespaces.netlink() as route:
        index = route.link_lookup(ifname=veth.device)[0]
        shape(route, index, "netem", plan_qdisc(0.020, 44e6), command="add")


def main() -> None:
    """Print `{"tun": reason, "netem": reason}`; an empty reason is a success."""
    die_with_parent()
    reason = _try(_try_namespaces)
    tries = {"tun": _try_tun, "netem": _try_netem}
    reasons = _all(reason) if reason else {name: _try(tries[name]) for name in _NAMES}
    sys.stdout.write(json.dumps(reasons))


if __name__ == "__main__":
    main()
