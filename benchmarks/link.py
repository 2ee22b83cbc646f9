"""The emulated wan as two and as three parties see it, several times.

    python benchmarks/link.py [REPEATS]

Starts real parties behind the relay and prints, for each repeat, the round trip and the
goodput of the slowest direction while all directions are busy; half a minute.
"""

import click

from mpcprof.cli import ShieldedCommand
from mpcprof.deployment import make_deployment
from mpcprof.engine.calibration import check_link, trim_link
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.session import Session
from mpcprof.network import NETWORKS


@click.command(cls=ShieldedCommand)
@click.argument("repeats", type=click.IntRange(min=1), default=5)
def main(repeats: int) -> None:
    """Measure the wan of semi2k and of aby3 REPEATS times."""
    wan = NETWORKS["wan"]
    for protocol in ("semi2k", "aby3"):
        with Session(make_deployment(protocol), RelayEmulation()) as session:
            trim_link(session, wan)
            for _ in range(repeats):
                seen = check_link(session, wan)
                click.echo(
                    f"{session.n_parties} parties: round trip {seen.rtt_s * 1e3:.2f} "
                    f"ms, slowest direction {seen.goodput_bytes_per_s / 1e6:.2f} MB/s, "
                    "all busy"
                )


if __name__ == "__main__":
    main()
