"""SPU 0.3.1b0 as a party sees it: protobuf messages where 0.9.5 has classes."""

import contextlib
import os
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
from backend import Backend
from spu.binding import _lib
from spu.binding.api import Io, Runtime, compile
from spu.spu_pb2 import ExecutableProto, RuntimeConfig, ValueProto, Visibility

_JOIN = b"""func.func @main(%arg: tensor<2xf32>) -> tensor<4xf32> {
  %out = "mhlo.concatenate"(%arg, %arg) {dimension = 0 : i64} :
      (tensor<2xf32>, tensor<2xf32>) -> tensor<4xf32>
  "func.return"(%out) : (tensor<4xf32>) -> ()
}"""


def make_runtime_config(settings: Dict[str, Any]) -> Any:
    """Make SPU's RuntimeConfig of `settings` by SPU's names; enums by member name."""
    config = RuntimeConfig()
    for name, value in settings.items():
        enum = RuntimeConfig.DESCRIPTOR.fields_by_name[name].enum_type
        number = enum.values_by_name[value].number if enum else value
        setattr(config, name, number)
    return config


class Spu031Backend(Backend):
    """One party's link and virtual machine."""

    LINK = _lib.link
    EXECUTABLE = ExecutableProto
    WAITS_ALONE = False  # no other thread of Python runs while one waits

    def connect(self, header: Dict[str, Any]) -> None:
        """Listen at this rank's own address and dial each peer at the one given."""
        _count_processors()
        super().connect(header)

    def start_runtime(self, header: Dict[str, Any]) -> None:
        """Make the virtual machine; protocols with keys exchange them here."""
        config = make_runtime_config(header["runtime_config"])
        self._runtime = Runtime(self.link, config)

    @staticmethod
    def compile(header: Dict[str, Any], mhlo: bytes) -> bytes:
        """Compile MHLO text, all of whose inputs are secret, to an executable.

        An operation that the parser does not know ends the process.
        """
        secret = [Visibility.Value("VIS_SECRET")] * len(header["input_names"])
        executable: bytes = ExecutableProto(
            name=header["name"],
            input_names=header["input_names"],
            output_names=header["output_names"],
            code=compile(mhlo, "mhlo", secret),
        ).SerializeToString()
        return executable

    def store(self, names: List[str], _: List[int], blobs: List[bytes]) -> None:
        """Keep this party's shares of inputs, one message each."""
        for name, blob in zip(names, blobs):
            self._runtime.set_var(name, _share(blob))

    def fetch(self, case: str) -> Tuple[Dict[str, Any], List[bytes]]:
        """Return this party's share of each output."""
        names = self._executables[case].output_names
        blobs = [self._runtime.get_var(name).SerializeToString() for name in names]
        return {"n_chunks": [0] * len(names)}, blobs

    @staticmethod
    def split(
        header: Dict[str, Any], arrays: List[Any]
    ) -> Tuple[Dict[str, Any], List[List[bytes]]]:
        """Share arrays: for each rank one blob of every array."""
        io = _make_io(header)
        by_array = [io.make_shares(x, Visibility.Value("VIS_SECRET")) for x in arrays]
        ranks = range(header["n_parties"])
        blobs = [[s[rank].SerializeToString() for s in by_array] for rank in ranks]
        return {"n_chunks": [0] * len(arrays)}, blobs

    @staticmethod
    def join(header: Dict[str, Any], blobs_by_rank: List[List[bytes]]) -> Any:
        """Join the shares, one of each rank, to an array."""
        shares = [_share(blob) for (blob,) in blobs_by_rank]
        return _make_io(header).reconstruct(shares)


def _count_processors() -> None:
    """Let SPU count the processors of the machine, then have this party's own again.

    It divides work by their number less one, counted once, and so dies of a party that
    has one processor to itself.
    """
    own = os.sched_getaffinity(0)
    os.environ["YASL_NUM_THREADS"] = str(len(own))
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    try:
        if len(os.sched_getaffinity(0)) < 2:
            raise RuntimeError("SPU 0.3.1b0 needs a machine with 2 processors, has 1")
        _run_alone()
    finally:
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread.name), own)


def _run_alone() -> None:
    """Run a program of one party that joins two arrays: that is where SPU counts."""
    desc = _lib.link.Desc()
    desc.add_party("alone", "alone")
    config = make_runtime_config({"protocol": "REF2K", "field": "FM64"})
    runtime = Runtime(_lib.link.create_mem(desc, 0), config)
    (share,) = Io(1, config).make_shares(np.zeros(2), Visibility.Value("VIS_SECRET"))
    runtime.set_var("in", share)
    secret = [Visibility.Value("VIS_SECRET")]
    code = compile(_JOIN, "mhlo", secret)
    runtime.run(ExecutableProto(input_names=["in"], output_names=["out"], code=code))


def _make_io(header: Dict[str, Any]) -> Any:
    return Io(header["n_parties"], make_runtime_config(header["runtime_config"]))


def _share(blob: bytes) -> Any:
    share = ValueProto()
    share.ParseFromString(blob)
    return share


BACKEND = Spu031Backend
