"""Vision Transformers that are cheap under secure computation: search, train, infer.

    >>> import mpcvit
    >>> result = mpcvit.read_result(folder / "search")
    >>> found = mpcvit.derive_by_budget(result, 12.0, heads="serial")
    >>> run = mpcvit.RunConfig(
    ...     dataset="digits", recipe=recipe, output=folder / "found", limit=40
    ... )
    >>> config = mpcvit.TrainConfig(run=run, architecture=found.architecture)
    >>> 0 <= mpcvit.run_training(config).accuracy <= 1
    True

Names are loaded when they are used, so that an import costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpcvit.checkpoint import read_checkpoint
    from mpcvit.search.alpha.derive import derive_by_budget, derive_by_mu
    from mpcvit.search.alpha.result import read_result
    from mpcvit.search.alpha.run import SearchConfig
    from mpcvit.search.alpha.run import search as run_search
    from mpcvit.secure.inference import infer
    from mpcvit.train.config import RunConfig
    from mpcvit.train.evaluate import evaluate_plain
    from mpcvit.train.recipe import get_recipe
    from mpcvit.train.run import TrainConfig
    from mpcvit.train.run import train as run_training

__all__ = [
    "RunConfig",
    "SearchConfig",
    "TrainConfig",
    "derive_by_budget",
    "derive_by_mu",
    "evaluate_plain",
    "get_recipe",
    "infer",
    "read_checkpoint",
    "read_result",
    "run_search",
    "run_training",
]

_HOMES = {  # sub-packages have the names of their functions `search` and `train`
    "RunConfig": ("mpcvit.train.config", "RunConfig"),
    "SearchConfig": ("mpcvit.search.alpha.run", "SearchConfig"),
    "TrainConfig": ("mpcvit.train.run", "TrainConfig"),
    "derive_by_budget": ("mpcvit.search.alpha.derive", "derive_by_budget"),
    "derive_by_mu": ("mpcvit.search.alpha.derive", "derive_by_mu"),
    "evaluate_plain": ("mpcvit.train.evaluate", "evaluate_plain"),
    "get_recipe": ("mpcvit.train.recipe", "get_recipe"),
    "infer": ("mpcvit.secure.inference", "infer"),
    "read_checkpoint": ("mpcvit.checkpoint", "read_checkpoint"),
    "read_result": ("mpcvit.search.alpha.result", "read_result"),
    "run_search": ("mpcvit.search.alpha.run", "search"),
    "run_training": ("mpcvit.train.run", "train"),
}


def __getattr__(name: str) -> Any:  # Any: the type that TYPE_CHECKING names above
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'mpcvit' has no attribute {name!r}")
    module, own_name = _HOMES[name]
    return getattr(import_module(module), own_name)


def __dir__() -> list[str]:
    return [*__all__]
