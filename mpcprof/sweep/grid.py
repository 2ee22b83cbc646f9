"""Which cases a sweep measures: sizes by dimension, and their presets."""

import fnmatch
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mpcprof.dims import Dims
from mpcprof.engine.measure import Case
from mpcprof.errors import UsageError, look_up
from mpcprof.nn.steps import ROW_OPERATIONS
from mpcprof.profile.columns import Mode
from mpcprof.sweep.config import SweepConfig, make_config
from mpcprof.workloads.registry import Workload, all_workloads, get_workload

_SHORT_ROW = 17  # a second length: of one alone, nobody knows how hops grow with it
_SLOW_S = 0.6  # where the quick preset makes no call without which it can do


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Sizes of each dimension, of which a workload takes the dimensions it has.

    Raises:
        UsageError: If a size is below 1 or comes twice.
    """

    n_batch: tuple[int, ...] = (1,)
    n_heads: tuple[int, ...]
    n_tokens: tuple[int, ...]
    head_dim: tuple[int, ...]
    width: tuple[int, ...]
    hidden: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in self.__slots__:
            sizes = getattr(self, name)
            if not sizes or min(sizes) < 1 or len({*sizes}) != len(sizes):
                raise UsageError(
                    f"{name}={sizes}: expected different whole numbers of at least 1"
                )

    def override(self, **sizes: tuple[int, ...] | None) -> "Grid":
        """Return this grid with other sizes; None leaves a dimension as it is."""
        return replace(self, **{name: s for name, s in sizes.items() if s is not None})

    def dims_of(self, workload: Workload) -> tuple[Dims, ...]:
        """Return every combination of the sizes of the workload's dimensions."""
        sizes = [getattr(self, name) for name in workload.dim_names]
        return tuple(
            Dims(**dict(zip(workload.dim_names, combination, strict=True)))
            for combination in itertools.product(*sizes)
        )


def make_cases(workloads: Sequence[Workload], grid: Grid) -> tuple[Case, ...]:
    """Return every workload at every combination of its sizes."""
    return tuple(
        Case(workload=workload, dims=dims)
        for workload in workloads
        for dims in grid.dims_of(workload)
    )


PRESETS = {
    # one minute, in Cheetah four: a figure over heads and over hidden, all primitives
    "quick": Grid(
        n_heads=(1, 4),
        n_tokens=(65,),
        head_dim=(64,),
        width=(64, 256),
        hidden=(64, 256),
    ),
    # the sizes of the paper's figures; widths of its two models
    "paper": Grid(
        n_heads=(1, 2, 4, 8, 12),
        n_tokens=(17, 65, 197, 257),
        head_dim=(16, 64),
        width=(192, 256),
        hidden=(64, 128, 192, 256, 384, 512, 768, 1024),
    ),
    # beyond the paper: token counts between its own, the MLP of larger models
    "full": Grid(
        n_heads=(1, 2, 3, 4, 6, 8, 12, 16),
        n_tokens=(17, 50, 65, 101, 145, 197, 257),
        head_dim=(16, 32, 64),
        width=(64, 192, 256, 384, 768),
        hidden=(64, 128, 192, 256, 384, 512, 768, 1024, 1536, 3072),
    ),
}


def get_preset(name: str) -> Grid:
    """Return the grid of that name.

    Raises:
        UnknownNameError: If there is none.
    """
    return look_up("preset", name, PRESETS)


def grid_config(
    *,
    preset: str = "quick",
    only: str = "",
    mode: Mode = "emulated",
    repeats: int | None = None,
    n_heads: tuple[int, ...] | None = None,
    n_tokens: tuple[int, ...] | None = None,
    width: tuple[int, ...] | None = None,
    hidden: tuple[int, ...] | None = None,
    **asked: Any,  # see make_config, which checks each
) -> SweepConfig:
    """Return the config of a preset, with other sizes or workloads where given.

    Args:
        repeats: By default 5, and 2 where the preset is to be quick, or 1 of calls that
            take seconds. A priced sweep calls a case on loopback only, and once after
            the first call.

    Raises:
        UsageError: If a name is unknown or a combination impossible; it is named.
    """
    is_quick = preset == "quick"
    usual = 1 if mode == "priced" else 2 if is_quick else 5
    grid = get_preset(preset).override(
        n_heads=n_heads, n_tokens=n_tokens, width=width, hidden=hidden
    )
    chosen = choose_workloads(only)
    cases = make_cases(chosen, grid)
    if is_quick and n_tokens is None:
        short = grid.override(n_heads=grid.n_heads[:1], n_tokens=(_SHORT_ROW,))
        rows = [workload for workload in chosen if workload.name in ROW_OPERATIONS]
        cases += make_cases(rows, short)
    return make_config(
        cases=cases,
        mode=mode,
        repeats=repeats or usual,
        enough_s=0.0 if is_quick else 1.0,
        slow_s=_SLOW_S if is_quick and repeats is None else math.inf,
        **asked,
    )


def choose_workloads(only: str) -> tuple[Workload, ...]:
    """Return the workloads named in `exp,relu`; all primitives if none is.

    A name stands for that workload alone; the beginning of several names, such as
    `gelu`, or a pattern such as `attn.softmax*`, for all of them.

    Raises:
        UnknownNameError: If no registered name is meant.
    """
    names = [name.strip() for name in only.split(",") if name.strip()]
    if not names:
        return all_workloads("primitive")
    known = {workload.name: workload for workload in all_workloads()}
    chosen: dict[str, Workload] = {}
    for name in names:
        family = [one for one in known if one.startswith(f"{name}_")]
        meant = [name] if name in known else family or fnmatch.filter(known, name)
        for one in meant or [name]:
            chosen[one] = get_workload(one)
    return tuple(chosen.values())
