"""Calibrate this host several times and compute `compute_s` of a profile anew.

    python benchmarks/recalibrate.py PROFILE [REPEATS]

Starts real parties each time, prints the constants that it finds, takes their medians,
and rewrites the profile; half a minute each time.
"""

from dataclasses import replace
from pathlib import Path
from statistics import median

import click

from mpcprof.cli import ShieldedCommand
from mpcprof.deployment import Deployment, make_deployment
from mpcprof.engine.calibration import calibrate, trim_link
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.session import Session
from mpcprof.network import NETWORKS
from mpcprof.pricing import Calibration
from mpcprof.profile.io import read_profile, write_profile
from mpcprof.profile.record import Profile, Record
from mpcprof.provenance import host_description


@click.command(cls=ShieldedCommand)
@click.argument("path", metavar="PROFILE", type=click.Path(path_type=Path))
@click.argument("repeats", type=click.IntRange(min=1), default=3)
def main(path: Path, repeats: int) -> None:
    """Calibrate REPEATS times and rewrite PROFILE."""
    found = [calibrate_once() for _ in range(repeats)]
    for one in found:
        click.echo(one)
    chosen = Calibration(
        loopback_s_per_hop=median(one.loopback_s_per_hop for one in found),
        loopback_s_per_byte=median(one.loopback_s_per_byte for one in found),
    )
    profile = read_profile(path)
    write_profile(path, recalibrated(profile, chosen, host=host_description()))
    click.echo(f"{path}: {len(profile)} records with {chosen}")


def calibrate_once() -> Calibration:
    """Return the constants of this host's loopback link, measured by new parties."""
    semi2k, network = make_deployment("semi2k"), NETWORKS["wan"]
    with Session(semi2k, RelayEmulation()) as session:
        trim_link(session, network)
        return calibrate(session, network)


def recalibrated(profile: Profile, calibration: Calibration, *, host: str) -> Profile:
    """Return the profile with another calibration of the records from `host`.

    Nothing measured changes: `compute_s` follows from the loopback repeats, hops and
    bytes that every record keeps. Priced records stay, since their latency was made
    with the constants they name.
    """
    records = tuple(
        recalibrated_record(record, profile.deployment, calibration)
        if (record.host, record.mode) == (host, "emulated")
        else record
        for record in profile
    )
    return replace(profile, records=records)


def recalibrated_record(
    record: Record, deployment: Deployment, calibration: Calibration
) -> Record:
    """Return the record with `compute_s` of another calibration."""
    return replace(
        record,
        compute_s=calibration.exposed_s(
            deployment.typical_call(record.loopbacks_s),
            hidden_s=record.hidden_s,
            hops=record.hops,
            wire_bytes=record.wire_bytes,
        ),
        loopback_s_per_hop=calibration.loopback_s_per_hop,
        loopback_s_per_byte=calibration.loopback_s_per_byte,
    )


if __name__ == "__main__":
    main()
