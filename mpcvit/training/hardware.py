"""One CPU, one GPU, or the several that torchrun started us for."""

import os
import random
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric

from mpcvit.training.recipe import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """Where a loop runs; under torchrun its environment says on how many devices."""

    accelerator: str = "auto"  # cpu, cuda, or whichever is there

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
