"""What all SPU builds have in common: link, virtual machine, executables by case."""

import sys
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import spu
from framing import pack, unpack

_RECEIVE_TIMEOUT_MS = 3_600_000  # a Cheetah call may compute for minutes in silence
LINK_SETTINGS = {
    "recv_timeout_ms": _RECEIVE_TIMEOUT_MS,
    "http_timeout_ms": _RECEIVE_TIMEOUT_MS,
    "connect_retry_interval_ms": 100,
}


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
        for name, value in LINK_SETTINGS.items():
            setattr(desc, name, value)
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

    def split(
        self, header: Dict[str, Any], arrays: List[Any]
    ) -> Tuple[Dict[str, Any], List[List[bytes]]]:
        """Share arrays: for each rank the blobs of its own; their kinds."""
        raise NotImplementedError

    def join(self, header: Dict[str, Any], blobs_by_rank: List[List[bytes]]) -> Any:
        """Join the shares that the ranks hold to an array."""
        raise NotImplementedError

    def fetch(self, case: str) -> Tuple[Dict[str, Any], List[bytes]]:
        """Return this party's shares of the outputs of a case, and their kinds."""
        raise NotImplementedError

    def give(self, header: Dict[str, Any], arrays: Optional[List[Any]]) -> int:
        """Keep this party's shares of arrays that `owner` alone has, and sends.

        Answer the payload bytes that this party sent.
        """
        n_sent = 0
        if arrays is None:
            kinds, own = unpack(self.link.recv(header["owner"]))
        else:
            kinds, blobs_by_rank = self.split(header, arrays)
            own = blobs_by_rank[header["owner"]]
            for rank, blobs in enumerate(blobs_by_rank):
                if rank != header["owner"]:
                    message = pack(kinds, blobs)
                    self.link.send_async(rank, message)
                    n_sent += len(message)
        self.store(header["input_names"], kinds["n_chunks"], own)
        return n_sent

    def collect(self, header: Dict[str, Any]) -> Tuple[Any, int]:
        """Send this party's shares of the outputs of a case to `receiver`.

        Answer the array, which the receiver alone has, and the payload bytes that this
        party sent. Several outputs are one vector, one after another.
        """
        kinds, own = self.fetch(header["case"])
        if header["rank"] != header["receiver"]:
            message = pack(kinds, own)
            self.link.send_async(header["receiver"], message)
            return None, len(message)
        by_rank = [
            own if rank == header["rank"] else unpack(self.link.recv(rank))[1]
            for rank in range(header["n_parties"])
        ]
        arrays, begin = [], 0
        for n_own in kinds["n_chunks"]:
            end = begin + 1 + n_own
            arrays.append(self.join(header, [blobs[begin:end] for blobs in by_rank]))
            begin = end
        return in_one(arrays), 0

    def run(self, case: str) -> Optional[Dict[str, Any]]:
        """Run a case once; answer what is told of it instead of what SPU prints."""
        self._runtime.run(self._executables[case])
        return None

    def unload(self, case: str) -> None:
        """Drop inputs, outputs and code of a case."""
        executable = self._executables.pop(case)
        for name in [*executable.input_names, *executable.output_names]:
            self._runtime.del_var(name)


def in_one(arrays: List[Any]) -> Any:
    """Return an array, or several as one vector, one after another."""
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays])


def _set_tls(desc: Any, files: Dict[str, str]) -> None:
    """Speak TLS in both directions, each side showing its certificate."""
    desc.enable_ssl = True
    for options in (desc.server_ssl_opts, desc.client_ssl_opts):
        options.cert.certificate_path = files["certificate"]
        options.cert.private_key_path = files["key"]
        options.verify.ca_file_path = files["authority"]
        options.verify.verify_depth = 1
