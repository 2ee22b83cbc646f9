"""The named dimensions of a workload."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from mpcprof.errors import UsageError

DIM_NAMES = ("n_batch", "n_heads", "n_tokens", "head_dim", "width", "hidden")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Dims:
    """Sizes of a workload's dimensions; 0 where the workload has no such dimension.

    Raises:
        UsageError: If a size is negative or not an integer.
    """

    n_batch: int = 0
    n_heads: int = 0
    n_tokens: int = 0
    head_dim: int = 0
    width: int = 0
    hidden: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            size = getattr(self, field.name)
            if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                raise UsageError(
                    f"{field.name}={size!r}: expected a whole number of at least 1"
                )

    def items(self) -> Iterator[tuple[str, int]]:
        """Yield the dimensions that the workload has, in a fixed order."""
        for name in DIM_NAMES:
            size = getattr(self, name)
            if size:
                yield name, size

    def __str__(self) -> str:
        return " ".join(f"{name}={size}" for name, size in self.items()) or "scalar"
