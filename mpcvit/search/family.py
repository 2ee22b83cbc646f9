"""Architectures that a finished search gives, of whatever space, and their files."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypeAlias

from mpcprof.errors import UsageError
from mpcprof.files import check_apart, replace_file
from mpcprof.nn.architecture import Heads
from mpcvit.search.alpha.derive import SIGMA, Derived, family
from mpcvit.search.alpha.result import SETTINGS, read_result
from mpcvit.search.layers.result import (
    FINALISTS,
    Found,
    is_layer_search,
    layer_family,
    read_layer_result,
)

Chosen: TypeAlias = Derived | Found
_OF_SEARCH: Final = ("config.json", SETTINGS, FINALISTS)  # its files, in JSON too


def derive(
    run: Path,
    *,
    mus: Sequence[float] = (),
    budgets_s: Sequence[float] = (),
    sigma: float = SIGMA,
    heads: Heads | None = None,
) -> tuple[Chosen, ...]:
    """Derive a family from the search in a folder, whatever its space.

    Raises:
        UsageError: If no search has finished there, or nothing meets what is asked for.
    """
    if is_layer_search(run):
        result = read_layer_result(run)
        return layer_family(result, mus=mus, budgets_s=budgets_s, heads=heads)
    return family(
        read_result(run), mus=mus, budgets_s=budgets_s, sigma=sigma, heads=heads
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFamily:
    """Each architecture with its file."""

    members: tuple[tuple[Chosen, Path], ...]

    def to_json(self) -> str:
        """Return one document: seconds, and what was compared or counted."""
        return json.dumps(
            {
                "architectures": [
                    asdict(one)
                    | {
                        "path": str(path),
                        "architecture": json.loads(one.architecture.to_json()),
                    }
                    for one, path in self.members
                ]
            }
        )

    def __str__(self) -> str:
        return "\n".join(f"{one.line()}; {path}" for one, path in self.members)


def write_family(
    derived: Sequence[Chosen], run: Path, output: Path | None
) -> WrittenFamily:
    """Write each architecture; one alone may go into a file of any name.

    Raises:
        UsageError: If several are to go into one file, or one into the search's own.
    """
    folder = output or run
    is_file = folder.suffix == ".json"
    if is_file and len(derived) > 1:
        raise UsageError(
            f"{len(derived)} architectures for {str(folder)!r}: expected a folder"
        )
    members = tuple(
        (one, folder if is_file else folder / f"{one.label}.json") for one in derived
    )
    for one, path in members:
        for name in _OF_SEARCH:
            check_apart(path, search=run / name)
        _write(path, one)
    return WrittenFamily(members=members)


def _write(path: Path, one: Chosen) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot write {str(path)!r}: {error.strerror}; give another -o"
        ) from None
    replace_file(path, one.architecture.to_json() + "\n")
