"""What a profile foresees of a private inference."""

from dataclasses import dataclass
from pathlib import Path

from mpcprof.costmodel.model import PartCost, Prediction
from mpcprof.costmodel.storage import load_cost_model
from mpcprof.deployment import Deployment
from mpcprof.errors import MissingEntryError, ProfileError, UsageError
from mpcprof.network import Network
from mpcprof.nn.architecture import Architecture
from mpcprof.nn.catalogue import trace_model
from mpcprof.predict import sum_by_layer
from mpcprof.profile.io import read_profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """One call, from a profile.

    Attributes:
        hosts: Where the profile was measured.
    """

    profile: str
    hosts: str
    prediction: Prediction

    @property
    def layers(self) -> tuple[PartCost, ...]:
        """Its parts by layer, without what every call costs."""
        return sum_by_layer(self.prediction)


def forecast(
    profile: Path | None,
    architecture: Architecture,
    deployment: Deployment,
    network: Network,
    n_batch: int,
) -> tuple[Forecast | None, str]:
    """The forecast, or the reason why there is none.

    Args:
        profile: If None, profiles/PROTOCOL.parquet, if that can foresee it.

    Raises:
        UsageError: If the profile that is named is of another deployment.
        ProfileError: If it cannot be read.
        MissingEntryError: If it lacks an operation.
    """
    path = profile or Path("profiles") / f"{deployment.protocol}.parquet"
    if profile is None and not path.exists():
        return None, f"no forecast: there is no {path}; name one with --profile"
    try:
        return _foresee(path, architecture, deployment, network, n_batch), ""
    except (UsageError, ProfileError, MissingEntryError) as error:
        if profile is not None:
            raise
        is_named = str(path) in str(error)  # an entry that is missing names no file
        return None, f"no forecast: {'' if is_named else f'{path}: '}{error}"


def _foresee(
    path: Path,
    architecture: Architecture,
    deployment: Deployment,
    network: Network,
    n_batch: int,
) -> Forecast:
    read = read_profile(path)
    difference = read.deployment.difference(deployment)
    if difference:
        raise UsageError(
            f"{path} is of another deployment: {difference}; name one of this "
            "deployment with --profile"
        )
    model = load_cost_model(read)
    prediction = model.predict(trace_model(architecture, n_batch), network)
    return Forecast(profile=str(path), hosts=model.hosts, prediction=prediction)
