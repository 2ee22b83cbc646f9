"""The paper's latencies beside those of a profile: published, ours, ratio.

python benchmarks/published.py profiles/semi2k.parquet
"""

import sys
from pathlib import Path

from mpcprof.network import NETWORKS
from mpcvit.paper.costs import read_fitted
from mpcvit.paper.published import compare

fitted = read_fitted(Path(sys.argv[1]))
print(f"{fitted.deployment}, {NETWORKS['wan']}, heads one by one, predicted")
print(f"{'where':22} {'what':58} {'published':>13} {'ours':>12} {'ratio':>6}")
for row in compare(fitted.model, NETWORKS["wan"]):
    print(row)
