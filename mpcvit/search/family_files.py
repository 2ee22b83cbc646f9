"""Derived architectures as files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpcprof.errors import UsageError
from mpcprof.profile_io import replace_file
from mpcvit.search.derive import Derived


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenFamily:
    """Each architecture with its file."""

    members: tuple[tuple[Derived, Path], ...]

    def to_json(self) -> str:
        """One document; seconds, counts of heads (or layers, rows), of tokens; gap."""
        return json.dumps(
            {
                "architectures": [
                    {
                        "label": one.label,
                        "path": str(path),
                        "predicted_s": one.predicted_s,
                        "n_accurate": one.n_accurate,
                        "n_units": one.n_units,
                        "n_gelu": one.n_gelu,
                        "n_gelu_units": one.n_gelu_units,
                        "gap": one.gap,
                        "architecture": json.loads(one.architecture.to_json()),
                    }
                    for one, path in self.members
                ]
            }
        )

    def __str__(self) -> str:
        return "\n".join(f"{one.line()}; {path}" for one, path in self.members)


def write_family(
    derived: Sequence[Derived], run: Path, output: Path | None
) -> WrittenFamily:
    """Write each; one alone may go into a file of its own name.

    Raises:
        UsageError: If several are to go into one file.
    """
    folder = output or run
    if folder.suffix == ".json":
        if len(derived) > 1:
            raise UsageError(
                f"{len(derived)} architectures for {str(folder)!r}: expected a folder"
            )
        paths = [folder]
    else:
        paths = [folder / f"{one.label}.json" for one in derived]
    for one, path in zip(derived, paths, strict=True):
        _write(path, one)
    return WrittenFamily(members=tuple(zip(derived, paths, strict=True)))


def _write(path: Path, one: Derived) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot write {str(path)!r}: {error.strerror}; give another -o"
        ) from None
    replace_file(path, (one.architecture.to_json() + "\n").encode())
