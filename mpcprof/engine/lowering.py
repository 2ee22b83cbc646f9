"""From a JAX function to an SPU executable, and from arrays to shares and back."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray
from spu.utils import frontend

from mpcprof.deployment import Deployment
from mpcprof.engine.child import Child
from mpcprof.engine.mhlo import to_mhlo
from mpcprof.engine.runtime import Dialect, Runtime, runtime_settings
from mpcprof.errors import EngineError

_PLATFORM = "interpreter"  # a lowering for none in particular, as SPU's frontend asks


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
    runtime: Runtime,
    compiler: Child,
) -> Lowered:
    """Compile a function of secret inputs with one array as its output.

    Args:
        compiler: A party program of that runtime, on no link: what SPU's compiler does
            not know can end its process.

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
        program, n_outputs = trace(function, inputs, runtime.dialect)
        header["output_names"] = [f"{case}-out{index}" for index in range(n_outputs)]
        code = compiler.ask_for_blobs(header, [program])[0]
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise EngineError(
            f"{case} does not compile for {runtime.title}: {lines[0]}"
        ) from error
    return Lowered(
        code=code,
        input_names=tuple(names),
        compile_s=time.perf_counter() - start_s,
    )


def trace(
    function: Callable[..., object],
    inputs: Sequence[NDArray[Any]],
    dialect: Dialect = "hlo",
) -> tuple[bytes, int]:
    """The function at the inputs' shapes as a compiler reads it; number of outputs.

    SPU's frontend does this and compiles in one call. It is taken apart here, by names
    that are private in the one pinned build, for compiling to have its own process.
    """
    patches = frontend._patch_jax()  # sorting must not turn floats to integers
    try:
        if dialect == "mhlo":
            return _trace_mhlo(function, inputs)
        hlo, outputs = frontend._jax_compilation(function, (), None, list(inputs), {})
    finally:
        frontend._restore_jax_patch(patches)
    return hlo, _count(outputs)


def _trace_mhlo(
    function: Callable[..., object], inputs: Sequence[NDArray[Any]]
) -> tuple[bytes, int]:
    traced = jax.jit(function, keep_unused=True).trace(*inputs)
    lowered = traced.lower(lowering_platforms=(_PLATFORM,))
    text = to_mhlo(lowered.compiler_ir("stablehlo"))
    return text.encode(), _count(lowered.out_info)


def _count(outputs: object) -> int:
    return len(outputs) if isinstance(outputs, tuple | list) else 1


class ShareMaker:
    """Makes and joins the shares of all parties at one place.

    That place is a child with the packages of the parties' build: shares of one build
    are not those of another, and two builds do not fit into one process.

    Args:
        place: The child, which may be another one each time.
    """

    def __init__(self, deployment: Deployment, place: Callable[[], Child]) -> None:
        self._place = place
        self._header: dict[str, object] = {
            "n_parties": deployment.n_parties,
            "runtime_config": runtime_settings(deployment),
        }
        self._n_parties = deployment.n_parties

    def split(
        self, arrays: Sequence[NDArray[Any]]
    ) -> tuple[list[list[bytes]], list[int]]:
        """For each rank the blobs (meta, chunks) of every array; chunks per array."""
        kinds = [{"dtype": x.dtype.str, "shape": list(x.shape)} for x in arrays]
        header = {**self._header, "command": "split", "arrays": kinds}
        answer, blobs = self._place().ask_with_blobs(
            header, [x.tobytes() for x in arrays]
        )
        n_own = len(blobs) // self._n_parties
        by_rank = [blobs[i : i + n_own] for i in range(0, len(blobs), n_own)]
        return by_rank, answer["n_chunks"]

    def join(self, blobs_by_rank: Sequence[Sequence[bytes]]) -> NDArray[np.float64]:
        """The array whose shares (meta, chunks) the ranks hold."""
        header = {**self._header, "command": "join"}
        blobs = [blob for own in blobs_by_rank for blob in own]
        answer, (content,) = self._place().ask_with_blobs(header, blobs)
        return np.frombuffer(content).reshape(answer["shape"])
