"""SPU 0.9.5 as a party sees it: link, runtime, shares, executables."""

import sys
from typing import Any, Dict, List, Tuple

import numpy as np
import spu
import spu.libspu as libspu

_RECEIVE_TIMEOUT_MS = 3_600_000  # a Cheetah call may compute for minutes in silence


def make_runtime_config(settings: Dict[str, Any]) -> Any:
    """SPU's RuntimeConfig with `settings` by SPU's names; enums by member name."""
    config = libspu.RuntimeConfig()
    for name, value in settings.items():
        enum = type(getattr(config, name))
        members = getattr(enum, "__members__", None)
        setattr(config, name, members[value] if members else value)
    return config


class SpuBackend:
    """One party's link and virtual machine."""

    WAITS_ALONE = True  # a thread that waits for a message lets the others run

    def __init__(self) -> None:
        self.link: Any = None  # Any: SPU ships no types
        self._runtime: Any = None
        self._executables: Dict[str, Any] = {}

    def connect(self, header: Dict[str, Any]) -> None:
        """Listen at this rank's own address and dial each peer at the one given."""
        desc = libspu.link.Desc()
        desc.recv_timeout_ms = _RECEIVE_TIMEOUT_MS
        desc.http_timeout_ms = _RECEIVE_TIMEOUT_MS
        desc.connect_retry_interval_ms = 100
        desc.connect_retry_times = 100
        for rank, address in enumerate(header["addresses"]):
            desc.add_party(f"rank{rank}", address)
        self.link = libspu.link.create_brpc(desc, header["rank"])

    def start_runtime(self, header: Dict[str, Any]) -> None:
        """Make the virtual machine; protocols with keys exchange them here."""
        config = make_runtime_config(header["runtime_config"])
        self._runtime = spu.Runtime(self.link, config)

    @staticmethod
    def versions() -> Dict[str, str]:
        """Versions of what computes here."""
        return {
            "python": sys.version.split()[0],
            "spu": spu.__version__,
            "numpy": np.__version__,
        }

    @staticmethod
    def compile(header: Dict[str, Any], hlo: bytes) -> bytes:
        """A serialised executable of serialised HLO, all of whose inputs are secret."""
        options = libspu.CompilerOptions()
        for name, value in header["options"].items():
            setattr(options, name, value)
        secret = [libspu.Visibility.VIS_SECRET] * len(header["input_names"])
        source = libspu.CompilationSource(libspu.SourceIRType.XLA, hlo, secret)
        executable: bytes = libspu.Executable(
            name=header["name"],
            input_names=header["input_names"],
            output_names=header["output_names"],
            code=spu.compile(source, options),
        ).SerializeToString()
        return executable

    def load(self, header: Dict[str, Any], blobs: List[bytes]) -> None:
        """Blobs: the executable, then for each input its meta and its chunks."""
        executable = libspu.Executable()
        executable.ParseFromString(blobs[0])
        self._executables[header["case"]] = executable
        self.store(header["input_names"], header["n_chunks"], blobs[1:])

    def store(self, names: List[str], n_chunks: List[int], blobs: List[bytes]) -> None:
        """This party's shares of inputs: meta and chunks of each."""
        position = 0
        for name, n_own in zip(names, n_chunks):
            end = position + 1 + n_own
            self._runtime.set_var(name, _share(blobs[position:end]))
            position = end

    def run(self, case: str) -> None:
        """One call; returns when this party is done."""
        self._runtime.run(self._executables[case])

    def fetch(self, case: str) -> Tuple[Dict[str, Any], List[bytes]]:
        """Shares of the outputs: meta and chunks of each."""
        blobs: List[bytes] = []
        n_chunks = []
        for name in self._executables[case].output_names:
            share = self._runtime.get_var(name)
            chunks = list(share.share_chunks)
            n_chunks.append(len(chunks))
            blobs += [share.meta, *chunks]
        return {"n_chunks": n_chunks}, blobs

    def unload(self, case: str) -> None:
        """Drop inputs, outputs and code of a case."""
        executable = self._executables.pop(case)
        for name in [*executable.input_names, *executable.output_names]:
            self._runtime.del_var(name)

    @staticmethod
    def split(
        header: Dict[str, Any], arrays: List[Any]
    ) -> Tuple[Dict[str, Any], List[List[bytes]]]:
        """For each rank the blobs (meta, chunks) of every array; chunks per array."""
        io = _make_io(header)
        blobs: List[List[bytes]] = [[] for _ in range(header["n_parties"])]
        n_chunks = []
        for array in arrays:
            shares = io.make_shares(array, libspu.Visibility.VIS_SECRET)
            n_chunks.append(len(shares[0].share_chunks))
            for own, share in zip(blobs, shares):
                own += [share.meta, *share.share_chunks]
        return {"n_chunks": n_chunks}, blobs

    @staticmethod
    def join(header: Dict[str, Any], blobs_by_rank: List[List[bytes]]) -> Any:
        """The array whose shares (meta, chunks) the ranks hold."""
        return _make_io(header).reconstruct([_share(own) for own in blobs_by_rank])


def _make_io(header: Dict[str, Any]) -> Any:
    return spu.Io(header["n_parties"], make_runtime_config(header["runtime_config"]))


def _share(blobs: List[bytes]) -> Any:
    share = libspu.Share()
    share.meta, *share.share_chunks = blobs
    return share
