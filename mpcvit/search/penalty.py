"""How much a second costs the loss: lambda, eta, or a target that finds them."""

from dataclasses import dataclass
from typing import Final, Literal

from mpcprof.errors import UsageError
from mpcprof.units import format_duration

# of digits, with its 20 epochs: half of the attentions stay; docs/experiments.md
LAMBDA_PER_S: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalty:
    """Of CE + lambda attention_s + eta activation_s.

    Attributes:
        lambda_per_s: Loss per second of attention; None where a target finds it.
        eta_per_s: Loss per second of the MLPs; None is lambda, both being of seconds.
            `paper`: lambda / eta = Lat(ATTN) / Lat(GeLU), section 4.5.
        target_s: Expected latency that lambda is adapted to, eta along with it.

    Raises:
        UsageError: If a number is negative, or lambda and a target are given.
    """

    lambda_per_s: float | None = LAMBDA_PER_S
    eta_per_s: float | Literal["paper"] | None = None
    target_s: float | None = None

    def __post_init__(self) -> None:
        if (self.lambda_per_s is None) == (self.target_s is None):
            raise UsageError(
                "lambda and target: expected one of the two; a target finds lambda"
            )
        if self.target_s is not None:
            if self.target_s <= 0:
                raise UsageError(f"target {self.target_s} s: expected above 0")
            if isinstance(self.eta_per_s, float):
                raise UsageError(
                    f"eta={self.eta_per_s} and a target of "
                    f"{format_duration(self.target_s)}: expected eta=paper or none, "
                    "since a target changes both"
                )
        given = (self.lambda_per_s, self.eta_per_s)
        if any(isinstance(x, float) and not 0 <= x < float("inf") for x in given):
            raise UsageError(
                f"lambda={self.lambda_per_s}, eta={self.eta_per_s}: expected loss per "
                "second, 0 or more"
            )


def parse_eta(text: str) -> float | Literal["paper"]:
    """A number, or `paper`.

    Raises:
        UsageError: If it is neither.
    """
    if text == "paper":
        return "paper"
    try:
        return float(text)
    except ValueError:
        raise UsageError(
            f"eta {text!r}: expected loss per second such as 0.01, or paper"
        ) from None


def choose_penalty(
    lambda_per_s: float | None,
    eta_per_s: float | Literal["paper"] | None,
    target_s: float | None,
) -> Penalty:
    """What was given; the default lambda where neither it nor a target was."""
    if lambda_per_s is None and target_s is None:
        lambda_per_s = LAMBDA_PER_S
    return Penalty(lambda_per_s=lambda_per_s, eta_per_s=eta_per_s, target_s=target_s)
