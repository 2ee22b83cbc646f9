"""From a JAX function to an SPU executable, and from arrays to shares and back."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxlib.mlir import ir
from numpy.typing import NDArray
from spu.utils import frontend

from mpcprof.builds import Build, Dialect
from mpcprof.deployment import Deployment
from mpcprof.engine.child import Child
from mpcprof.engine.tensor_program import to_tensor_program
from mpcprof.errors import EngineError, PartyDiedError

_DIALECTS = ("stablehlo", "func", "builtin")
# Layout of arguments, names of results, number of devices: no part of what is computed
_IGNORED = ("arg_attrs", "res_attrs", "mhlo.num_partitions", "mhlo.num_replicas")
_INDENT = "  "


def to_mhlo(module: ir.Module) -> str:
    """Print the module as MHLO in generic form.

    Raises:
        EngineError: If an operation or an attribute has no counterpart in MHLO.
    """
    return _Printer().operation(module.operation, "")


class _Printer:
    """Prints one module; numbers its values as it comes upon them."""

    def __init__(self) -> None:
        self._names: dict[ir.Value, str] = {}

    def operation(self, operation: ir.Operation, margin: str) -> str:
        """Print `%results = "mhlo.name"(%operands) (regions) {attributes} : types`."""
        operands = self._join(_each(operation.operands))
        regions = ", ".join(self._region(r, margin) for r in operation.regions)
        results = self._join(map(self._number, _each(operation.results)))
        text = f"{margin}{results + ' = ' if results else ''}"
        text += f'"{_name(operation)}"({operands})'
        text += f" ({regions})" if regions else ""
        return f"{text}{_attributes(operation)} : {_signature(operation)}\n"

    def _region(self, region: ir.Region, margin: str) -> str:
        return (
            "{\n"
            + "".join(self._block(b, margin) for b in region.blocks)
            + f"{margin}}}"
        )

    def _block(self, block: ir.Block, margin: str) -> str:
        typed = [
            f"{self._names[self._number(x)]}: {x.type}" for x in _each(block.arguments)
        ]
        head = f"{margin}^bb0({', '.join(typed)}):\n" if typed else ""
        return head + "".join(
            self.operation(operation.operation, margin + _INDENT)
            for operation in _each(block.operations)
        )

    def _number(self, value: ir.Value) -> ir.Value:
        self._names[value] = f"%{len(self._names)}"
        return value

    def _join(self, values: Iterable[ir.Value]) -> str:
        return ", ".join(self._names[value] for value in values)


def _each(values: Any) -> list[Any]:  # Any: the stubs of MLIR's lists do not iterate
    return list(values)


def _name(operation: ir.Operation) -> str:
    dialect, _, name = operation.name.partition(".")
    if dialect not in _DIALECTS:
        hint = "; write GeLU with tanh" if name in ("erf", "erfc") else ""
        raise EngineError(f"MHLO has no counterpart of {operation.name}{hint}")
    return f"mhlo.{name}" if dialect == "stablehlo" else str(operation.name)


def _attributes(operation: ir.Operation) -> str:
    texts = [
        f"{named.name} = {_attribute(named.attr)}"
        for named in _each(operation.attributes)
        if named.name not in _IGNORED
    ]
    return f" {{{', '.join(texts)}}}" if texts else ""


def _attribute(attribute: ir.Attribute) -> str:
    if ir.DenseI64ArrayAttr.isinstance(attribute):
        return _dense([str(i) for i in ir.DenseI64ArrayAttr(attribute)], "i64")
    if ir.DenseBoolArrayAttr.isinstance(attribute):
        flags = [
            "true" if flag else "false" for flag in ir.DenseBoolArrayAttr(attribute)
        ]
        return _dense(flags, "i1")
    text = str(attribute)
    if text.startswith("array<"):
        raise EngineError(f"MHLO has no counterpart of the attribute {text[:60]}")
    is_of_dialect = text.startswith(("#stablehlo", "[#stablehlo"))
    return text.replace("#stablehlo", "#mhlo") if is_of_dialect else text


def _dense(entries: list[str], element_type: str) -> str:
    inner = f"[{', '.join(entries)}]" if entries else ""
    return f"dense<{inner}> : tensor<{len(entries)}x{element_type}>"


def _signature(operation: ir.Operation) -> str:
    operands, results = (
        ", ".join(str(value.type) for value in _each(values))
        for values in (operation.operands, operation.results)
    )
    is_one = len(operation.results) == 1
    return f"({operands}) -> {results if is_one else f'({results})'}"


_PLATFORM = "interpreter"  # a lowering for none in particular, as SPU's frontend asks


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """An executable and what to feed it.

    Attributes:
        code: The serialised executable, as a party loads it.
        input_names: Names under which a party stores its shares.
        compile_s: Seconds from the JAX function to the executable.
        program: What was compiled, for another host to do the same.
        output_names: Names under which a party finds its shares of the outputs.
    """

    code: bytes
    input_names: tuple[str, ...]
    compile_s: float
    program: bytes = b""
    output_names: tuple[str, ...] = ()


def lower(
    function: Callable[..., object],
    inputs: Sequence[NDArray[Any]],
    *,
    case: str,
    deployment: Deployment,
    compiler: Child,
    input_names: Sequence[str] = (),
    output_names: Sequence[str] = (),
) -> Lowered:
    """Compile a function of secret inputs to one array or several.

    Args:
        input_names: Names of its inputs in the parties' memory; the case's own if none.
        output_names: Names that its outputs get there; the case's own if none.
        compiler: A party program of that build, on no link: what SPU's compiler does
            not know can end its process.

    Raises:
        EngineError: If JAX or SPU cannot compile it; the message is the compiler's.
    """
    names = input_names or [f"{case}-in{index}" for index in range(len(inputs))]
    start_s = time.perf_counter()
    header: dict[str, object] = {
        "command": "compile",
        "name": case,
        "input_names": list(names),
        "options": dict(deployment.compiler_options),
    }
    try:
        program, n_outputs = trace(function, inputs, deployment.build.dialect)
        own = [f"{case}-out{index}" for index in range(n_outputs)]
        outputs = list(output_names) or own
        header["output_names"] = outputs
        _, (code,) = compiler.ask_with_blobs(header, [program])
    except PartyDiedError as error:
        raise EngineError(
            f"{case} does not compile for {_title(deployment.build)}: {compiler.name} "
            f"ended at it: {compiler.last_words()}"
        ) from error
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise EngineError(
            f"{case} does not compile for {_title(deployment.build)}: {lines[0]}"
        ) from error
    return Lowered(
        code=code,
        input_names=tuple(names),
        compile_s=time.perf_counter() - start_s,
        program=program,
        output_names=tuple(outputs),
    )


def _title(build: Build) -> str:
    return "SPU" if build.is_default else build.name


def trace(
    function: Callable[..., object],
    inputs: Sequence[NDArray[Any]],
    dialect: Dialect = "hlo",
) -> tuple[bytes, int]:
    """Trace a function at the inputs' shapes to a compiler's text; count its outputs.

    SPU's frontend does this and compiles in one call. It is taken apart here, by names
    that are private in the one pinned build, for compiling to have its own process.
    """
    platforms = os.environ.get("JAX_PLATFORMS", "cpu")
    if "cpu" not in platforms:
        raise EngineError(f"JAX_PLATFORMS={platforms}: expected cpu, where JAX traces")
    with patched_jax():
        if dialect == "tensor":
            return to_tensor_program(function, inputs)
        if dialect == "mhlo":
            return _trace_mhlo(function, inputs)
        hlo, outputs = frontend._jax_compilation(function, (), None, list(inputs), {})
    return hlo, _count(outputs)


@contextlib.contextmanager
def patched_jax() -> Iterator[None]:
    """Have JAX trace as SPU needs it: sorting must not turn floats to integers."""
    patches = frontend._patch_jax()
    try:
        yield
    finally:
        frontend._restore_jax_patch(patches)


def _trace_mhlo(
    function: Callable[..., object], inputs: Sequence[NDArray[Any]]
) -> tuple[bytes, int]:
    traced = jax.jit(function, keep_unused=True).trace(*inputs)
    lowered = traced.lower(lowering_platforms=(_PLATFORM,))
    text = to_mhlo(lowered.compiler_ir("stablehlo"))
    return text.encode(), _count(lowered.out_info)


def _count(outputs: object) -> int:
    return len(outputs) if isinstance(outputs, tuple | list) else 1


def runtime_settings(deployment: Deployment) -> dict[str, object]:
    """Return SPU's RuntimeConfig fields of a deployment, by SPU's own names.

    Profiling is on: it is where operations, and in newer builds bytes and messages, are
    read from.
    """
    settings: dict[str, object] = {
        "protocol": deployment.protocol.upper(),
        "field": f"FM{deployment.field_bits}",
        "fxp_fraction_bits": deployment.fraction_bits,
        "enable_pphlo_profile": True,
        "enable_hal_profile": True,
    }
    if deployment.beaver != "none" and deployment.build.has_beaver_field:
        settings["beaver_type"] = deployment.beaver
    return settings | dict(deployment.runtime_options)


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
        """Share arrays: for each rank the blobs (meta, chunks); chunks per array."""
        kinds = [{"dtype": x.dtype.str, "shape": list(x.shape)} for x in arrays]
        header = {**self._header, "command": "split", "arrays": kinds}
        answer, blobs = self._place().ask_with_blobs(
            header, [x.tobytes() for x in arrays]
        )
        n_own = len(blobs) // self._n_parties
        by_rank = [blobs[i : i + n_own] for i in range(0, len(blobs), n_own)]
        return by_rank, answer["n_chunks"]

    def join(self, blobs_by_rank: Sequence[Sequence[bytes]]) -> NDArray[np.float64]:
        """Join the shares (meta, chunks) that the ranks hold to an array."""
        header = {**self._header, "command": "join"}
        blobs = [blob for own in blobs_by_rank for blob in own]
        answer, (content,) = self._place().ask_with_blobs(header, blobs)
        return np.frombuffer(content).reshape(answer["shape"])
