"""From a JAX function to an SPU executable, and from arrays to shares and back."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import spu
import spu.libspu as libspu
from numpy.typing import NDArray
from spu.utils import frontend

from mpcprof.deployment import Deployment
from mpcprof.engine.child import Child
from mpcprof.engine.party.spu_backend import make_runtime_config
from mpcprof.engine.runtime import runtime_settings
from mpcprof.errors import EngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """An executable and what to feed it.

    Attributes:
        code: The serialised executable, as a party loads it.
        input_names: Names under which a party stores its shares.
        compile_s: Seconds from the JAX function to the executable.
    """

    code: bytes
    input_names: tuple[str, ...]
    compile_s: float


def lower(
    function: Callable[..., object],
    inputs: Sequence[NDArray[Any]],
    *,
    case: str,
    deployment: Deployment,
    compiler: Child,
) -> Lowered:
    """Compile a function of secret inputs with one array as its output.

    Args:
        compiler: A party program of the deployment's runtime, on no link: what SPU's
            compiler does not know can end its process.

    Raises:
        EngineError: If JAX or SPU cannot compile it; the message is the compiler's.
    """
    names = [f"{case}-in{index}" for index in range(len(inputs))]
    start_s = time.perf_counter()
    header: dict[str, object] = {
        "command": "compile",
        "name": case,
        "input_names": names,
        "options": dict(deployment.compiler_options),
    }
    try:
        hlo, n_outputs = trace(function, inputs)
        header["output_names"] = [f"{case}-out{index}" for index in range(n_outputs)]
        code = compiler.ask_for_blobs(header, [hlo])[0]
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise EngineError(f"{case} does not compile for SPU: {lines[0]}") from error
    return Lowered(
        code=code,
        input_names=tuple(names),
        compile_s=time.perf_counter() - start_s,
    )


def trace(
    function: Callable[..., object], inputs: Sequence[NDArray[Any]]
) -> tuple[bytes, int]:
    """The function as serialised HLO at the inputs' shapes, and its number of outputs.

    SPU's frontend does this and compiles in one call. It is taken apart here, by names
    that are private in the one pinned build, for compiling to have its own process.
    """
    patches = frontend._patch_jax()  # sorting must not turn floats to integers
    try:
        hlo, outputs = frontend._jax_compilation(function, (), None, list(inputs), {})
    finally:
        frontend._restore_jax_patch(patches)
    return hlo, len(outputs) if isinstance(outputs, tuple | list) else 1


class ShareMaker:
    """Makes and joins the shares of all parties at one place."""

    def __init__(self, deployment: Deployment) -> None:
        config = make_runtime_config(runtime_settings(deployment))
        self._io = spu.Io(deployment.n_parties, config)
        self._n_parties = deployment.n_parties

    def split(
        self, arrays: Sequence[NDArray[Any]]
    ) -> tuple[list[list[bytes]], list[int]]:
        """For each rank the blobs (meta, chunks) of every array; chunks per array."""
        blobs: list[list[bytes]] = [[] for _ in range(self._n_parties)]
        n_chunks = []
        for array in arrays:
            shares = self._io.make_shares(array, libspu.Visibility.VIS_SECRET)
            n_chunks.append(len(shares[0].share_chunks))
            for rank, share in enumerate(shares):
                blobs[rank] += [share.meta, *share.share_chunks]
        return blobs, n_chunks

    def join(self, blobs_by_rank: Sequence[Sequence[bytes]]) -> NDArray[np.float64]:
        """The array whose shares (meta, chunks) the ranks hold."""
        shares = []
        for meta, *chunks in blobs_by_rank:
            share = libspu.Share()
            share.meta = meta
            share.share_chunks = chunks
            shares.append(share)
        return np.asarray(self._io.reconstruct(shares), dtype=np.float64)
