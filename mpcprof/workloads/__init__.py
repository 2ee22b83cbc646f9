"""What is measured: plain JAX functions with named dimensions and a float64 reference.

Importing this package registers every workload that has a name.
"""

from mpcprof.workloads import blocks, primitives  # noqa: F401 - both register
