"""Images per second of a training step of the `cifar` model, and what bounds it.

python benchmarks/training_step.py [ATTENTION] [STEPS]
"""

import sys

from mpcprof.nn.architecture import get_model, uniform_architecture
from mpcvit.train.recipe import get_recipe
from mpcvit.train.throughput import devices_at_hand, measure_step

attention = sys.argv[1] if len(sys.argv) > 1 else "relu_softmax"
n_steps = int(sys.argv[2]) if len(sys.argv) > 2 else 10
architecture = uniform_architecture(get_model("cifar"), attention=attention)
for hardware, precision in devices_at_hand():
    recipe = get_recipe("cifar10").with_changes(precision=precision)
    print(measure_step(architecture, recipe, hardware, n_steps=n_steps))
