"""How long loading a profile, fitting it, and predicting whole models take.

python benchmarks/prediction_speed.py profiles/semi2k.parquet
"""

import sys
import timeit
from functools import partial
from itertools import product

from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.network import NETWORKS
from mpcprof.nn.architecture import MODELS, Architecture, uniform_architecture
from mpcprof.nn.catalogue import trace_model
from mpcprof.profile.io import read_profile

_REPEATS = 7


def predict(model: CostModel, architecture: Architecture) -> None:
    """Steps of the architecture, traced anew, and their price."""
    trace_model.cache_clear()
    model.predict(trace_model(architecture), NETWORKS["wan"])


start_s = timeit.default_timer()
cost_model = fit_cost_model(read_profile(sys.argv[1]))
print(f"load and fit: {timeit.default_timer() - start_s:.3f} s")
for name, heads in product(("cifar", "tiny-imagenet"), ("serial", "batched")):
    chosen = uniform_architecture(MODELS[name], attention="softmax", heads=heads)
    times_s = timeit.repeat(
        partial(predict, cost_model, chosen), number=1, repeat=_REPEATS
    )
    print(
        f"{name:13} {heads:7}  first {1e3 * times_s[0]:5.2f} ms  "
        f"best of {_REPEATS} {1e3 * min(times_s):5.2f} ms per prediction"
    )
