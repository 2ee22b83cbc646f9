"""What a tuning was asked for, checked before anything that is slow is loaded."""

from dataclasses import dataclass
from pathlib import Path

from mpcprof.errors import UsageError
from mpcprof.files import check_apart
from mpcprof.network import Network
from mpcprof.nn.architecture import Heads


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneConfig:
    """What `mpcvit tune` was asked for.

    Attributes:
        profile: Profile that prices, and whose deployment is tuned for.
        output: File of the plan.
        agreement: Least share of labels that are the plain network's, in (0, 1].
        n_images: Most test images that decide; as many others are reported.
        n_calibration: Most training images that ranges are taken from.
        margin: Factor by which ranges are wider than what was seen.
        n_batch: Images of a call, for its price.
        heads: How heads run before tuning; None as in the checkpoint.
        dataset: Name or folder of a data set; None for the checkpoint's.
        data: Folder of a named data set.
        accept_failures: Failures of truncation an inference, on average, at most.
        n_by_parties: Reported images that real parties classify in the end.
        emulation: Back-end that emulates their network.

    Raises:
        UsageError: If a number is out of range, or what is read would be written.
    """

    checkpoint: Path
    profile: Path
    network: Network
    output: Path
    agreement: float = 0.995
    n_images: int = 1000
    n_calibration: int = 1000
    margin: float = 1.5
    n_batch: int = 1
    heads: Heads | None = None
    dataset: str | None = None
    data: Path | None = None
    accept_failures: float = 0.0
    n_by_parties: int = 0
    emulation: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.agreement <= 1:
            raise UsageError(
                f"agreement {self.agreement:.4%}: expected more than 0% and at most "
                "100%, such as 99.5%"
            )
        if not 1 <= self.margin <= 100:
            raise UsageError(
                f"margin {self.margin:g}: expected a factor from 1 to 100, by which "
                "ranges are wider than what was seen"
            )
        if not 0 <= self.accept_failures <= 1:
            raise UsageError(
                f"accept_failures {self.accept_failures:g}: expected failures of an "
                "inference from 0 to 1, such as 0.001"
            )
        for path in (self.output, self.steps_path):
            check_apart(path, checkpoint=self.checkpoint, profile=self.profile)

    @property
    def steps_path(self) -> Path:
        """File beside the plan that `mpcprof plot` draws."""
        return self.output.parent / f"{self.output.stem}.steps.json"
