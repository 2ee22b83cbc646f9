"""The profiles in `profiles/`, each read and fitted once, when a test first asks."""

from functools import cache

from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.profile.io import read_profile
from mpcprof.profile.record import Profile
from mpcvit.paper.costs import FittedProfile, read_fitted
from tests import ROOT
from tests.factories import make_full_profile


@cache
def committed_profile(name: str = "semi2k") -> Profile:
    return read_profile(ROOT / "profiles" / f"{name}.parquet")


@cache
def committed_model(name: str = "semi2k") -> CostModel:
    return fit_cost_model(committed_profile(name))


@cache
def committed_fit(name: str = "semi2k") -> FittedProfile:
    return read_fitted(ROOT / "profiles" / f"{name}.parquet")


@cache
def full_model() -> CostModel:
    """Return the cost model of the made-up profile that has every primitive."""
    return fit_cost_model(make_full_profile())
