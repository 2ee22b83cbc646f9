"""What is measured: plain JAX functions with named dimensions and a float64 reference.

Importing this package registers every workload that has a name.
"""

from mpcprof.workloads import (  # noqa: F401 - importing a family registers it
    activation,
    blocks,
    comparison,
    elementwise,
    linear,
)
