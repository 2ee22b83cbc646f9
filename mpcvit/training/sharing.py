"""Whether all processes of a run see the same folder."""

from pathlib import Path
from typing import Any, Final

import torch
from lightning_fabric import Fabric

from mpcprof.errors import UsageError

NO_RUN: Final = -1  # instead of epochs, where a process sees no run at all


def check_shared(fabric: Fabric, folder: Path, n_done: int) -> None:
    """Pass if every process sees as many epochs done; all are told, or none is.

    Raises:
        UsageError: If not.
    """
    own = torch.tensor(n_done, device=fabric.device)
    gathered: Any = fabric.all_gather(own)  # Any: Fabric gathers more than tensors
    found = gathered.flatten().tolist()
    if len({*found}) > 1:
        seen = ", ".join("no run" if n == NO_RUN else f"{n} epochs done" for n in found)
        raise UsageError(
            f"{str(folder)!r}: the processes see {seen} there; the run's folder must "
            "be one that all nodes share, choose it with --output"
        )
