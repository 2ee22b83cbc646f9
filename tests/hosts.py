"""Hosts for tests: network namespaces joined by the TUN back-end, a command in each."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from mpcprof.engine.emulation.backends import probe_backends
from mpcprof.engine.emulation.namespaces import host
from mpcprof.engine.emulation.tun import TunEmulation
from mpcprof.network import Network
from tests import ROOT

PORT = 9100
HOUR_OFF = ("unshare", "-T", "--monotonic", "3600", "--boottime", "3600", "--fork")


class Hosts:
    """Namespaces of a TUN emulation, with one party file in the folder for each."""

    def __init__(self, emulation: TunEmulation, folder: Path, n_parties: int) -> None:
        self._emulation = emulation
        self._folder = folder
        self._n_parties = n_parties
        self.started: list[subprocess.Popen[str]] = []

    def write_file(self, rank: int, tls: Path | None = None, **more: object) -> Path:
        addresses = [f"{host(r)}:{PORT}" for r in range(self._n_parties)]
        values = {"rank": rank, "addresses": addresses, **more}
        lines = [f"{name} = {value!r}" for name, value in values.items()]
        if tls:
            lines += ["[tls]", f"certificate = '{tls}/party{rank}.pem'"]
            lines += [f"key = '{tls}/party{rank}.key'"]
            lines += [f"authority = '{tls}/authority.pem'"]
        path = self._folder / f"party{rank}.toml"
        path.write_text("\n".join(lines))
        return path

    def start(
        self,
        rank: int,
        *words: str,
        program: str = "mpcprof",
        prefix: Sequence[str] = (),
    ) -> subprocess.Popen[str]:
        command = (*self._emulation.command_prefix(rank), *prefix, sys.executable)
        process = subprocess.Popen(
            [*command, "-m", program, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.started.append(process)
        return process


@contextmanager
def hosts(n_parties: int, network: Network, folder: Path) -> Iterator[Hosts]:
    reasons = {one.name: one.reason for one in probe_backends()}
    if reasons["tun"]:
        pytest.skip(f"no network namespaces here: {reasons['tun']}")
    emulation = TunEmulation()
    emulation.start(n_parties)
    made = Hosts(emulation, folder, n_parties)
    try:
        emulation.set_network(network)
        yield made
    finally:
        for process in made.started:
            process.kill()
            process.communicate()
        emulation.close()
