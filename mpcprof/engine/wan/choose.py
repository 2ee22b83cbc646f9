"""Emulation back-ends by name."""

from mpcprof.engine.wan.backend import Emulation
from mpcprof.engine.wan.netem import NetemEmulation
from mpcprof.engine.wan.relay import RelayEmulation
from mpcprof.engine.wan.tun import TunEmulation
from mpcprof.errors import UnknownNameError, UsageError, did_you_mean
from mpcprof.records import Emulation as EmulationName

EMULATIONS = ("auto", "relay", "tun", "netem")


def choose_emulation(name: str) -> EmulationName:
    """The back-end of that name; `auto` is the relay, which runs everywhere.

    Raises:
        UnknownNameError: If there is none.
    """
    if name == "tun":
        return "tun"
    if name == "netem":
        return "netem"
    if name in ("auto", "relay"):
        return "relay"
    raise UnknownNameError(f"no emulation {name!r}; {did_you_mean(name, EMULATIONS)}")


def make_emulation(name: EmulationName, base_port: int = 0) -> Emulation:
    """A back-end that has not started yet.

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
