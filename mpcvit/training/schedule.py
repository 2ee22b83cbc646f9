"""The learning rate: linear warm-up, half a cosine, flat cool-down."""

import math
from dataclasses import dataclass

from mpcprof.errors import UsageError

_WARMUP_START = 1e-3  # of the peak; zero would waste the first step


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Which share of its peak the learning rate has, by epoch; a pure function.

    Warm-up and cool-down count among the epochs. A short run keeps the shape: it gives
    each of them at most a quarter of its epochs.

    Differs: timm, which the public code calls, adds the cool-down to the epochs that
        are asked for: 610 of them where the paper says 600.

    Raises:
        UsageError: If the numbers of epochs are not possible.
    """

    epochs: int
    warmup_epochs: int
    cooldown_epochs: int

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.warmup_epochs < 0 or self.cooldown_epochs < 0:
            raise UsageError(
                f"epochs={self.epochs}, warmup_epochs={self.warmup_epochs}, "
                f"cooldown_epochs={self.cooldown_epochs}: expected at least 1, 0 and 0"
            )

    def learning_rate(self, epoch: float, *, peak: float, least: float) -> float:
        """The rate after that many epochs; fractions are steps inside an epoch."""
        warmup = min(self.warmup_epochs, self.epochs / 4)
        cooldown = min(self.cooldown_epochs, self.epochs / 4)
        if epoch < warmup:
            return peak * max(epoch / warmup, _WARMUP_START)
        progress = min((epoch - warmup) / (self.epochs - warmup - cooldown), 1.0)
        return least + (peak - least) * (1 + math.cos(math.pi * progress)) / 2
