"""What came of a tuning."""

from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeAlias

from mpcprof.costmodel.prediction import Prediction
from mpcprof.deployment import Deployment
from mpcprof.nn.plan import Plan
from mpcvit.secure.evaluate import LogitComparison
from mpcvit.tune.config import TuneConfig
from mpcvit.tune.ranges import Place

Group: TypeAlias = Literal["rewrite", "activation", "softmax", "norm", "option"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneOutcome:
    """A network before or after tuning.

    Attributes:
        logits: On the ring, against the plain network's in the clear.
    """

    prediction: Prediction
    logits: LogitComparison


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneStep:
    """One choice, or the same choice in several layers, on top of those before.

    Attributes:
        latency_s: Predicted seconds after it.
    """

    name: str
    group: Group
    latency_s: float
    saved_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceChoice:
    """What is done at one place.

    Attributes:
        what: The choice in words.
        saved_s: Predicted seconds less than with the checkpoint's own way.
        logit_error: Root mean square of what it alone changes in the logits.
        n_leaving: Reported images with a value outside its range, as rewritten.
    """

    place: Place
    what: str
    saved_s: float
    logit_error: float
    n_leaving: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """Reported images that leave a range somewhere, in the rewritten network.

    Attributes:
        n_images: Number of them.
        n_disagreeing: Number of those with another label than the plain network's.
    """

    n_images: int
    n_disagreeing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PartiesOutcome:
    """The tuned network on real parties.

    Attributes:
        n_as_emulated: Images with the label of the emulation.
        max_error: Largest distance of a logit from the emulation's.
        latencies_s: Seconds of each call.
        total_bytes_sent: Bytes of a call, summed over parties.
        hops: Hops of a call; None if nothing counted them.
    """

    n_images: int
    n_as_emulated: int
    max_error: float
    latencies_s: tuple[float, ...]
    total_bytes_sent: int
    hops: float | None

    @property
    def latency_s(self) -> float:
        """Median seconds of the calls."""
        return median(self.latencies_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneResult:
    """A plan, and what it does to seconds and logits.

    Attributes:
        n_calibrated: Training images that ranges were taken from.
        n_emulated: Plans that were tried on the ring.
        n_deciding: Test images that the plan was chosen on, of which none is reported.
        failures: What the ring could not hold in the emulation of the tuned network, by
            part and kind, with the number of entries.
        n_failed: Reported images whose logits are ruined in the emulation.
        expected_failures: Failures of truncation an inference, on average.
        rewritten: The network with every exact rewrite and no approximation.
        parties: What real parties said; None if nobody asked them, or they failed.
        parties_error: Why they said nothing; "" if they did not fail.
    """

    config: TuneConfig
    plan: Plan
    model: str
    deployment: Deployment
    dataset: str
    n_calibrated: int
    n_emulated: int
    n_deciding: int
    failures: tuple[tuple[str, int], ...]
    n_failed: int
    expected_failures: float
    before: TuneOutcome
    rewritten: TuneOutcome
    after: TuneOutcome
    steps: tuple[TuneStep, ...]
    choices: tuple[PlaceChoice, ...]
    leaving: Leaving
    parties: PartiesOutcome | None = None
    parties_error: str = ""
