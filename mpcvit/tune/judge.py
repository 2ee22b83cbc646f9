"""What a plan makes of a network's logits: in exact arithmetic, and on the ring."""
# ruff: noqa: D102 - the method is documented in `Algebra`

from collections import Counter
from collections.abc import Iterator
from copy import copy
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpcprof.deployment import Deployment
from mpcprof.nn.folding import fold_weights
from mpcprof.nn.plan import Plan
from mpcprof.nn.transformer import vit
from mpcprof.spu_options import truncates_locally
from mpcvit.checkpoint import Checkpoint
from mpcvit.models.algebra import TorchAlgebra
from mpcvit.models.layers import to_patches
from mpcvit.secure.evaluate import plain_logits
from mpcvit.secure.fixed_point import (
    FixedPointAlgebra,
    Logits,
    emulate_network,
    one_by_one,
)
from mpcvit.tune.truncation import without_local_truncation

_N_COUNTED: Final = 50  # images of which sizes are taken for failures
_N_NEAREST: Final = 100  # images that are emulated whatever their logits
_N_OUTLIERS: Final = 3  # of them, which left a range


class ExactAlgebra(TorchAlgebra):
    """The algebra in torch for values that may leave a range, as parties let them."""

    def expect_within(self, x: Tensor, low: float, high: float) -> Tensor:
        return x


class Judge:
    """Holds a network under a plan against the same network without one.

    Attributes:
        plain: Logits of the torch model, (n, C).
        failures: Entries that the ring could not hold, or out of range, in all that was
            emulated, by (part, what happened).
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        images: Tensor,
        deployment: Deployment,
        *,
        seed: int = 0,
    ) -> None:
        """Ask the plain model.

        Args:
            images: Images that it judges by, uint8, (n, c, S, S).
        """
        self._architecture = checkpoint.architecture
        self._weights = {
            name: weight.double().numpy() for name, weight in checkpoint.weights.items()
        }
        self._deployment = deployment
        self._seed = seed
        self.failures: Counter[tuple[str, str]] = Counter()
        self._most_expected = 0.5  # labels
        pixels = checkpoint.normalize(images)
        self._patches = to_patches(pixels, checkpoint.architecture.model.input_patch)
        self.plain: Logits = plain_logits(checkpoint, images)
        first, second = np.sort(self.plain, axis=1)[:, :-3:-1].T
        self._gaps: Logits = first - second  # what a label changes at, (n,)

    def under(self, deployment: Deployment) -> "Judge":
        """Return the same judge of another deployment."""
        other = copy(self)
        other._deployment, other.failures = deployment, Counter()
        return other

    def expecting(self, n_labels: float) -> "Judge":
        """Return the same judge, who lets that many labels be expected to change."""
        other = copy(self)
        other._most_expected = n_labels
        return other

    @property
    def n_images(self) -> int:
        """Number of images that it judges by."""
        return len(self._patches)

    def fold(self, plan: Plan) -> dict[str, Tensor]:
        """Return the weights as their owner shares them."""
        folded = fold_weights(self._architecture, plan, self._weights)
        return {name: torch.from_numpy(weight) for name, weight in folded.items()}

    @torch.no_grad()
    def exact_error(self, plan: Plan, n_images: int) -> float:
        """Return the root mean square error of the first images' logits, float64."""
        patches = self._patches[:n_images].double()
        weights, plan = self.fold(plan), one_by_one(plan)
        logits = vit(ExactAlgebra(), self._architecture, patches, weights, plan)
        errors = logits.numpy() - self.plain[:n_images]
        return float(np.sqrt(np.mean(errors**2)))

    def emulate(
        self,
        plan: Plan,
        order: NDArray[np.int64] | None = None,
        *,
        has_failures: bool = True,
    ) -> Iterator[Logits]:
        """Yield the logits of private inferences on the ring, some images at a time.

        Args:
            order: Positions of the images that are taken; None for all.
            has_failures: Whether local truncation may fail, as with parties.
        """
        deployment = plan.deployment or self._deployment
        return emulate_network(
            deployment if has_failures else without_local_truncation(deployment),
            self._architecture,
            plan,
            self._weights,
            self._patches if order is None else self._patches[order],
            failures=self.failures,
            seed=self._seed,
        )

    def emulated(self, plan: Plan) -> Logits:
        """Return the logits of all images, (n, C)."""
        return np.concatenate([*self.emulate(plan)])

    def agrees(self, plan: Plan, agreement: float) -> bool:
        """Tell whether at least that share of labels is the plain network's.

        Images come from the nearest tie on. It stops at the label that is one too many,
        or where ties are twice as far as logits have moved, of 100 images at least. Of
        many plans one changes no label by luck: as many labels as may change are to be
        expected as well, where any error could have met any image (or half a label; see
        `expecting`).
        Failures of local truncation, which have a bound of their own, are left out: one
        image more or less is chance.
        """
        order = np.argsort(self._gaps, kind="stable")
        n_most = int((1 - agreement) * len(order) + 1e-9)
        n_other, moves = 0, np.zeros(0)
        for logits in self.emulate(plan, order, has_failures=False):
            plain = self.plain[order[len(moves) : len(moves) + len(logits)]]
            n_other += int((logits.argmax(1) != plain.argmax(1)).sum())
            if n_other > n_most or not np.isfinite(logits).all():
                return False
            moves = np.append(moves, _moves(plain, logits))
            n_seen = len(moves)
            is_all = n_seen == len(order)
            if n_seen < _N_NEAREST and not is_all:
                continue
            is_last = is_all or self._gaps[order[n_seen]] > 2 * moves.max()
            # few that left a range say little until the rest is known
            kept = moves if is_last else np.sort(moves)[:-_N_OUTLIERS]
            if self._expected_changes(kept) > max(n_most, self._most_expected):
                return False
            if is_last:
                return True
        return True

    def expected_changes(self, logits: Logits) -> float:
        """Return how many labels change if each image has the error of any other."""
        return self._expected_changes(_moves(self.plain, logits))

    def _expected_changes(self, moves: NDArray[np.float64]) -> float:
        """Return the same from how far the logits of some images moved."""
        changes = len(moves) - np.searchsorted(np.sort(moves), self._gaps, "right")
        return float(changes.sum() / len(moves))

    @torch.no_grad()
    def expected_failures(self, plan: Plan) -> float:
        """Return how many truncations of an inference come out wrong on average."""
        deployment = plan.deployment or self._deployment
        if not truncates_locally(deployment):
            return 0.0
        patches = self._patches[:_N_COUNTED]
        ops = FixedPointAlgebra.of(deployment, self._seed)
        weights = {name: ops.encode(one) for name, one in self.fold(plan).items()}
        vit(ops, self._architecture, ops.encode(patches), weights, one_by_one(plan))
        return ops.expected_failures / len(patches)


def _moves(plain: Logits, logits: Logits) -> Logits:
    """Return by how much the second logit came nearer to that of the label, (n,)."""
    second, first = plain.argsort(axis=1)[:, -2:].T
    rows = np.arange(len(plain))
    errors = logits - plain
    return np.asarray(errors[rows, second] - errors[rows, first])
