"""The folder of one run: its settings, logs, state to resume from, and result."""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mpcprof.errors import FileError, UsageError
from mpcprof.files import check_writable, locked, replace_file

SCHEMA_VERSION: Final = 1
# What runs had before these settings had a name; a folder without them is resumed.
_BEFORE: Final = {"n_processes": 1, "recipe.augmentation.crop_scale": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """Names of files, and who may write them.

    Attributes:
        settings: All that decides what comes out, as JSON values; a run is resumed
            only under the very same ones.
        results: Names of files that are written there once the run is done.
    """

    path: Path
    settings: Mapping[str, Any]  # Any: JSON, compared and never read
    results: tuple[str, ...] = ()

    @property
    def config(self) -> Path:
        """The settings."""
        return self.path / "config.json"

    @property
    def log(self) -> Path:
        """A line for each epoch."""
        return self.path / "log.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Event files."""
        return self.path / "tensorboard"

    @property
    def state(self) -> Path:
        """Where a stopped run goes on."""
        return self.path / "last.safetensors"

    @property
    def model(self) -> Path:
        """The checkpoint of the trained model."""
        return self.path / "model.safetensors"

    @contextlib.contextmanager
    def opened(self, *, is_fresh: bool) -> Iterator[None]:
        """Be the only writer of the folder until the end of the block.

        Args:
            is_fresh: Remove what an earlier run left there.

        Raises:
            UsageError: If a run with other settings is there.
            FileBusyError: If another process writes it.
        """
        try:
            check_writable(self.path / "run")
        except FileError as error:
            raise UsageError(str(error)) from None
        with locked(self.path / "run"):
            if is_fresh:
                self._clear()
            self._claim()
            yield

    def _clear(self) -> None:
        results = (self.path / name for name in self.results)
        for path in (*results, self.model, self.config, self.log, self.state):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.tensorboard, ignore_errors=True)

    def _claim(self) -> None:
        given = {"schema_version": SCHEMA_VERSION, **self.settings}
        text = json.dumps(given, indent=2, sort_keys=True, allow_nan=False)
        if not self.config.exists():
            replace_file(self.config, text)
            return
        there = {**_BEFORE, **_flatten(_read(self.config))}
        asked = {**_BEFORE, **_flatten(json.loads(text))}
        for name in sorted({*there, *asked}):
            if there.get(name) != asked.get(name):
                raise UsageError(
                    f"{str(self.path)!r} holds a run with {name}={there.get(name)!r}, "
                    f"not {asked.get(name)!r}: start anew with --fresh, or choose "
                    "another folder with --output"
                )


def _read(path: Path) -> Any:  # Any: JSON
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"cannot read {str(path)!r}: {error}; start anew with --fresh, or choose "
            "another folder with --output"
        ) from None


def _flatten(value: Any, name: str = "") -> dict[str, object]:  # Any: JSON
    """Leaves by dotted name; a list is a leaf."""
    if not isinstance(value, dict):
        return {name: value}
    leaves: dict[str, object] = {}
    for key, inner in value.items():
        leaves |= _flatten(inner, f"{name}.{key}" if name else key)
    return leaves
