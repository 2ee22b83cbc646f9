"""`mpcprof party`: this host's party of a deployment over several hosts."""

from pathlib import Path

import click

from mpcprof.cli.options import FILE, example
from mpcprof.cli.progress import StepLines, spu_prints_to_stderr
from mpcprof.errors import UsageError


@click.command("party", epilog=example("mpcprof party party.toml"))
@click.argument("party_file", metavar="[PARTY.toml]", type=FILE, required=False)
@click.option(
    "--once",
    "is_once",
    is_flag=True,
    help="End with the first session; without one after the file's wait_limit, 1h.",
)
@click.option(
    "--make-certificates",
    "folder",
    type=FILE,
    metavar="DIR",
    help="Instead: make an authority, keys and certificates for a trial.",
)
@click.option(
    "--names",
    default="party0,party1,party2",
    show_default=True,
    help="With --make-certificates: names of the parties by rank.",
)
def command(
    party_file: Path | None, folder: Path | None, names: str, *, is_once: bool
) -> None:
    """Serve rank 0 with this host's party, until Ctrl-C.

    PARTY.toml says who this party is, where the others are, with which certificates,
    and what it may run: see docs/deploying.md.
    """
    if (party_file is None) == (folder is None):
        raise UsageError("expected PARTY.toml, or --make-certificates DIR")
    if folder is not None:
        from mpcprof.engine.hosts.certificates import make_certificates
        from mpcprof.files import file_in_place

        if file := file_in_place(folder):
            raise UsageError(
                f"--make-certificates {folder}: {str(file)!r} is a file; expected a "
                "folder, which is made if it is not there"
            )
        own = [name.strip() for name in names.split(",")]
        for path in make_certificates(folder, own):
            click.echo(f"{path}: goes to its party, with its .key and authority.pem")
        return
    assert party_file is not None
    from mpcprof.engine.hosts.follower import follow
    from mpcprof.engine.hosts.party_file import read_party_file

    with spu_prints_to_stderr(), StepLines() as progress:
        follow(read_party_file(party_file), progress, is_once=is_once)
