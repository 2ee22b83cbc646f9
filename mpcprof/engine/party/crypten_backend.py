"""CrypTen as a party sees it: a tensor program, operation by operation, over gloo."""

import base64
import fcntl
import json
import logging
import os
import socket
import struct
import sys
import time
import types
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import torch
from tcp_link import TcpLink, split_address

# What CrypTen imports for PyTorch models and TensorBoard, neither of which loads today
for _name in ("onnx_converter", "tensorboard"):
    _module: Any = types.ModuleType(f"crypten.nn.{_name}")
    _module.from_onnx = _module.from_pytorch = _module.from_tensorflow = None
    _module.TF_AND_TF2ONNX = False
    sys.modules[_module.__name__] = _module

import crypten  # noqa: E402 - after what it must not import
import crypten.communicator  # noqa: E402

_SIOCGIFADDR = 0x8915  # Linux: the address of a network interface
_GLOO_MESSAGES = 4  # of a party in one all_reduce of two: ask, half, ask, half
_BYTES = 8  # of an entry of the ring

Operation = Dict[str, Any]  # one entry of a tensor program


class CryptenBackend:
    """One party: CrypTen's communicator, and shares by name."""

    WAITS_ALONE = True

    def __init__(self) -> None:
        self.link: Any = None
        self._settings: Dict[str, Any] = {}
        self._programs: Dict[str, Dict[str, Any]] = {}
        self._values: Dict[str, Any] = {}

    def connect(self, header: Dict[str, Any]) -> None:
        """Open a link for what is no computation, at the same addresses as gloo's."""
        self.link = TcpLink(header["rank"], header["addresses"])

    def start_runtime(self, header: Dict[str, Any]) -> None:
        """Start CrypTen: its process groups, and its seeds from party to party."""
        rank, addresses = header["rank"], header["addresses"]
        _configure(header["runtime_config"])
        host, port = split_address(addresses[0])
        os.environ.update(
            DISTRIBUTED_BACKEND="gloo",
            GLOO_SOCKET_IFNAME=_interface_of(split_address(addresses[rank])[0]),
            RANK=str(rank),
            RENDEZVOUS=f"tcp://{host}:{port + 1}",
            WORLD_SIZE=str(len(addresses)),
        )
        torch.set_num_threads(int(os.environ.get("OMP_THREAD_LIMIT", "1")))
        logging.disable(logging.INFO)
        crypten.init()
        crypten.config.cfg.communicator.verbose = True  # it counts

    @staticmethod
    def versions() -> Dict[str, str]:
        """Return the versions of what computes here."""
        return {
            "python": sys.version.split()[0],
            "crypten": crypten.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        }

    @staticmethod
    def compile(header: Dict[str, Any], program: bytes) -> bytes:
        """Return the program with the names of its inputs and outputs."""
        known = json.loads(program)
        for operation in known["operations"]:
            if operation["name"] not in OPERATIONS:
                raise RuntimeError(f"CrypTen has no {operation['name']}")
        names = {key: header[key] for key in ("input_names", "output_names")}
        return json.dumps({**known, **names}).encode()

    @staticmethod
    def split(
        header: Dict[str, Any], arrays: List[Any]
    ) -> Tuple[Dict[str, Any], List[List[bytes]]]:
        """Share arrays: for each rank a meta and a chunk of every array."""
        bits = header["runtime_config"]["fxp_fraction_bits"]
        blobs: List[List[bytes]] = [[] for _ in range(header["n_parties"])]
        for array in arrays:
            scale_bits = bits if array.dtype.kind == "f" else 0
            whole = np.round(array.astype(np.float64) * 2**scale_bits).astype(np.int64)
            meta = json.dumps({"shape": array.shape, "bits": scale_bits}).encode()
            random = [
                np.frombuffer(os.urandom(_BYTES * whole.size), np.int64)
                for _ in blobs[1:]
            ]
            own = [whole.ravel() - sum(random), *random]
            for blob, share in zip(blobs, own):
                blob += [meta, share.tobytes()]
        return {"n_chunks": [1] * len(arrays)}, blobs

    @staticmethod
    def join(header: Dict[str, Any], blobs_by_rank: List[List[bytes]]) -> Any:
        """Join the shares (meta, chunk) that the ranks hold to an array."""
        shares = [np.frombuffer(chunk, np.int64) for _, chunk in blobs_by_rank]
        meta = json.loads(blobs_by_rank[0][0])
        whole = np.sum(shares, axis=0, dtype=np.int64).reshape(meta["shape"])
        return whole / 2.0 ** meta["bits"]

    def load(self, header: Dict[str, Any], blobs: List[bytes]) -> None:
        """Take the program, then this party's shares of its inputs."""
        self._programs[header["case"]] = json.loads(blobs[0])
        self.store(header["input_names"], header["n_chunks"], blobs[1:])

    def store(self, names: List[str], _: List[int], blobs: List[bytes]) -> None:
        """Keep this party's shares of inputs: a meta and a chunk of each."""
        for name, meta, chunk in zip(names, blobs[::2], blobs[1::2]):
            known = json.loads(meta)
            share = torch.from_numpy(np.frombuffer(chunk, np.int64).copy())
            self._values[name] = crypten.mpc.MPCTensor.from_shares(
                share.reshape(known["shape"]), precision=known["bits"]
            )

    def fetch(self, case: str) -> Tuple[Dict[str, Any], List[bytes]]:
        """Return this party's shares of the outputs: a meta and a chunk of each."""
        blobs: List[bytes] = []
        names = self._programs[case]["output_names"]
        for name in names:
            own = self._values[name]._tensor
            bits = int(own.encoder.scale).bit_length() - 1
            meta = {"shape": list(own.share.shape), "bits": bits}
            blobs += [json.dumps(meta).encode(), own.share.numpy().tobytes()]
        return {"n_chunks": [1] * len(names)}, blobs

    def unload(self, case: str) -> None:
        """Drop inputs, outputs and program of a case."""
        program = self._programs.pop(case)
        for name in [*program["input_names"], *program["output_names"]]:
            self._values.pop(name, None)

    def run(self, case: str) -> Dict[str, Any]:
        """Run a case once; answer what each operation took, as SPU's profile has it."""
        program = self._programs[case]
        values: Dict[Any, Any] = {
            name: torch.from_numpy(
                np.frombuffer(base64.b64decode(constant["data"])).copy()
            ).reshape(constant["shape"])
            for name, constant in program["constants"].items()
        }
        values.update(
            (number, self._values[name])
            for number, name in zip(program["inputs"], program["input_names"])
        )
        counts = _Counts()
        with crypten.no_grad():
            for operation in program["operations"]:
                counts.begin()
                values[operation["result"]] = _apply(operation, values)
                counts.end(operation["name"])
            for name, number in zip(program["output_names"], program["outputs"]):
                self._values[name] = _whole(values[number], None)
        return {"profile": counts.profile(case)}


class _Counts:
    """Seconds, messages and bytes of each operation."""

    def __init__(self) -> None:
        self._communicator = crypten.communicator.get()
        self._communicator.reset_communication_stats()
        self._start_s = time.perf_counter()
        self._by_name: Dict[str, List[float]] = {}

    def _state(self) -> Tuple[float, float, float]:
        stats = self._communicator.get_communication_stats()
        return time.perf_counter(), stats["rounds"], stats["bytes"]

    def begin(self) -> None:
        """Note where an operation begins."""
        self._before = self._state()

    def end(self, name: str) -> None:
        """Count what was done since."""
        own = self._by_name.setdefault(name, [0, 0.0, 0, 0])
        own[0] += 1
        for index, (now, before) in enumerate(zip(self._state(), self._before), 1):
            own[index] += now - before

    def profile(self, case: str) -> Dict[str, Any]:
        """Return the run as SPU's log tells one; a party receives what it sends."""
        operations = [
            {
                "level": "pphlo",
                "name": name,
                "count": int(count),
                "duration_s": duration_s,
                **_messages(n_rounds, n_bytes),
            }
            for name, (count, duration_s, n_rounds, n_bytes) in self._by_name.items()
        ]
        total_s = time.perf_counter() - self._start_s
        _, n_rounds, n_bytes = self._state()
        return {
            "name": case,
            "total_s": total_s,
            "execution_s": total_s,
            **_messages(n_rounds, n_bytes),
            "operations": operations,
        }


def _messages(n_rounds: float, n_bytes: float) -> Dict[str, int]:
    """Return what a party sends and receives; CrypTen adds both up."""
    sent, n_messages = int(n_bytes) // 2, _GLOO_MESSAGES * int(n_rounds)
    return {
        "bytes_sent": sent,
        "bytes_received": sent,
        "send_actions": n_messages,
        "recv_actions": n_messages,
    }


def _configure(settings: Dict[str, Any]) -> None:
    """Set the fraction bits, and CrypTen's own settings of functions by their names."""
    cfg = crypten.config.cfg
    cfg.encoder.precision_bits = settings["fxp_fraction_bits"]
    for name, value in settings.items():
        if name in cfg.functions:
            setattr(cfg.functions, name, value)


def _interface_of(host: str) -> str:
    """Return the network interface that has an address, which gloo asks for."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode())
            try:
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
            except OSError:  # an interface without an address
                continue
            if socket.inet_ntoa(answer[20:24]) == host:
                return name
    raise RuntimeError(f"no network interface has the address {host}")


# --- operations: secrets may stand for entries that broadcast, as in torch ---


def _apply(operation: Operation, values: Dict[Any, Any]) -> Any:
    operands = [
        one if isinstance(one, float) else values[one] for one in operation["operands"]
    ]
    return OPERATIONS[operation["name"]](operation, *operands)


def _whole(x: Any, shape: Any) -> Any:
    """Return a secret whose entries are all there."""
    if shape is None or list(x.size()) == list(shape):
        return x
    return x.expand(*shape)


def _is_secret(x: Any) -> bool:
    return isinstance(x, crypten.CrypTensor)


def _add(_: Operation, x: Any, y: Any) -> Any:
    return x + y if _is_secret(x) else y + x


def _sub(_: Operation, x: Any, y: Any) -> Any:
    return x - y if _is_secret(x) else -y + x


def _mul(_: Operation, x: Any, y: Any) -> Any:
    return x * y if _is_secret(x) else y * x


def _div(operation: Operation, x: Any, y: Any) -> Any:
    if not _is_secret(y):
        return x.div(y)
    is_positive = {"functions.reciprocal_all_pos": operation["is_never_negative"]}
    with crypten.config.cfg.temp_override(is_positive):
        inverse = y.reciprocal()
    return inverse if isinstance(x, float) and x == 1 else _mul(operation, inverse, x)


def _max(_: Operation, x: Any, y: Any) -> Any:
    if not _is_secret(x):
        x, y = y, x
    return (x - y).relu() + y


def _min(_: Operation, x: Any, y: Any) -> Any:
    if not _is_secret(x):
        x, y = y, x
    return -((-x + y).relu()) + y if _is_secret(y) else -((-x + y).relu() - y)


def _compare(name: str) -> Callable[..., Any]:
    mirrored = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}

    def compare(_: Operation, x: Any, y: Any) -> Any:
        if _is_secret(x):
            return getattr(x, name)(y)
        return getattr(y, mirrored[name])(x)

    return compare


def _select(_: Operation, condition: Any, otherwise: Any, chosen: Any) -> Any:
    if not _is_secret(chosen):  # condition (chosen - otherwise) + otherwise
        chosen = -otherwise + chosen if _is_secret(otherwise) else chosen - otherwise
        return _add({}, condition * chosen, otherwise)
    if isinstance(otherwise, float) and otherwise == 0:
        return condition * chosen
    return condition * (chosen - otherwise) + otherwise


def _sum(operation: Operation, x: Any) -> Any:
    x = _whole(x, operation["shapes"][0])
    for axis in sorted(operation["axes"], reverse=True):
        x = x.sum(axis)
    return x


def _largest(operation: Operation, x: Any) -> Any:
    (axis,) = operation["axes"]
    return _whole(x, operation["shapes"][0]).max(axis)[0]


def _reshape(operation: Operation, x: Any) -> Any:
    return _whole(x, operation["shapes"][0]).reshape(*operation["shape"])


def _broadcast(operation: Operation, x: Any) -> Any:
    """Put axes of length 1 where others broadcast: nothing is computed twice."""
    x = _whole(x, operation["shapes"][0])
    shape = [1] * len(operation["shape"])
    for axis, length in zip(operation["broadcast_dimensions"], x.size()):
        shape[axis] = length
    return x.reshape(*shape)


def _transpose(operation: Operation, x: Any) -> Any:
    return _whole(x, operation["shapes"][0]).permute(*operation["permutation"])


def _slice(operation: Operation, x: Any) -> Any:
    bounds = zip(
        operation["start_indices"],
        operation["limit_indices"],
        operation["strides"] or [1] * len(operation["start_indices"]),
    )
    cut = tuple(slice(begin, end, step) for begin, end, step in bounds)
    return _whole(x, operation["shapes"][0])[cut]


def _join(operation: Operation, *arrays: Any) -> Any:
    secret = next(x for x in arrays if _is_secret(x))
    whole = []
    for x, shape in zip(arrays, operation["shapes"]):
        if not _is_secret(x):
            public = x if isinstance(x, torch.Tensor) else torch.tensor(x)
            zeros = torch.zeros(shape, dtype=torch.int64)
            x = secret.from_shares(zeros, precision=None) + public.float().expand(shape)
        whole.append(_whole(x, shape))
    return crypten.cat(whole, dim=operation["dimension"])


def _dot(operation: Operation, x: Any, y: Any) -> Any:
    """Multiply matrices: (batch, rows, inner) by (batch, inner, columns)."""
    (inner_x, inner_y), (batch_x, batch_y) = operation["dimension_numbers"]
    shapes = operation["shapes"]
    x = _as_matrices(x, shapes[0], batch_x, inner_x, is_left=True)
    y = _as_matrices(y, shapes[1], batch_y, inner_y, is_left=False)
    if _is_secret(x):
        product = x.matmul(y)
    else:  # (x y) = (y' x')'
        product = y.transpose(-1, -2).matmul(x.transpose(-1, -2)).transpose(-1, -2)
    return product.reshape(*operation["shape"])


def _as_matrices(
    x: Any, shape: List[int], batch: List[int], inner: List[int], *, is_left: bool
) -> Any:
    free = [i for i in range(len(shape)) if i not in batch and i not in inner]
    order = [*batch, *free, *inner] if is_left else [*batch, *inner, *free]
    length = int(np.prod([shape[i] for i in inner]))
    outer = [shape[i] for i in batch]
    n_free = int(np.prod([shape[i] for i in free]))
    matrix = [n_free, length] if is_left else [length, n_free]
    if isinstance(x, float):
        x = torch.full(shape, x, dtype=torch.float64)
    x = _whole(x, shape)
    x = x if order == [*range(len(shape))] else x.permute(*order)
    return x.reshape(*outer, *matrix)


OPERATIONS: Dict[str, Callable[..., Any]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "neg": lambda _, x: -x,
    "square": lambda _, x: x.square(),
    "integer_pow": lambda operation, x: x.pow(operation["y"]),
    "max": _max,
    "min": _min,
    "relu": lambda _, x: x.relu(),
    "abs": lambda _, x: x.abs(),
    "sign": lambda _, x: x.sign(),
    "exp": lambda _, x: x.exp(),
    "log": lambda _, x: x.log(),
    "sqrt": lambda _, x: x.sqrt(),
    "rsqrt": lambda _, x: x.inv_sqrt(),
    "tanh": lambda _, x: x.tanh(),
    "logistic": lambda _, x: x.sigmoid(),
    "erf": lambda _, x: x.erf(),
    "sin": lambda _, x: x.sin(),
    "cos": lambda _, x: x.cos(),
    **{name: _compare(name) for name in ("lt", "gt", "le", "ge")},
    "select_n": _select,
    "reduce_sum": _sum,
    "reduce_max": _largest,
    "dot_general": _dot,
    "reshape": _reshape,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "slice": _slice,
    "concatenate": _join,
}
BACKEND = CryptenBackend
