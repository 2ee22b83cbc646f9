"""One CPU, one GPU, or the several that torchrun started us for."""

import os
import random
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from lightning_fabric import Fabric

from mpcprof.errors import UsageError
from mpcvit.train.recipe import Precision

_GPUS: Final = ("cuda", "gpu")  # two names of the same
_ACCELERATORS: Final = ("auto", "cpu", *_GPUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Where a loop runs; under torchrun its environment says on how many devices.

    Raises:
        UsageError: If this machine has no such device.
    """

    accelerator: str = "auto"  # cpu, cuda, or whichever is there

    def __post_init__(self) -> None:
        if self.accelerator not in _ACCELERATORS:
            raise UsageError(
                f"accelerator {self.accelerator!r}: expected {', '.join(_ACCELERATORS)}"
            )
        if self.accelerator in _GPUS and not torch.cuda.is_available():
            raise UsageError(
                f"accelerator {self.accelerator!r}: torch finds no GPU here; give "
                "--accelerator cpu, or auto for whichever device there is"
            )

    def launch(self, precision: Precision) -> Fabric:
        """Join the other processes, if there are any."""
        fabric = Fabric(
            accelerator=self.accelerator,
            devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
            num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", "1")),
            precision=precision,
        )
        fabric.launch()
        return fabric


def seed_all(*entropy: int) -> None:
    """Every random number from here on follows from these numbers."""
    words = np.random.SeedSequence(entropy).generate_state(2)
    torch.manual_seed(int(words[0]))
    random.seed(int(words[1]))
    np.random.seed(int(words[1]))
