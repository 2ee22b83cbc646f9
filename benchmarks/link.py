"""The emulated wan as two and as three parties see it, several times.

python benchmarks/link.py [REPEATS]
"""

import sys

from mpcprof.deployment import make_deployment
from mpcprof.engine.calibration import check_link, trim_link
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.session import Session
from mpcprof.network import NETWORKS

n_repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
for protocol in ("semi2k", "aby3"):
    deployment = make_deployment(protocol)
    with Session(deployment, RelayEmulation()) as session:
        trim_link(session, NETWORKS["wan"])
        for _ in range(n_repeats):
            seen = check_link(session, NETWORKS["wan"])
            print(
                f"{session.n_parties} parties: round trip {seen.rtt_s * 1e3:.2f} ms, "
                f"slowest direction {seen.goodput_bytes_per_s / 1e6:.2f} MB/s, all busy"
            )
