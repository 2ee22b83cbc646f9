"""Measures what neural networks cost under secure computation, and prices them.

    >>> import mpcprof
    >>> profile = mpcprof.read_profile("profiles/semi2k.parquet")
    >>> model = mpcprof.get_model("cifar")
    >>> vit = mpcprof.uniform_architecture(model, attention="relu_softmax")
    >>> predicted = mpcprof.predict_architecture(profile, vit, network="100MBps,10ms")
    >>> 1 < predicted.latency_s < 100
    True

Names are loaded when they are used, so that an import costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpcprof.costmodel.model import CostModel, fit_cost_model
    from mpcprof.network import Network, parse_network
    from mpcprof.nn.architecture import (
        Architecture,
        get_model,
        read_architecture,
        uniform_architecture,
    )
    from mpcprof.nn.preset import ModelPreset
    from mpcprof.predict import predict_architecture
    from mpcprof.profile.io import read_profile
    from mpcprof.profile.record import Profile, Record
    from mpcprof.sweep.function import measure_function
    from mpcprof.terms import Terms, compute_terms

__all__ = [
    "Architecture",
    "CostModel",
    "ModelPreset",
    "Network",
    "Profile",
    "Record",
    "Terms",
    "compute_terms",
    "fit_cost_model",
    "get_model",
    "measure_function",
    "parse_network",
    "predict_architecture",
    "read_architecture",
    "read_profile",
    "uniform_architecture",
]

_HOMES = {
    "mpcprof.costmodel.model": ("CostModel", "fit_cost_model"),
    "mpcprof.network": ("Network", "parse_network"),
    "mpcprof.nn.architecture": (
        "Architecture",
        "get_model",
        "read_architecture",
        "uniform_architecture",
    ),
    "mpcprof.nn.preset": ("ModelPreset",),
    "mpcprof.predict": ("predict_architecture",),
    "mpcprof.profile.io": ("read_profile",),
    "mpcprof.profile.record": ("Profile", "Record"),
    "mpcprof.sweep.function": ("measure_function",),
    "mpcprof.terms": ("Terms", "compute_terms"),
}


def __getattr__(name: str) -> Any:  # Any: the type that TYPE_CHECKING names above
    from importlib import import_module

    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'mpcprof' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__]
