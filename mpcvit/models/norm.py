"""Norms as they are trained. All but layernorms are folded away by the owner."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.distributed import all_reduce, get_world_size, is_initialized
from torch.nn import functional

from mpcprof.errors import UsageError
from mpcprof.nn.norm import NORM_EPSILON, InverseRoot, get_norm, layernorm, rsqrt
from mpcvit.models.algebra import OPS
from mpcvit.models.layers import TrainedForm

MOMENTUM: Final = 0.1  # share of a batch in the running statistics, as torch has it


@dataclass(frozen=True, slots=True, kw_only=True)
class ByChannel:
    """A norm whose statistics are fixed: x scale + shift, both (D,)."""

    scale: Tensor
    shift: Tensor

    def before(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return weight (D, M) and bias (M,) of a linear layer behind, folded."""
        own = self.shift @ weight
        return self.scale[:, None] * weight, own if bias is None else bias + own

    def behind(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return weight (M, D) and bias (D,) of a linear layer in front, folded."""
        own = self.shift if bias is None else bias * self.scale + self.shift
        return weight * self.scale, own


class Branch(nn.Module):
    """What a layer adds to its input, behind a norm."""

    def fold(self, norm: ByChannel | None) -> dict[str, Tensor]:
        """Return the weights that take over that norm, and norms inside the branch."""
        return {}


class Gradual(nn.Module):
    """A module that begins as another one, which gives way while the training proceeds.

    Args:
        until: Share of the training after which the other one is gone; 0 for never
            there.

    Attributes:
        share: Share of the other one in training, from 1 down to 0 in a line; in
            evaluation it is gone.
    """

    def __init__(self, until: float) -> None:
        super().__init__()
        self.until = until
        self.share = 1.0 if until else 0.0

    def begin_step(self, progress: float) -> None:
        """Set the share after that share of the training."""
        self.share = max(0.0, 1 - progress / self.until) if self.until else 0.0


class LayerNorm(nn.Module):
    """`mpcprof.nn.norm.layernorm`, in one kernel where its inverse root is exact."""

    def __init__(
        self,
        width: int,
        epsilon: float = NORM_EPSILON,
        inverse_root: InverseRoot = rsqrt,
    ) -> None:
        super().__init__()
        self.epsilon, self.inverse_root = epsilon, inverse_root
        self.gamma = nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis of (..., D)."""
        if self.inverse_root is not rsqrt:
            own = self.gamma, self.beta, self.epsilon, self.inverse_root
            normed: Tensor = layernorm(OPS, x, *own)
            return normed
        return functional.layer_norm(
            x, self.gamma.shape, self.gamma, self.beta, self.epsilon
        )


class Affine(nn.Module):
    """Gamma x + beta, by channel.

    Source: ResMLP, Touvron et al. 2021 (arXiv 2105.03404), equation 1.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift the last axis of (..., D)."""
        return torch.addcmul(self.beta, x, self.gamma)

    def by_channel(self) -> ByChannel:
        """Return what is folded."""
        return ByChannel(scale=self.gamma.detach(), shift=self.beta.detach())


class BatchNorm(Gradual):
    """(x - mean) / sqrt(var + epsilon) gamma + beta by channel, in one kernel.

    Statistics are of the batch in training, running means of them in evaluation. It may
    begin as a layernorm, which is dropped in the end. Late in a training the running
    means may stand still and be used: products of secrets then meet the images that are
    far out as the deployed network meets them.

    Args:
        until: Share of the training in which it begins as a layernorm.
        frozen: Share of the training, at its end, in which statistics stand still.

    Source: Ioffe and Szegedy 2015 (arXiv 1502.03167); the mixture is that of SLAB, Guo
        et al. 2024 (arXiv 2405.11582), equation 6.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, until: float = 0.0, frozen: float = 0.0) -> None:
        super().__init__(until)
        self.frozen = frozen
        self.is_frozen = False
        self.gamma = nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width))
        self.first = LayerNorm(width) if until else None
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def begin_step(self, progress: float) -> None:
        """Set what holds after that share of the training."""
        super().begin_step(progress)
        self.is_frozen = self.frozen > 0 and progress >= 1 - self.frozen

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each channel, the last axis of (..., D)."""
        normed = self.normalise(x.reshape(-1, x.shape[-1])).view(x.shape)
        if self.first is None or not self.training:
            return normed
        # processes that sum gradients wait for one of every weight, if it is 0
        if self.share == 0 and not _has_others():
            return normed
        return torch.lerp(normed, self.first(x), self.share)

    def normalise(self, x: Tensor) -> Tensor:
        """Normalise each channel, the second axis of (M, D) or (B, D, S, S).

        Raises:
            UsageError: If a batch in training is a single token, which has no variance.
        """
        is_of_batch = self.training and not self.is_frozen
        if is_of_batch and x.numel() == len(self.gamma):
            raise UsageError(
                "a batch of one image of one token: BatchNorm expects two at least; "
                "give another --batch-size or smaller patches"
            )
        if is_of_batch and _has_others():
            return self._normalise_together(x)
        return functional.batch_norm(
            x,
            self.mean,
            self.variance,
            self.gamma,
            self.beta,
            is_of_batch,
            MOMENTUM,
            NORM_EPSILON,
        )

    def _normalise_together(self, x: Tensor) -> Tensor:
        """Normalise by statistics of the batch that several processes share.

        torch's SyncBatchNorm is for GPUs alone. Sums are float32 at least, as torch's
        own are: bfloat16 cannot even count a few hundred tokens.
        """
        dtype = x.dtype
        x = x.to(torch.promote_types(dtype, torch.float32))
        others = [axis for axis in range(x.dim()) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
        own = x.new_tensor([x.numel() / x.shape[1]])
        sums = _sum_over_processes(torch.cat([x.sum(others), own]))
        n = sums[-1]
        mean = sums[:-1] / n
        centred = x - mean.view(shape)
        variance = _sum_over_processes(centred.square().sum(others)) / n
        with torch.no_grad():
            self.mean.lerp_(mean, MOMENTUM)
            self.variance.lerp_(variance * n / (n - 1), MOMENTUM)
        scale = self.gamma * torch.rsqrt(variance + NORM_EPSILON)
        return (centred * scale.view(shape) + self.beta.view(shape)).to(dtype)

    def by_channel(self) -> ByChannel:
        """Return what is folded, with the running statistics."""
        gamma, beta = self.gamma.detach(), self.beta.detach()
        scale = gamma * torch.rsqrt(self.variance + NORM_EPSILON)
        return ByChannel(scale=scale, shift=beta - self.mean * scale)


def _has_others() -> bool:
    return is_initialized() and get_world_size() > 1


class _SumOverProcesses(torch.autograd.Function):
    """The sum of what all processes have; so are gradients summed."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        summed = x.clone()
        all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        summed = gradients[0].clone()
        all_reduce(summed)
        return summed


def _sum_over_processes(x: Tensor) -> Tensor:
    summed: Tensor = _SumOverProcesses.apply(x)  # type: ignore[no-untyped-call]
    return summed


class RepBatchNorm(BatchNorm):
    """BN(x) + a x with one learned a, 1 at first.

    Source: SLAB, Guo et al. 2024 (arXiv 2405.11582), equation 7.
    """

    def __init__(self, width: int, until: float = 0.0, frozen: float = 0.0) -> None:
        super().__init__(width, until, frozen)
        self.identity = nn.Parameter(torch.ones(1))

    def normalise(self, x: Tensor) -> Tensor:
        """Normalise each channel of (M, D)."""
        return torch.addcmul(super().normalise(x), x, self.identity)

    def by_channel(self) -> ByChannel:
        """Return what is folded, with the running statistics."""
        own = super().by_channel()
        return ByChannel(scale=own.scale + self.identity.detach(), shift=own.shift)


Make: TypeAlias = Callable[[int, TrainedForm], nn.Module]
NORMS: Final[Mapping[str, Make]] = {  # those of `mpcprof.nn.norm` that are folded
    "batchnorm": lambda width, form: BatchNorm(width, form.norm_until, form.frozen),
    "repbn": lambda width, form: RepBatchNorm(width, form.norm_until, form.frozen),
    "affine": lambda width, form: Affine(width),
    "none": lambda width, form: nn.Identity(),
}


def make_norm(
    name: str, width: int, form: TrainedForm | None, epsilon: float = NORM_EPSILON
) -> nn.Module | None:
    """Return the norm of that name.

    Args:
        form: How it is trained; None for the deployed network, of whose norms
            layernorms alone are left.
        epsilon: What a layernorm adds to the variance.
    """
    own = get_norm(name)
    if not own.is_folded:
        return LayerNorm(width, epsilon, own.inverse_root)
    return None if form is None else NORMS[name](width, form)


def by_channel(norm: nn.Module | None) -> ByChannel | None:
    """Return what is folded of a norm; None for nothing."""
    return norm.by_channel() if isinstance(norm, Affine | BatchNorm) else None
