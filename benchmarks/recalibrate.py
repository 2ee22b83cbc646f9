"""Calibrate this host several times and make the compute of a profile's records anew.

python benchmarks/recalibrate.py PROFILE [REPEATS]: the median constants are taken.
"""

import sys
from statistics import median

from mpcprof.deployment import make_deployment
from mpcprof.engine.calibration import calibrate, trim_link
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.session import Session
from mpcprof.network import NETWORKS
from mpcprof.pricing import Calibration
from mpcprof.profile.io import read_profile, write_profile
from mpcprof.provenance import host_description
from mpcprof.recalibration import recalibrated

found = []
for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 3):
    semi2k = make_deployment("semi2k")
    with Session(semi2k, RelayEmulation()) as session:
        trim_link(session, NETWORKS["wan"])
        found.append(calibrate(session, NETWORKS["wan"]))
    print(found[-1])
chosen = Calibration(
    loopback_s_per_hop=median(c.loopback_s_per_hop for c in found),
    loopback_s_per_byte=median(c.loopback_s_per_byte for c in found),
)
profile = read_profile(sys.argv[1])
write_profile(sys.argv[1], recalibrated(profile, chosen, host=host_description()))
print(f"{sys.argv[1]}: {len(profile)} records with {chosen}")
