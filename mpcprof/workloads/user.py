"""A user's own JAX function as a workload: `MODULE:FUNCTION` or `FILE.py:FUNCTION`."""

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import enable_x64
from numpy.typing import DTypeLike, NDArray

from mpcprof.errors import UsageError, did_you_mean
from mpcprof.nn.algebra import Shape
from mpcprof.workloads.arguments import (
    Arguments,
    Domain,
    Input,
    domains_of,
    read_arguments,
    register_dataclasses,
    step_name,
    take_arguments,
)
from mpcprof.workloads.registry import Piece, Workload
from mpcprof.workloads.tolerance import Tolerance

Function = Callable[..., Any]  # Any: what it returns is checked by tracing it

DEFAULT_TOLERANCE: Final = 2e-2
_MOST_SHOWN: Final = 200  # letters of a signature
_STEPS: Final = 16.0  # a dozen truncations, one behind another


def load_user_function(
    target: str,
    inputs: tuple[Shape | str, ...] = (),
    *,
    maker: str = "",
    domain: Domain = (),
    rtol: float = DEFAULT_TOLERANCE,
) -> Workload:
    """Make a workload without dimensions of the named function with these inputs.

    The reference is the function itself, run by JAX on the CPU in float64, or in
    float32 where it does not run in float64; `source` says which. The name holds the
    inputs, as in `model:attention(4x65x65)`. An output may be off by `rtol` of its own
    size and of the typical size of all, or by 16 steps of the fixed point: room for
    SPU's exp, tanh and division; integers and truth values are to be exact. The folder
    of the file, or the current directory, stays importable, as `python` does it.

    Args:
        inputs: What `mpcprof.workloads.arguments.read_arguments` reads: shapes, or
            texts such as `mask=4x4:bool`.
        maker: Name of what makes example arguments instead, in the same module, or
            MODULE:NAME; see `mpcprof.workloads.arguments.take_arguments`.
        domain: See `mpcprof.workloads.arguments.domains_of`.

    Raises:
        UsageError: If there is no such file, module or function, if it cannot be
            imported, takes other inputs, cannot be traced with these, or returns no
            numbers.
    """
    module, where, name = _find_module(target)
    function = _find_function(module, name, target)
    if maker and inputs:
        raise UsageError(f"{target!r}: --input and --inputs {maker}; give one of them")
    arguments = (
        take_arguments(_make_example(module, maker), function) if maker else inputs
    )
    label = f"{Path(where).stem if _is_file(where) else where}:{name}"
    return make_user_workload(
        function, arguments, name=label, target=target, domain=domain, rtol=rtol
    )


def make_user_workload(
    function: Function,
    arguments: Arguments | Sequence[Shape | str],
    *,
    name: str,
    target: str = "",
    domain: Domain = (),
    rtol: float = DEFAULT_TOLERANCE,
) -> Workload:
    """Return the function with the given arguments, as `load_user_function` does.

    Args:
        arguments: They, or what `read_arguments` makes them of.
        target: The function as a person named it, for messages.

    Raises:
        UsageError: If it takes other inputs, cannot be traced with these, or returns no
            numbers.
    """
    target = target or name
    if not isinstance(arguments, Arguments):
        arguments = read_arguments(arguments, function)
    inputs = arguments.inputs
    _check_arguments(function, arguments, target)
    domains = domains_of(inputs, domain, target)
    outputs = _trace_outputs(function, arguments, target)
    flat = _flatten(function, arguments)
    reference, precision = _make_reference(flat, arguments, outputs)
    tolerances = [_tolerance(one.dtype, rtol) for one in outputs.values()]
    return Workload(
        name=f"{name}({arguments})",
        kind="function",
        dim_names=(),
        shapes=lambda dims: tuple(one.shape for one in inputs),
        function=lambda *arrays: _one_or_all(flat(*arrays)),
        reference=reference,
        domain=domains,
        dtypes=tuple(one.dtype for one in inputs),
        values=tuple(one.values for one in inputs),
        captured=_captured(flat, arguments),
        tolerance=tolerances[0],
        pieces=_pieces(outputs, tolerances),
        source=f"user function {target}; reference by JAX on the CPU in {precision}",
    )


def _tolerance(dtype: np.dtype[Any], rtol: float) -> Tolerance:
    """Return what an output may be off: nothing for integers and truth values."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return Tolerance()
    return Tolerance(rtol=rtol, typical_rtol=rtol, steps=_STEPS)


def _is_file(where: str) -> bool:
    return where.endswith(".py") or "/" in where


def _find_module(target: str) -> tuple[ModuleType, str, str]:
    where, _, name = target.rpartition(":")
    if not (where and name):
        raise UsageError(
            f"function {target!r}: expected MODULE:FUNCTION or FILE.py:FUNCTION"
        )
    return (
        (_load_file(where) if _is_file(where) else _import_module(where)),
        where,
        name,
    )


def _make_example(module: ModuleType, maker: str) -> Any:  # Any: the user's arguments
    if ":" in maker:
        module, _, maker = _find_module(maker)
    example = _find(module, maker, f"--inputs {maker}")
    if not callable(example):
        return example
    try:
        return example()
    except Exception as error:
        raise UsageError(f"--inputs {maker}: {_first_line(error)}") from error


def _load_file(where: str) -> ModuleType:
    path = Path(where).expanduser()
    if not path.is_file() or path.suffix != ".py":
        raise UsageError(f"no file {where!r} in {Path.cwd()} that ends in .py")
    name = f"_user_{path.stem}"  # a file called jax.py must not hide jax
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # it ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _importable(path.resolve().parent):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(f"cannot import {where!r}: {_first_line(error)}") from error
    return module


def _import_module(where: str) -> ModuleType:
    try:
        with _importable(Path.cwd()):
            return importlib.import_module(where)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{where}.".startswith(f"{missing}."):
            raise UsageError(
                f"no module {where!r} in {Path.cwd()} or among the installed ones; "
                f"for a file give its path, such as {where.rpartition('.')[2]}.py"
            ) from None
        raise UsageError(f"cannot import {where!r}: {_first_line(error)}") from error


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Look into a folder first, as `python` does; last, once the user's file is read.

    What we import later must not be a file of the user's that has the same name.
    """
    importlib.invalidate_caches()
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def _find_function(module: ModuleType, name: str, target: str) -> Function:
    """Return a function, a method of an instance, or of a class that needs nothing."""
    owner_name, _, method = name.rpartition(".")
    function = _find(module, name, target)
    owner = _find(module, owner_name, target) if owner_name else None
    if inspect.isclass(function):
        return _instance(function, target)  # type: ignore[no-any-return]
    if inspect.isclass(owner) and inspect.isfunction(vars(owner).get(method)):
        return getattr(_instance(owner, target), method)  # type: ignore[no-any-return]
    if not callable(function):
        raise UsageError(f"{target!r} is {function!r:.40}; expected a function")
    return function  # type: ignore[no-any-return]  # it comes from the user's module


def _instance(kind: type, target: str) -> Any:  # Any: the user's own class
    try:
        made = kind()
    except Exception as error:
        raise UsageError(
            f"{target!r}: {kind.__name__}() fails, {_first_line(error)}; make an "
            f"instance in the file and name that, such as layer = {kind.__name__}(...)"
        ) from error
    if not callable(made):
        raise UsageError(f"{target!r}: a {kind.__name__} cannot be called")
    return made


def _find(module: ModuleType, name: str, target: str) -> Any:  # Any: the user's own
    found: Any = module
    for step in name.split("."):
        if not hasattr(found, step):
            known = sorted(
                key
                for key, value in vars(found).items()
                if callable(value)
                and getattr(value, "__module__", "") == module.__name__
            )
            hint = did_you_mean(step, known) if known else "it defines no function"
            raise UsageError(f"{target!r}: no function {step!r} there; {hint}")
        found = getattr(found, step)
    return found


def _check_arguments(function: Function, arguments: Arguments, target: str) -> None:
    if not arguments.inputs:
        raise UsageError(f"{target!r}: no input shapes; give one per input, as 4x65x65")
    try:
        signature = inspect.signature(function)
    except ValueError:  # a builtin that does not say; tracing finds out
        return
    try:
        signature.bind(*arguments.positional, **arguments.keywords)
    except TypeError as error:
        n_given = len(arguments.positional) + len(arguments.keywords)
        raise UsageError(
            f"{target!r} takes {_shortened(signature)}: {n_given} input shape(s) "
            f"given, {error}"
        ) from None


def _shortened(signature: inspect.Signature) -> str:
    text = str(signature)
    return text if len(text) < _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _trace_outputs(
    function: Function, arguments: Arguments, target: str
) -> dict[str, jax.ShapeDtypeStruct]:
    """Return what comes out, by name; see `_arrays`.

    Raises:
        UsageError: If the function cannot be traced, or no numbers come out.
    """

    def call(*arrays: Array) -> Any:  # Any: the user's own
        positional, keywords = arguments.fill(arrays)
        return register_dataclasses(function(*positional, **keywords))

    try:
        tree = jax.eval_shape(call, *_zeros(arguments.inputs, np.float32))
    except Exception as error:
        raise UsageError(
            f"{target!r} fails to trace at {arguments}: {_first_line(error)}"
        ) from error
    outputs = _arrays(tree)
    if not outputs:
        shapes = [str(leaf.shape) for leaf in jax.tree_util.tree_leaves(tree)]
        result = f"its result has shape {', '.join(shapes)}" if shapes else "no array"
        raise UsageError(f"{target!r} returns no numbers at {arguments}: {result}")
    for output in outputs.values():
        if jnp.issubdtype(output.dtype, jnp.complexfloating):
            raise UsageError(
                f"{target!r} returns {output.dtype}; expected real numbers: return the "
                "real and the imaginary part apart"
            )
        if not (jnp.issubdtype(output.dtype, jnp.number) or output.dtype == bool):
            raise UsageError(
                f"{target!r} returns {output.dtype}; expected floats, integers or "
                "truth values"
            )
    return outputs


def _arrays(tree: Any) -> dict[str, Any]:  # Any: what a function returns, or its shapes
    """Return the arrays of a tree by their dotted names, without empty ones."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        ".".join(map(step_name, path)): leaf for path, leaf in leaves if np.size(leaf)
    }


def _flatten(
    function: Function, arguments: Arguments
) -> Callable[..., tuple[Array, ...]]:
    """Return the function of arrays alone, which returns arrays alone."""

    def flat(*arrays: Array) -> tuple[Array, ...]:
        positional, keywords = arguments.fill(arrays)
        outputs = _arrays(function(*positional, **keywords))
        return tuple(map(jnp.asarray, outputs.values()))

    return flat


def _one_or_all(outputs: tuple[Any, ...]) -> Any:  # Any: arrays, or what JAX traces
    return outputs[0] if len(outputs) == 1 else outputs


def _pieces(
    outputs: Mapping[str, jax.ShapeDtypeStruct], tolerances: Sequence[Tolerance]
) -> tuple[Piece, ...]:
    if len(outputs) == 1:
        return ()
    return tuple(
        Piece(name=f"output {name}", n_entries=output.size, tolerance=tolerance)
        for (name, output), tolerance in zip(outputs.items(), tolerances, strict=True)
    )


def _captured(
    flat: Callable[..., tuple[Array, ...]], arguments: Arguments
) -> tuple[tuple[str, Shape], ...]:
    """Return the types and shapes of arrays that a function holds itself."""
    traced = jax.make_jaxpr(flat)(*_zeros(arguments.inputs, np.float32))
    arrays = {id(x): x for x in _constants(traced) if np.size(x) > 1}
    return tuple((str(x.dtype), x.shape) for x in arrays.values())


def _constants(traced: Any) -> Iterator[Any]:  # Any: a closed jaxpr, and its arrays
    """Yield the constants of a program and of the programs in it."""
    yield from traced.consts
    for equation in traced.jaxpr.eqns:
        for inner in jax.tree_util.tree_leaves([*equation.params.values()]):
            if isinstance(inner, jax.core.ClosedJaxpr):
                yield from _constants(inner)
            elif isinstance(inner, jax.core.Jaxpr):
                yield from _constants(jax.core.ClosedJaxpr(inner, ()))


def _zeros(inputs: tuple[Input, ...], float_type: DTypeLike) -> list[NDArray[Any]]:
    return [
        np.broadcast_to(np.zeros((), _type_of(one, float_type)), one.shape)
        for one in inputs
    ]


def _type_of(one: Input, float_type: DTypeLike) -> DTypeLike:
    return float_type if one.dtype == "float32" else one.dtype


def _make_reference(
    flat: Callable[..., tuple[Array, ...]],
    arguments: Arguments,
    outputs: Mapping[str, jax.ShapeDtypeStruct],
) -> tuple[Callable[..., NDArray[np.float64]], str]:
    """Return the function in float64 or float32, several outputs as one vector."""
    jitted = jax.jit(flat)
    inputs = arguments.inputs
    with enable_x64():
        try:
            lowered = jitted.lower(*_zeros(inputs, np.float64))
            has_float64 = all(
                x.dtype != np.float32 and x.shape == one.shape  # bits have another
                for x, one in zip(lowered.out_info, outputs.values(), strict=True)
            )
        except Exception:  # such as a lax operation on float64 and the user's float32
            has_float64 = False
    dtype: type[np.floating[Any]] = np.float64 if has_float64 else np.float32

    def reference(*arrays: NDArray[Any]) -> NDArray[np.float64]:  # Any: see `inputs`
        typed = [
            x.astype(_type_of(one, dtype))
            for one, x in zip(inputs, arrays, strict=True)
        ]
        with enable_x64(has_float64), jax.default_device(_cpu()):
            found = map(np.asarray, jitted(*typed))
        each = [
            x.astype(np.float64 if jnp.issubdtype(x.dtype, jnp.floating) else one.dtype)
            for one, x in zip(outputs.values(), found, strict=True)
        ]  # integers go round where those of the program do
        whole = each[0] if len(each) == 1 else np.concatenate([*map(np.ravel, each)])
        return whole.astype(np.float64)

    return reference, dtype.__name__


def _cpu() -> jax.Device:
    """Return the processor, on which references are computed.

    Raises:
        UsageError: If a variable keeps it from JAX.
    """
    try:
        return jax.devices("cpu")[0]
    except Exception as error:
        platforms = os.environ.get("JAX_PLATFORMS", "")
        raise UsageError(
            f"JAX_PLATFORMS={platforms} leaves JAX no CPU; unset it or add cpu, as "
            f"{platforms},cpu"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
