"""A user's own JAX function as a workload: `MODULE:FUNCTION` or `FILE.py:FUNCTION`."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import jax
import numpy as np
from jax import Array
from jax.experimental import enable_x64
from numpy.typing import DTypeLike, NDArray

from mpcprof.errors import UsageError, did_you_mean
from mpcprof.nn.algebra import Interval, Shape
from mpcprof.workloads.registry import Workload

Function = Callable[..., Any]  # Any: what it returns is checked by tracing it

DEFAULT_TOLERANCE: Final = 2e-2
_STEPS: Final = 16.0  # a dozen truncations, one behind another


def load_user_function(
    target: str,
    shapes: tuple[Shape, ...],
    *,
    domain: tuple[Interval, ...] = ((-1.0, 1.0),),
    atol: float = 0.0,
    rtol: float = DEFAULT_TOLERANCE,
) -> Workload:
    """Make a workload without dimensions of the named function at these input shapes.

    The reference is the function itself, run by JAX on the CPU in float64, or in
    float32 where it does not run in float64; `source` says which. The name holds the
    shapes, as in `model:attention(4x65x65)`. `domain` is one for every input, or one
    for each; all are float32. An output may be off by `rtol` of its own size and of the
    typical size of all, or by 16 steps of the fixed point, or by `atol`: room for SPU's
    exp, tanh and division. The folder of the file, or the current directory, stays
    importable, as `python` does it.

    Raises:
        UsageError: If there is no such file, module or function, if it cannot be
            imported, takes another number of inputs, cannot be traced at these shapes,
            or does not return one array.
    """
    where, _, name = target.rpartition(":")
    if not (where and name):
        raise UsageError(
            f"function {target!r}: expected MODULE:FUNCTION or FILE.py:FUNCTION"
        )
    is_file = where.endswith(".py") or "/" in where
    module = _load_file(where) if is_file else _import_module(where)
    function = _find_function(module, name, target)
    label = f"{Path(where).stem if is_file else where}:{name}"
    return make_user_workload(
        function, shapes, name=label, target=target, domain=domain, atol=atol, rtol=rtol
    )


def make_user_workload(
    function: Function,
    shapes: tuple[Shape, ...],
    *,
    name: str,
    target: str = "",
    domain: tuple[Interval, ...] = ((-1.0, 1.0),),
    atol: float = 0.0,
    rtol: float = DEFAULT_TOLERANCE,
) -> Workload:
    """Return the function at the given input shapes, as `load_user_function` does.

    Args:
        target: The function as a person named it, for messages.

    Raises:
        UsageError: If it takes another number of inputs, cannot be traced at these
            shapes, or does not return one array.
    """
    target = target or name
    _check_inputs(function, shapes, domain, target)
    _check_trace(function, shapes, target)
    reference, precision = _make_reference(function, shapes)
    return Workload(
        name=f"{name}({_sizes(shapes)})",
        kind="function",
        dim_names=(),
        shapes=lambda dims: shapes,
        function=lambda *inputs: _single(function(*inputs), target),
        reference=reference,
        domain=domain if len(domain) == len(shapes) else domain * len(shapes),
        atol=atol,
        rtol=rtol,
        typical_rtol=rtol,
        steps=_STEPS,
        source=f"user function {target}; reference by JAX on the CPU in {precision}",
    )


def _load_file(where: str) -> ModuleType:
    path = Path(where).expanduser()
    if not path.is_file() or path.suffix != ".py":
        raise UsageError(f"no file {where!r} in {Path.cwd()} that ends in .py")
    _make_importable(path.resolve().parent)
    name = f"_user_{path.stem}"  # a file called jax.py must not hide jax
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # it ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(f"cannot import {where!r}: {_first_line(error)}") from error
    return module


def _import_module(where: str) -> ModuleType:
    _make_importable(Path.cwd())
    try:
        return importlib.import_module(where)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{where}.".startswith(f"{missing}."):
            raise UsageError(
                f"no module {where!r} in {Path.cwd()} or among the installed ones; "
                f"for a file give its path, such as {where.rpartition('.')[2]}.py"
            ) from None
        raise UsageError(f"cannot import {where!r}: {_first_line(error)}") from error


def _make_importable(folder: Path) -> None:
    importlib.invalidate_caches()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _find_function(module: ModuleType, name: str, target: str) -> Function:
    if not hasattr(module, name):
        known = sorted(
            key
            for key, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        )
        hint = did_you_mean(name, known) if known else "it defines no function"
        raise UsageError(f"{target!r}: no function {name!r} there; {hint}")
    function = getattr(module, name)
    if not callable(function):
        raise UsageError(f"{target!r} is {function!r:.40}; expected a function")
    return function  # type: ignore[no-any-return]  # it comes from the user's module


def _check_inputs(
    function: Function,
    shapes: tuple[Shape, ...],
    domain: tuple[Interval, ...],
    target: str,
) -> None:
    if not shapes:
        raise UsageError(f"{target!r}: no input shapes; give one per input, as 4x65x65")
    if len(domain) not in (1, len(shapes)):
        raise UsageError(
            f"{target!r}: {len(domain)} domains for {len(shapes)} inputs; "
            "expected one for all, or one for each"
        )
    try:
        signature = inspect.signature(function)
    except ValueError:  # a builtin that does not say; tracing finds out
        return
    try:
        signature.bind(*shapes)
    except TypeError as error:
        raise UsageError(
            f"{target!r} takes {signature}: {len(shapes)} input shape(s) given, {error}"
        ) from None


def _single(outputs: Any, target: str) -> Array:  # Any: whatever the function returns
    leaves = jax.tree_util.tree_leaves(outputs)
    if len(leaves) != 1:
        raise UsageError(
            f"{target!r} returns {len(leaves)} arrays; expected exactly one"
        )
    return leaves[0]  # type: ignore[no-any-return]  # the tree is the user's


def _check_trace(function: Function, shapes: tuple[Shape, ...], target: str) -> None:
    try:
        outputs = jax.eval_shape(function, *_zeros(shapes, np.float32))
    except Exception as error:
        raise UsageError(
            f"{target!r} fails to trace at {_sizes(shapes)}: {_first_line(error)}"
        ) from error
    if not _single(outputs, target).size:
        raise UsageError(
            f"{target!r} returns no numbers at {_sizes(shapes)}: "
            f"its result has shape {_single(outputs, target).shape}"
        )


def _zeros(shapes: tuple[Shape, ...], dtype: DTypeLike) -> list[NDArray[Any]]:
    return [np.broadcast_to(np.zeros((), dtype), shape) for shape in shapes]


def _sizes(shapes: tuple[Shape, ...]) -> str:
    return ", ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)


def _make_reference(
    function: Function, shapes: tuple[Shape, ...]
) -> tuple[Callable[..., NDArray[np.float64]], str]:
    jitted = jax.jit(lambda *inputs: _single(function(*inputs), ""))
    with enable_x64():
        try:
            lowered = jitted.lower(*_zeros(shapes, np.float64))
            has_float64 = lowered.out_info.dtype != np.float32
        except Exception:  # such as a lax operation on float64 and the user's float32
            has_float64 = False
    dtype: type[np.floating[Any]] = np.float64 if has_float64 else np.float32

    def reference(*inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        with enable_x64(has_float64), jax.default_device(jax.devices("cpu")[0]):
            return np.asarray(jitted(*(x.astype(dtype) for x in inputs)), np.float64)

    return reference, dtype.__name__


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
