"""One JSON object per epoch in `log.jsonl`, and the same numbers for TensorBoard."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mpcprof.errors import UsageError
from mpcprof.files import replace_file

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """Numbers of a finished epoch.

    Attributes:
        epoch: Number of the epoch; the first is 1.
        learning_rate: Rate of the weights at the end of the epoch.
        losses: Means over the epoch's images, by the objective's names.
        metrics: Numbers after the epoch, by the objective's names.
        duration_s: Seconds of the steps.
        metrics_s: Seconds of the metrics.
    """

    epoch: int
    learning_rate: float
    losses: Mapping[str, float]
    metrics: Mapping[str, float]
    duration_s: float
    metrics_s: float
    images_per_s: float

    def to_json(self) -> str:
        """Return a line of `log.jsonl`."""
        return json.dumps(asdict(self), allow_nan=False)

    def __str__(self) -> str:
        shown = {**self.losses, **self.metrics}
        numbers = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
        return f"epoch {self.epoch}: {numbers}"


def read_log(path: Path, n_epochs: int | None = None) -> tuple[EpochRecord, ...]:
    """Return the epochs in a log, in their order; none if there is no file.

    A last line that a killed writer did not finish is left out.

    Args:
        n_epochs: Number of epochs to return, the first ones; None for all.

    Raises:
        UsageError: If a line is not of this log, or one of those epochs is missing.
    """
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith(b"\n")][:n_epochs]
    try:
        records = tuple(EpochRecord(**json.loads(line)) for line in whole)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{str(path)!r} is not a log of epochs ({error}); remove the folder, or "
            "choose another one with --output"
        ) from None
    n_done = len(records) if n_epochs is None else n_epochs
    missing = {*range(1, n_done + 1)} - {record.epoch for record in records}
    if missing:
        raise UsageError(
            f"{str(path)!r} lacks epoch {min(missing)}, which the run has done: put "
            "its line back, start anew with --fresh, or choose another folder with "
            "--output"
        )
    return records


class EpochLog:
    """Appender of epochs to a run's files; a context.

    Args:
        n_epochs: Number of epochs to keep of what is there; later ones, which a killed
            run logged but did not save, are dropped.
    """

    def __init__(self, path: Path, tensorboard: Path, *, n_epochs: int) -> None:
        self._path = path
        self._tensorboard = tensorboard
        self._n_epochs = n_epochs
        self._writer: SummaryWriter | None = None

    def __enter__(self) -> "EpochLog":
        from torch.utils.tensorboard.writer import SummaryWriter

        kept = read_log(self._path, self._n_epochs)
        text = "".join(f"{record.to_json()}\n" for record in kept)
        replace_file(self._path, text)
        self._writer = SummaryWriter(self._tensorboard, purge_step=self._n_epochs + 1)
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def append(self, record: EpochRecord) -> None:
        """Add an epoch to the log and to TensorBoard."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(record.to_json() + "\n")
        values = {
            "learning_rate": record.learning_rate,
            "images_per_s": record.images_per_s,
            **{f"loss/{name}": value for name, value in record.losses.items()},
            **{f"metric/{name}": value for name, value in record.metrics.items()},
        }
        assert self._writer is not None  # only inside `with`
        for name, value in values.items():
            self._writer.add_scalar(name, value, record.epoch)
        self._writer.flush()
