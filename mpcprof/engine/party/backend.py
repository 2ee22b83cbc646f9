"""What all SPU builds have in common: link, virtual machine, executables by case."""

import sys
from typing import Any, Dict, List

import numpy as np
import spu

_RECEIVE_TIMEOUT_MS = 3_600_000  # a Cheetah call may compute for minutes in silence


class Backend:
    """One party's link and virtual machine. Each build shares and loads in its own way.

    A build's class states `LINK`, its module of links, `EXECUTABLE`, its class of
    programs, and `WAITS_ALONE`: whether other threads of Python run while one waits for
    a message.
    """

    LINK: Any  # Any: SPU ships no types
    EXECUTABLE: Any
    WAITS_ALONE: bool

    def __init__(self) -> None:
        self.link: Any = None
        self._runtime: Any = None
        self._executables: Dict[str, Any] = {}

    def connect(self, header: Dict[str, Any]) -> None:
        """Listen at this rank's own address and dial each peer at the one given."""
        desc = self.LINK.Desc()
        desc.recv_timeout_ms = _RECEIVE_TIMEOUT_MS
        desc.http_timeout_ms = _RECEIVE_TIMEOUT_MS
        desc.connect_retry_interval_ms = 100
        desc.connect_retry_times = header.get("connect_retry_times", 100)
        if header.get("tls"):
            _set_tls(desc, header["tls"])
        for rank, address in enumerate(header["addresses"]):
            desc.add_party(f"rank{rank}", address)
        self.link = self.LINK.create_brpc(desc, header["rank"])

    def load(self, header: Dict[str, Any], blobs: List[bytes]) -> None:
        """Take the executable, then this party's shares of its inputs."""
        executable = self.EXECUTABLE()
        executable.ParseFromString(blobs[0])
        self._executables[header["case"]] = executable
        self.store(header["input_names"], header["n_chunks"], blobs[1:])

    def store(self, names: List[str], n_chunks: List[int], blobs: List[bytes]) -> None:
        """Keep this party's shares of inputs."""
        raise NotImplementedError

    @staticmethod
    def versions() -> Dict[str, str]:
        """Return the versions of what computes here."""
        return {
            "python": sys.version.split()[0],
            "spu": spu.__version__,
            "numpy": np.__version__,
        }

    def run(self, case: str) -> None:
        """Run a case once; return when this party is done."""
        self._runtime.run(self._executables[case])

    def unload(self, case: str) -> None:
        """Drop inputs, outputs and code of a case."""
        executable = self._executables.pop(case)
        for name in [*executable.input_names, *executable.output_names]:
            self._runtime.del_var(name)


def _set_tls(desc: Any, files: Dict[str, str]) -> None:
    """Speak TLS in both directions, each side showing its certificate."""
    desc.enable_ssl = True
    for options in (desc.server_ssl_opts, desc.client_ssl_opts):
        options.cert.certificate_path = files["certificate"]
        options.cert.private_key_path = files["key"]
        options.verify.ca_file_path = files["authority"]
        options.verify.verify_depth = 1
