"""What is measured: plain JAX functions with named dimensions and a float64 reference.

Importing a family registers its entries.
"""

from mpcprof.workloads import (
    activation,
    block_workloads,
    comparison,
    elementwise,
    linear,
)
from mpcprof.workloads.models import model_workload
from mpcprof.workloads.registry import (
    Workload,
    all_workloads,
    get_workload,
    register,
)
from mpcprof.workloads.step_workloads import steps_workload
from mpcprof.workloads.user import load_user_function

__all__ = [
    "Workload",
    "activation",
    "all_workloads",
    "block_workloads",
    "comparison",
    "elementwise",
    "get_workload",
    "linear",
    "load_user_function",
    "model_workload",
    "register",
    "steps_workload",
]
