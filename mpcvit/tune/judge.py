"""What a plan makes of a network's logits: in exact arithmetic, and on the ring."""
# ruff: noqa: D102 - the method is documented in `Algebra`

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpcprof.deployment import Deployment
from mpcprof.nn.folding import fold_weights
from mpcprof.nn.plan import Plan
from mpcprof.nn.transformer import vit
from mpcvit.checkpoint import Checkpoint
from mpcvit.models.algebra import TorchAlgebra
from mpcvit.models.layers import to_patches
from mpcvit.secure.fixed_point import FixedPointAlgebra
from mpcvit.secure.spu_functions import FunctionOptions

Logits = NDArray[np.float64]
_CHUNK: Final = 50  # images at a time


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
            images: Images that decide, uint8, (n, c, S, S).
        """
        self._architecture = checkpoint.architecture
        self._weights = {
            name: weight.double().numpy() for name, weight in checkpoint.weights.items()
        }
        self._deployment = deployment
        self._seed = seed
        self.failures: Counter[tuple[str, str]] = Counter()
        pixels = checkpoint.normalize(images)
        self._patches = to_patches(pixels, checkpoint.architecture.model.patch)
        with torch.no_grad():
            self.plain: Logits = checkpoint.build_model()(pixels).double().numpy()

    @property
    def n_images(self) -> int:
        """Number of images that decide."""
        return len(self._patches)

    def fold(self, plan: Plan) -> dict[str, Tensor]:
        """Return the weights as their owner shares them."""
        folded = fold_weights(self._architecture, plan, self._weights)
        return {name: torch.from_numpy(weight) for name, weight in folded.items()}

    @torch.no_grad()
    def exact_error(self, plan: Plan, n_images: int) -> float:
        """Return the root mean square error of the first images' logits, float64."""
        patches = self._patches[:n_images].double()
        weights, plan = self.fold(plan), _one_by_one(plan)
        logits = vit(ExactAlgebra(), self._architecture, patches, weights, plan)
        errors = logits.numpy() - self.plain[:n_images]
        return float(np.sqrt(np.mean(errors**2)))

    @torch.no_grad()
    def emulate(self, plan: Plan | None) -> Iterator[Logits]:
        """Yield the logits of private inferences on the ring, some images at a time.

        Each chunk has its own seed, so that stopping early changes no other.
        """
        deployment = plan.deployment or self._deployment if plan else self._deployment
        weights = self.fold(plan) if plan else self._plain_weights()
        plan = _one_by_one(plan) if plan else None
        for number, patches in enumerate(torch.split(self._patches, _CHUNK)):
            ops = _make_ring(deployment, self._seed + number)
            shared = {name: ops.encode(weight) for name, weight in weights.items()}
            patches = ops.encode(patches)
            logits = vit(ops, self._architecture, patches, shared, plan)
            self.failures.update(ops.failures)
            yield np.asarray(ops.decode(logits).double().numpy())

    def _plain_weights(self) -> dict[str, Tensor]:
        return {n: torch.from_numpy(weight) for n, weight in self._weights.items()}

    def emulated(self, plan: Plan | None) -> Logits:
        """Return the logits of all images, (n, C)."""
        return np.concatenate([*self.emulate(plan)])

    def agrees(self, plan: Plan, agreement: float) -> bool:
        """Tell whether at least that share of labels is the plain network's.

        It stops at the label that is one too many.
        """
        n_left = int((1 - agreement) * self.n_images + 1e-9)
        n_seen = 0
        for logits in self.emulate(plan):
            plain = self.plain[n_seen : n_seen + len(logits)]
            n_left -= int((logits.argmax(1) != plain.argmax(1)).sum())
            n_seen += len(logits)
            if n_left < 0 or not np.isfinite(logits).all():
                return False
        return True


def _one_by_one(plan: Plan) -> Plan:
    """Return the plan with heads one product each, which changes no result."""
    layers = tuple(replace(layer, n_together=1) for layer in plan.layers)
    return replace(plan, layers=layers)


def _make_ring(deployment: Deployment, seed: int) -> FixedPointAlgebra:
    return FixedPointAlgebra(
        deployment.fraction_bits,
        deployment.field_bits,
        seed,
        protocol=deployment.protocol,
        functions=_functions(deployment),
    )


def _functions(deployment: Deployment) -> FunctionOptions:
    own = dict(deployment.runtime_options)
    default = FunctionOptions()
    return FunctionOptions(
        exp_steps=int(own.get("fxp_exp_iters", default.exp_steps)),
        division_steps=int(
            own.get("fxp_div_goldschmidt_iters", default.division_steps)
        ),
        has_coarse_rsqrt=bool(own.get("enable_lower_accuracy_rsqrt", False)),
    )
