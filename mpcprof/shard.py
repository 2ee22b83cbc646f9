"""A part of a list of work, the same on every machine: `--shard 2/3`.

The rule: names are sorted as text, and of N shards the I-th takes every N-th name from
the I-th on. So it depends on the list alone, neither on a machine nor on what is done
already; sizes that stand side by side, which take about as long, go to different
shards.

    >>> parse_shard("2/3").take(["exp", "relu", "gelu", "max"])
    ('gelu',)
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mpcprof.errors import UsageError

Item = TypeVar("Item")
_TYPED = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """The I-th of N parts.

    Attributes:
        number: Number of the part; the first is 1.
        n_shards: Number of parts.

    Raises:
        UsageError: If there is no such part.
    """

    number: int
    n_shards: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.n_shards:
            raise UsageError(
                f"{self}: expected I/N with I from 1 to N, such as 1/3, 2/3, 3/3"
            )

    def __str__(self) -> str:
        return f"{self.number}/{self.n_shards}"

    @property
    def label(self) -> str:
        """Its part of a file's name, such as `2-of-3`."""
        return f"{self.number}-of-{self.n_shards}"

    def check_size(self, n_items: int, noun: str) -> None:
        """Refuse a shard that would have nothing to do.

        Args:
            noun: The items in words, such as `cases`.

        Raises:
            UsageError: If there are fewer items than shards.
        """
        if n_items < self.n_shards:
            raise UsageError(
                f"--shard {self} of {n_items} {noun}: expected at most {n_items} shards"
            )

    def take(
        self, items: Sequence[Item], name: Callable[[Item], str] = str
    ) -> tuple[Item, ...]:
        """Return the items of this shard, in the order in which they are given.

        Args:
            name: Function that names an item; no two have one name.
        """
        own = {*sorted(map(name, items))[self.number - 1 :: self.n_shards]}
        return tuple(item for item in items if name(item) in own)


def parse_shard(text: str) -> Shard:
    """Read `2/3`.

    Raises:
        UsageError: If it is no such part.
    """
    match = _TYPED.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r}: expected I/N, such as 1/3, 2/3, 3/3")
    number, n_shards = map(int, match.groups())
    return Shard(number=number, n_shards=n_shards)
