"""SecretFlow as a party sees it: a driver with PYU and SPU devices, without Ray.

Every party runs this same program, as SecretFlow's production mode asks: what one
party owns is read at its PYU device, shared by `to(spu)`, computed on by the SPU
device, and revealed by `to(pyu)`. Shares and programs go over the drivers' own gRPC
link, SPU's messages over that of the SPU device.

Two things are not SecretFlow's. Its SPU device compiles a program that mpcprof's JAX
has traced, so that it is the one that bare SPU runs. And what SPU does is timed apart,
for in a call SecretFlow also compiles and sends the program.
"""

import tempfile
import time
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import secretflow
import spu
import spu.utils.frontend as frontend
from backend import LINK_SETTINGS, in_one
from framing import pack, unpack
from secretflow.device.device.spu import SPUCompilerNumReturnsPolicy
from spu_backend import Spu095Backend, make_compiler_options

_NAMES = ("alice", "bob", "carol")  # SecretFlow ranks parties by name
_FIRST = 0  # owner of the inputs that come with a case, receiver of what is fetched
_DRIVER_OPTIONS = {
    "timeout_in_ms": LINK_SETTINGS["recv_timeout_ms"],
    "grpc_channel_options": [("grpc.enable_http_proxy", 0)],
}


class WatchedRuntime:
    """SPU's runtime with the times of its last run, and bytes of shares in and out."""

    def __init__(self, runtime: Any) -> None:  # Any: SPU ships no types
        self._runtime = runtime
        self.times: Dict[str, float] = {}
        self.share_bytes = 0

    def run(self, executable: Any) -> None:
        """Run an executable."""
        begin_s, busy_s = time.monotonic(), time.process_time()
        self._runtime.run(executable)
        end_s, busy_s = time.monotonic(), time.process_time() - busy_s
        self.times = {"begin_s": begin_s, "end_s": end_s, "busy_s": busy_s}

    def set_var(self, name: str, share: Any) -> None:
        """Take a share."""
        self.share_bytes += _size(share)
        self._runtime.set_var(name, share)

    def get_var(self, name: str) -> Any:
        """Return a share."""
        share = self._runtime.get_var(name)
        self.share_bytes += _size(share)
        return share

    def __getattr__(self, name: str) -> Any:
        """Return whatever else SPU's runtime has."""
        return getattr(self._runtime, name)


class SecretFlowBackend(Spu095Backend):
    """One party's driver, its PYU device, and its part of the SPU device."""

    def connect(self, header: Dict[str, Any]) -> None:
        """Start the driver, which listens for those of the other parties."""
        addresses = header["driver_addresses"]
        self._rank = header["rank"]
        self._names = _NAMES[: len(addresses)]
        parties = {n: {"address": a} for n, a in zip(self._names, addresses)}
        secretflow.init(
            ray_mode=False,
            cluster_config={"parties": parties, "self_party": self._names[self._rank]},
            cross_silo_comm_options=dict(_DRIVER_OPTIONS),
            logging_level="warning",
        )
        self._pyus = [secretflow.PYU(name) for name in self._names]
        frontend._jax_compilation = _traced_before
        self._addresses = header["addresses"]

    def start_runtime(self, header: Dict[str, Any]) -> None:
        """Make the SPU device: its link and its virtual machine, in every party."""
        nodes = [
            {"party": name, "address": address}
            for name, address in zip(self._names, self._addresses)
        ]
        definition = {"nodes": nodes, "runtime_config": header["runtime_config"]}
        link = {**LINK_SETTINGS, "connect_retry_times": 100}
        log = spu.logging.LogOptions()
        # SPU prints to the party's log, and insists on a file of its own as well
        self._unread = tempfile.TemporaryFile()  # noqa: SIM115 - open to the end
        log.system_log_path = f"/proc/self/fd/{self._unread.fileno()}"
        self._device = secretflow.SPU(definition, link, log)
        self._actor = self._device.actors[self._names[self._rank]]
        own = self._actor._cls_fed_obj.get_object()
        own.runtime = self._runtime = WatchedRuntime(own.runtime)
        self.link = own.link
        # inputs that come together are one value, under the first of their names
        self._values: Dict[str, Any] = {}
        self._programs: Dict[str, Any] = {}

    @staticmethod
    def versions() -> Dict[str, str]:
        """Return the versions of what computes here."""
        return {"secretflow": secretflow.__version__, **Spu095Backend.versions()}

    @staticmethod
    def compile(header: Dict[str, Any], hlo: bytes) -> bytes:
        """Check that serialised HLO compiles, and return it with what it is called.

        The SPU device compiles it, in each call, in a party, which a refusal would end.
        """
        Spu095Backend.compile(header, hlo)
        packed: bytes = pack({"program": header}, [hlo])
        return packed

    def load(self, header: Dict[str, Any], blobs: List[bytes]) -> None:
        """Take a program, then its inputs, which the first party shares."""
        kinds, (hlo,) = unpack(blobs[0])
        self._programs[header["case"]] = _make_program(kinds["program"], hlo)
        if header["input_names"]:
            is_first = self._rank == _FIRST
            arrays = [*map(_unpack_array, blobs[1:])] if is_first else None
            self._share(header["input_names"], _FIRST, arrays)

    def _share(self, names: List[str], owner: int, arrays: Optional[List[Any]]) -> None:
        shared = self._pyus[owner](lambda: arrays)().to(self._device)
        self._values.update({**dict.fromkeys(names), names[0]: shared})
        self._wait_for(shared)

    def _wait_for(self, value: Any) -> None:
        """Return when this party has its share of a value."""
        value.shares_name[self._rank].get_object()

    def run(self, case: str) -> Dict[str, float]:
        """Call the program on the SPU device; answer SPU's times and those around."""
        program = self._programs[case]
        values = [self._values[name] for name in program.header["input_names"]]
        names = program.header["output_names"]
        called_s = time.monotonic()
        call = self._device(
            program,
            num_returns_policy=SPUCompilerNumReturnsPolicy.FROM_USER,
            user_specified_num_returns=len(names),
            copts=make_compiler_options(program.header["options"]),
        )
        outputs = call(*(value for value in values if value is not None))
        self._values.update(zip(names, outputs if len(names) > 1 else [outputs]))
        self._wait_for(self._values[names[0]])
        return dict(self._runtime.times, called_s=called_s, done_s=time.monotonic())

    def give(self, header: Dict[str, Any], arrays: Optional[List[Any]]) -> int:
        """Share what `owner` alone has; the bytes are those that came to this party."""
        before = self._runtime.share_bytes
        self._share(header["input_names"], header["owner"], arrays)
        is_owner = self._rank == header["owner"]
        return 0 if is_owner else self._runtime.share_bytes - before

    def collect(self, header: Dict[str, Any]) -> Tuple[Any, int]:
        """Reveal the output of a case at the PYU device of `receiver`."""
        arrays, n_sent = self._reveal(header["case"], header["receiver"])
        return (in_one(arrays) if arrays else None), n_sent

    def _reveal(self, case: str, receiver: int) -> Tuple[Optional[List[Any]], int]:
        before = self._runtime.share_bytes
        names = self._programs[case].header["output_names"]
        values = [self._values[name] for name in names]
        revealed = [value.to(self._pyus[receiver]) for value in values]
        # calls of an actor run one after another: this one ends after the shares left
        last = values[-1].shares_name[self._rank]
        self._actor.outfeed_shares_chunk_count.remote(last).get_object()
        if self._rank == receiver:
            return [one.data.get_object() for one in revealed], 0
        return None, self._runtime.share_bytes - before

    def fetch(self, case: str) -> Tuple[Dict[str, Any], List[bytes]]:
        """Reveal the outputs of a case at the first party, which returns them."""
        arrays, _ = self._reveal(case, _FIRST)
        n_outputs = len(self._programs[case].header["output_names"])
        blobs = [*map(_pack_array, arrays)] if arrays else [b""] * n_outputs
        return {"n_chunks": [0] * n_outputs}, blobs

    def unload(self, case: str) -> None:
        """Drop inputs, outputs and program of a case."""
        header = self._programs.pop(case).header
        for name in [*header["input_names"], *header["output_names"]]:
            self._values.pop(name, None)

    @staticmethod
    def split(
        header: Dict[str, Any], arrays: List[Any]
    ) -> Tuple[Dict[str, Any], List[List[bytes]]]:
        """Give all arrays to the first party, whose PYU device will share them."""
        nothing = [b""] * len(arrays)
        others = [nothing] * (header["n_parties"] - 1)
        return {"n_chunks": []}, [[*map(_pack_array, arrays)], *others]

    @staticmethod
    def join(header: Dict[str, Any], blobs_by_rank: List[List[bytes]]) -> Any:
        """Return the array that the first party had revealed."""
        return _unpack_array(blobs_by_rank[_FIRST][0])


def _make_program(header: Dict[str, Any], hlo: bytes) -> Any:
    """Make a function that is never called: `_traced_before` knows what it is."""

    def program(*_: Any) -> None:
        raise AssertionError("traced before")

    program.__name__ = program.__qualname__ = header["name"]
    program.header = header  # type: ignore[attr-defined]
    program.hlo = hlo  # type: ignore[attr-defined]
    return program


def _traced_before(program: Any, *_: Any) -> Tuple[bytes, List[int]]:
    """Return a program's HLO, and as many leaves as it has outputs."""
    return program.hlo, [0] * len(program.header["output_names"])


def _size(share: Any) -> int:
    return len(share.meta) + sum(map(len, share.share_chunks))


def _pack_array(array: Any) -> bytes:
    kind = {"dtype": array.dtype.str, "shape": list(array.shape)}
    packed: bytes = pack(kind, [np.ascontiguousarray(array).tobytes()])
    return packed


def _unpack_array(blob: bytes) -> Any:
    kind, (content,) = unpack(blob)
    return np.frombuffer(content, kind["dtype"]).reshape(kind["shape"]).copy()


BACKEND = SecretFlowBackend
