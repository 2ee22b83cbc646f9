"""From the StableHLO that JAX emits to the MHLO text that SPU 0.3.1b0 reads.

The two dialects have the same operations under two names. That build's parser knows
many of them in generic form only, wants shapes and axes as tensors where StableHLO now
has arrays, has no properties apart from attributes, and ends its process at what it
does not know. So the module is walked and printed anew, and what cannot be said is
refused here.
"""

from collections.abc import Iterable
from typing import Any

from jaxlib.mlir import ir

from mpcprof.errors import EngineError

_DIALECTS = ("stablehlo", "func", "builtin")
# Layout of arguments, names of results, number of devices: no part of what is computed
_IGNORED = ("arg_attrs", "res_attrs", "mhlo.num_partitions", "mhlo.num_replicas")
_INDENT = "  "


def to_mhlo(module: ir.Module) -> str:
    """The module as MHLO in generic form.

    Raises:
        EngineError: If an operation or an attribute has no counterpart in MHLO.
    """
    return _Printer().operation(module.operation, "")


class _Printer:
    """Prints one module; numbers its values as it comes upon them."""

    def __init__(self) -> None:
        self._names: dict[ir.Value, str] = {}

    def operation(self, operation: ir.Operation, margin: str) -> str:
        """`%results = "mhlo.name"(%operands) ({regions}) {attributes} : types`."""
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
