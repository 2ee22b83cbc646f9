"""A profile with the compute of its records made anew from their raw repeats."""

from dataclasses import replace

from mpcprof.pricing import Calibration
from mpcprof.profile.record import Profile, Record


def recalibrated(profile: Profile, calibration: Calibration, *, host: str) -> Profile:
    """The profile with `calibration` in place of that of the records from `host`.

    Nothing measured changes: `compute_s` follows from the loopback repeats, hops and
    bytes that every record keeps. Priced records are left alone, since their latency
    was made with the constants they name.
    """
    return Profile(
        deployment=profile.deployment,
        records=tuple(
            _recalibrated(profile, record, calibration)
            if (record.host, record.mode) == (host, "emulated")
            else record
            for record in profile
        ),
        extra=profile.extra,
    )


def _recalibrated(profile: Profile, record: Record, calibration: Calibration) -> Record:
    return replace(
        record,
        compute_s=calibration.compute_s(
            profile.deployment.typical_call(record.loopbacks_s),
            hidden_s=record.hidden_s,
            hops=record.hops,
            wire_bytes=record.wire_bytes,
        ),
        loopback_s_per_hop=calibration.loopback_s_per_hop,
        loopback_s_per_byte=calibration.loopback_s_per_byte,
    )
