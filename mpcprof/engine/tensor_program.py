"""From a JAX function to a list of tensor operations, for engines that read no HLO.

A program is JSON: numbered values, public constants, and one entry per operation of JAX
in the order of the trace, calls within calls written out. What is known in the clear is
computed here; `x / y` of a y that cannot be negative says so, as an engine may save the
sign of y.
"""

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import jax
import numpy as np
from numpy.typing import NDArray

from mpcprof.errors import EngineError

# Operation of JAX -> the parameters that an engine needs
OPERATIONS: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("add", "sub", "mul", "div", "neg", "max", "min", "square"), ()),
    **dict.fromkeys(("exp", "log", "sqrt", "rsqrt", "tanh", "logistic", "erf"), ()),
    **dict.fromkeys(("sin", "cos", "abs", "sign"), ()),
    **dict.fromkeys(("lt", "gt", "le", "ge", "select_n"), ()),
    "integer_pow": ("y",),
    "reduce_sum": ("axes",),
    "reduce_max": ("axes",),
    "dot_general": ("dimension_numbers",),
    "reshape": (),
    "broadcast_in_dim": ("broadcast_dimensions",),
    "transpose": ("permutation",),
    "slice": ("start_indices", "limit_indices", "strides"),
    "concatenate": ("dimension",),
}
_SAME_ENTRIES = {"squeeze": "reshape", "expand_dims": "reshape"}
_NOTHING = ("convert_element_type", "stop_gradient", "copy", "copy_p")
_NEVER_NEGATIVE = ("exp", "square", "logistic", "abs", "rsqrt", "sqrt", "relu")
_AS_ARGUMENTS = (
    *("add", "mul", "div", "reduce_sum", "reduce_max", "reshape", "min"),
    *("broadcast_in_dim", "transpose", "slice", "concatenate"),
)
_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")

# A value of the trace: the number of a secret, or what is known in the clear
_Value = int | NDArray[Any]  # Any: as JAX computed it


def to_tensor_program(
    function: Callable[..., object], inputs: Sequence[NDArray[Any]]
) -> tuple[bytes, int]:
    """Trace a function at the inputs' shapes; return its program and count its outputs.

    Raises:
        EngineError: If an operation has no counterpart.
    """
    closed = jax.make_jaxpr(function)(*inputs)
    writer = _Writer()
    arguments: list[_Value] = [writer.number(x.aval.shape) for x in closed.jaxpr.invars]
    outputs = writer.inline(closed.jaxpr, closed.consts, arguments)
    program = {
        "inputs": arguments,
        "outputs": [writer.operand(value) for value in outputs],
        "constants": writer.constants,
        "operations": writer.operations,
    }
    return json.dumps(program, default=int).encode(), len(outputs)  # of numpy


class _Writer:
    """Writes the operations on secrets, one after another."""

    def __init__(self) -> None:
        self.operations: list[dict[str, object]] = []
        self.constants: dict[str, dict[str, object]] = {}
        self._shapes: list[tuple[int, ...]] = []
        self._never_negative: set[int] = set()

    def number(self, shape: tuple[int, ...]) -> int:
        """Return the number of a new value."""
        self._shapes.append(tuple(shape))
        return len(self._shapes) - 1

    def inline(
        self,
        jaxpr: Any,  # Any: JAX does not type its trace
        consts: Sequence[Any],
        arguments: Sequence[_Value],
    ) -> list[_Value]:
        """Write the operations of a trace and of its calls; return its results."""
        known: dict[Any, _Value] = dict(zip(jaxpr.invars, arguments, strict=True))
        known |= {
            variable: np.asarray(value)
            for variable, value in zip(jaxpr.constvars, consts, strict=True)
        }

        def look_up(atom: Any) -> _Value:
            if isinstance(atom, jax.core.Literal):
                return np.asarray(atom.val)
            return known[atom]

        for equation in jaxpr.eqns:
            values = [look_up(atom) for atom in equation.invars]
            known |= zip(equation.outvars, self._results(equation, values), strict=True)
        return [look_up(atom) for atom in jaxpr.outvars]

    def _results(self, equation: Any, values: list[_Value]) -> list[_Value]:
        name = equation.primitive.name
        inner = [equation.params[key] for key in _CALLS if key in equation.params]
        if inner:
            jaxpr = getattr(inner[0], "jaxpr", inner[0])
            return self.inline(jaxpr, getattr(inner[0], "consts", ()), values)
        if not any(isinstance(value, int) for value in values):
            result = equation.primitive.bind(*values, **equation.params)
            results = result if equation.primitive.multiple_results else [result]
            return [np.asarray(one) for one in results]
        if name in _NOTHING:
            return values
        if name == "max":  # of a row, JAX begins with the least number that there is
            others = [one for one in values if not np.all(np.isneginf(one))]
            if len(others) == 1:
                return others
        name = _SAME_ENTRIES.get(name, name)
        if name not in OPERATIONS:
            raise EngineError(f"there is no counterpart of {name}")
        return [self._write(name, equation, values)]

    def _write(self, name: str, equation: Any, values: list[_Value]) -> int:
        shape = equation.outvars[0].aval.shape
        params = {key: equation.params[key] for key in OPERATIONS[name]}
        operands: list[object] = [self.operand(value) for value in values]
        if name == "max" and 0.0 in operands:
            name, operands = "relu", [one for one in operands if isinstance(one, int)]
        if name == "mul" and operands[0] == operands[1] and isinstance(values[0], int):
            name, operands = "square", operands[:1]
        if name == "div" and isinstance(values[1], int):
            params["is_never_negative"] = values[1] in self._never_negative
        number = self.number(shape)
        if self._is_never_negative(name, params, values):
            self._never_negative.add(number)
        self.operations.append(
            {
                "name": name,
                "operands": operands,
                "shapes": [list(np.shape(atom.aval)) for atom in equation.invars],
                "result": number,
                "shape": list(shape),
                **params,
            }
        )
        return number

    def _is_never_negative(
        self, name: str, params: dict[str, Any], values: Sequence[_Value]
    ) -> bool:
        if name in _NEVER_NEGATIVE:
            return True
        if name == "integer_pow" and params["y"] % 2 == 0:
            return True
        whether = [
            value in self._never_negative
            if isinstance(value, int)
            else bool(np.all(value >= 0))
            for value in values
        ]
        if name == "max":
            return any(whether)
        return name in _AS_ARGUMENTS and all(whether)

    def operand(self, value: _Value) -> object:
        """Return a value as it stands in the program.

        It is the number of a secret, a public number as a float, or the name of public
        entries that differ.
        """
        if isinstance(value, int):
            return value
        entries = np.asarray(value, np.float64)
        if entries.size and np.all(entries == entries.flat[0]):
            return float(entries.flat[0])
        name = f"constant{len(self.constants)}"
        content = base64.b64encode(np.ascontiguousarray(entries).tobytes())
        self.constants[name] = {"shape": list(entries.shape), "data": content.decode()}
        return name
