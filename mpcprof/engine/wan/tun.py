"""A TUN relay as an emulation back-end: real TCP, and no netem needed.

What it emulates, and how far it is like a real line, stands in `tun_process`.
"""

from mpcprof.engine.wan.holder import NamespaceEmulation


class TunEmulation(NamespaceEmulation):
    """Parties in namespaces of their own, connected through the TUN relay.

    `set_network` changes all lines at once: what is under way begins its way anew, so
    that nothing is lost, overtaken, or waits for the end of an old queue.
    """

    name = "tun"
    module = "mpcprof.engine.wan.tun_process"

    def n_dropped(self) -> int:
        """Packets dropped since the start, which should be none."""
        return int(self.holder.ask({"command": "count"})["dropped"])
