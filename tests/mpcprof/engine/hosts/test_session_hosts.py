"""Real SPU parties that were started apart, over TLS, with somebody in the middle."""

import contextlib
import json
import socket
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from mpcprof.deployment import make_deployment
from mpcprof.engine.emulation.relay import free_ports
from mpcprof.engine.hosts.certificates import make_certificates
from mpcprof.engine.hosts.party_file import read_party_file
from mpcprof.engine.hosts.session import HostedSession
from mpcprof.errors import PartyDiedError
from mpcprof.isolation import module_argv
from mpcprof.network import parse_network
from tests.hosts import HOUR_OFF, hosts

pytestmark = pytest.mark.spu
SECRET = np.linspace(-1, 1, 100, dtype=np.float32)


class Middle:
    """A relay without a certificate that keeps, and on request changes, all bytes."""

    def __init__(self, target_port):
        self._target = ("127.0.0.1", target_port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._ends = [self._server]
        self.port = self._server.getsockname()[1]
        self.seen = bytearray()
        self.changes = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                inner, _ = self._server.accept()
                self._ends.append(inner)
                try:
                    outer = socket.create_connection(self._target)
                except OSError:
                    inner.close()
                    continue
                self._ends.append(outer)
                for pair in ((inner, outer), (outer, inner)):
                    work = threading.Thread(target=self._pass_on, args=pair)
                    work.daemon = True
                    work.start()

    def _pass_on(self, source, target):
        with contextlib.suppress(OSError):
            while block := bytearray(source.recv(1 << 16)):
                self.seen += block
                if self.changes:
                    block[-1] ^= 1
                target.sendall(block)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def close(self):
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def write_file(folder, rank, ports):
    path = folder / f"file{rank}.toml"
    addresses = [f"127.0.0.1:{port}" for port in ports]
    path.write_text(
        f"rank = {rank}\naddresses = {addresses}\n[tls]\nauthority = 'authority.pem'\n"
        f"certificate = 'party{rank}.pem'\nkey = 'party{rank}.key'\n"
    )
    return path


def double(x):
    return x + x


def test_nobody_between_parties_reads_or_changes_anything(tmp_path):
    make_certificates(tmp_path, ["party0", "party1"])
    ports = free_ports(2)
    middle = Middle(ports[1])
    own = read_party_file(write_file(tmp_path, 0, [ports[0], middle.port]))
    words = ("party", str(write_file(tmp_path, 1, ports)), "--once")
    follower = subprocess.Popen(
        [*module_argv("mpcprof"), *words], stderr=subprocess.PIPE, text=True
    )

    with HostedSession(make_deployment("semi2k"), own) as session:
        session.load("double", session.lower("double", double, [SECRET]), [SECRET])
        call = session.run("double")
        result = session.fetch("double")
        middle.changes = True
        with pytest.raises(PartyDiedError) as changed:
            session.run("double", limit_s=60.0)

    _, said = follower.communicate(timeout=240)
    middle.close()
    assert str(changed.value) == (
        f"what comes from party 1 at 127.0.0.1:{middle.port} is changed on the way: "
        "TLS refuses it, nothing of it was used; see what stands between the hosts"
    )
    assert np.allclose(result, 2 * SECRET, atol=1e-4)
    assert call.runs[1].bytes_sent == 0  # an addition needs no message
    assert len(middle.seen) > 1000
    for readable in (b"command", b"double", SECRET.tobytes()[:8]):
        assert readable not in middle.seen
    assert said.splitlines()[-1] == (
        f"mpcprof: party 0 at 127.0.0.1:{ports[0]} is gone: it was stopped or has "
        "failed; what it printed there says why"
    )
    assert follower.returncode == 1


def test_hosts_whose_clocks_are_an_hour_apart_measure_the_same_call(tmp_path):
    make_certificates(tmp_path / "certificates", ["party0", "party1"])
    (tmp_path / "mine.py").write_text("def square(x):\n    return x * x\n")
    words = ("profile", "mine.py:square", "--input", "8", "--repeats", "1", "--json")

    with hosts(2, parse_network("unlimited,20ms"), tmp_path) as made:
        files = [made.write_file(r, tmp_path / "certificates") for r in (0, 1)]
        prefix = HOUR_OFF if Path("/proc/self/ns/time").exists() else ()
        other = made.start(1, *words, "--parties", str(files[1]), prefix=prefix)
        lead = made.start(0, *words, "--parties", str(files[0]))
        document, said = lead.communicate(timeout=240)
        followed, _ = other.communicate(timeout=60)

    assert lead.returncode == 0, said
    assert json.loads(followed)["rank"] == 1
    found = json.loads(document)
    assert (found["emulation"], found["hops"]) == ("hosts", 2)
    assert 0.02 < found["rtt_s"] < 1  # of a machine that may be busy
    assert 0.02 < found["latency_s"] < 1
