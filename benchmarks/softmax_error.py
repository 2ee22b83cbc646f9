"""Measure Figure 1(c) alone: error of softmax under MPC, by real parties.

python benchmarks/softmax_error.py [spu-0.9.5|spu-0.3.1b0] [profiles]
"""

import sys
from pathlib import Path

from mpcprof.deployment import make_deployment
from mpcvit.paper.measuring import measure_softmax_error
from mpcvit.paper.softmax_error import errors_path, write_errors

runtime = sys.argv[1] if len(sys.argv) > 1 else "spu-0.9.5"
folder = Path(sys.argv[2] if len(sys.argv) > 2 else "profiles")
deployment = make_deployment("semi2k", runtime=runtime)
table = measure_softmax_error(deployment)
path = errors_path(folder, deployment)
write_errors(path, table)
for point in table.points:
    print(
        f"{point.kernel:12} variance {point.variance:8g}  relative error "
        f"{point.relative_error:.3g}, of the norm {point.norm_error:.3g}"
    )
print(path)
