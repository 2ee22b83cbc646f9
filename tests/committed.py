"""The profiles in `profiles/`, each read and fitted once, when a test first asks."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.profile.io import read_profile, write_profile
from mpcprof.profile.record import Profile, Record
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


_folder = cache(TemporaryDirectory)  # removed when the process ends


@cache
def small_profile() -> Path:
    """Return a file of the smallest sizes of each primitive, quick to read and fit."""
    by_workload: dict[str, list[Record]] = {}
    for record in sorted(committed_profile(), key=lambda one: one.latency_s):
        if record.kind == "primitive":
            by_workload.setdefault(record.workload, []).append(record)
    few = [record for group in by_workload.values() for record in group[::4][:4]]
    path = Path(_folder().name) / "semi2k.parquet"
    write_profile(path, replace(committed_profile(), records=tuple(few)))
    return path


@cache
def full_model() -> CostModel:
    """Return the cost model of the made-up profile that has every primitive."""
    return fit_cost_model(make_full_profile())
