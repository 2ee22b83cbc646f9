"""Emulated latency against compute + hops + bytes, by workload of a profile.

python benchmarks/formula.py profiles/semi2k.parquet
"""

import sys

from mpcprof.figures.agreement import check_formula
from mpcprof.profile.io import read_profile

for row in check_formula(read_profile(sys.argv[1])):
    print(
        f"{row.name:12} n={row.n_records:4}  median {row.median:6.2%}  "
        f"95th percentile {row.percentile_95:6.2%}  largest {row.largest:6.2%}  "
        f"({row.worst.workload} {row.worst.dims})"
    )
