"""What any sequence of steps costs on any network, from one measured profile."""

from mpcprof.costmodel.fitting import (
    HeldOut,
    HeldOutPair,
    fit_cost_model,
    held_out_errors,
    held_out_pairs,
)
from mpcprof.costmodel.model import CostModel
from mpcprof.costmodel.prediction import PartCost, Prediction
from mpcprof.costmodel.step_cost import Basis, StepCost
from mpcprof.costmodel.storage import attach, load_cost_model

__all__ = [
    "Basis",
    "CostModel",
    "HeldOut",
    "HeldOutPair",
    "PartCost",
    "Prediction",
    "StepCost",
    "attach",
    "fit_cost_model",
    "held_out_errors",
    "held_out_pairs",
    "load_cost_model",
]
