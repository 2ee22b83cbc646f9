"""The relay process as plain TCP sees it: delay, rate, contents, and its end."""

import contextlib
import hashlib
import itertools
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from mpcprof.engine.emulation import relay
from mpcprof.engine.emulation.clock import Path
from mpcprof.engine.emulation.relay import RelayEmulation, free_ports
from mpcprof.errors import LinkError, PartyDiedError
from mpcprof.network import LOOPBACK, Network
from tests.brpc_frames import message
from tests.processes import is_running, still_running

pytestmark = pytest.mark.link

WAN = Network(bandwidth_bytes_per_s=44e6, rtt_s=0.040)
ONE_WAY_S = WAN.one_way_s
LATE_S = 0.002  # of a message, at most; it is never early
RATE_TOLERANCE = 0.05
_CHUNK_BYTES = 1 << 20

CONTROLLER = """
import sys, time
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.network import Network

emulation = RelayEmulation()
emulation.start(2)
emulation.set_network(Network(bandwidth_bytes_per_s=44e6, rtt_s=0.040))
print(emulation.watched()[0].pid, emulation.peer_address(0, 1), flush=True)
time.sleep(60)
"""


class Link:
    """A connection of `sender` to `receiver` through the relay, both ends held here."""

    def __init__(
        self, emulation: RelayEmulation, sender: int, receiver: int, link: int = 0
    ) -> None:
        host, port = emulation.listen_address(receiver, link).split(":")
        with socket.create_server((host, int(port))) as server:
            host, port = emulation.peer_address(sender, receiver, link).split(":")
            self.sender = socket.create_connection((host, int(port)), timeout=60)
            self.sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.receiver, _ = server.accept()
            self.receiver.settimeout(60)
        self._number = 0

    def next_message(self, n_bytes: int) -> bytes:
        """The frames of the next message, with a value that no two bytes shift onto."""
        self._number += 1
        value = (bytes(range(251)) * (n_bytes // 251 + 1))[:n_bytes]
        return b"".join(message(self._number, value))

    def close(self) -> None:
        self.sender.close()
        self.receiver.close()


@contextlib.contextmanager
def running(n_parties: int = 2, base_port: int = 0) -> Iterator[RelayEmulation]:
    with contextlib.closing(RelayEmulation(base_port)) as emulation:
        emulation.start(n_parties)
        emulation.set_network(LOOPBACK)
        yield emulation


@contextlib.contextmanager
def connected(
    emulation: RelayEmulation, *pairs: tuple[int, int]
) -> Iterator[list[Link]]:
    with contextlib.ExitStack() as stack:
        links = [
            stack.enter_context(contextlib.closing(Link(emulation, *pair)))
            for pair in pairs
        ]
        yield links


def receive(end: socket.socket, n_bytes: int) -> bytes:
    content = bytearray()
    while len(content) < n_bytes:
        part = end.recv(min(n_bytes - len(content), _CHUNK_BYTES))
        assert part, f"the connection ended after {len(content)} of {n_bytes} bytes"
        content += part
    return bytes(content)


def one_way_s(link: Link) -> float:
    """Seconds of a small message."""
    content = link.next_message(32)
    begin_s = time.monotonic()
    link.sender.sendall(content)
    receive(link.receiver, len(content))
    return time.monotonic() - begin_s


def check_delay(trip_s: Callable[[], float], delay_s: float, late_s: float) -> None:
    """Check that no trip is early, and the median not late; a machine may be busy."""
    for _ in range(3):
        seen_s = [trip_s() for _ in range(15)]
        assert min(seen_s) >= delay_s
        if statistics.median(seen_s) <= delay_s + late_s:
            return
    pytest.fail(f"{statistics.median(seen_s)} s instead of {delay_s} s, in three tries")


def in_background(*acts) -> list[threading.Thread]:
    threads = [threading.Thread(target=act, daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    return threads


def is_free_soon(port: int, timeout_s: float = 30.0) -> bool:
    """Whether a port is free at last; the threads of a killed process take a moment."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        with contextlib.suppress(LinkError):
            return free_ports(1, port) == [port]
        time.sleep(0.02)
    return False


def digest_through(link: Link, content: bytes) -> str:
    (sending,) = in_background(lambda: link.sender.sendall(content))
    received = receive(link.receiver, len(content))
    sending.join()
    return hashlib.sha256(received).hexdigest()


@pytest.mark.parametrize("network", [LOOPBACK, WAN], ids=str)
def test_bytes_come_out_as_they_went_in(network):
    with running() as emulation, connected(emulation, (0, 1)) as [link]:
        emulation.set_network(network)
        content = b"".join(link.next_message(n) for n in (0, 1_000, 20_000_000, 3))

        found = digest_through(link, content)

        assert found == hashlib.sha256(content).hexdigest()
        assert emulation.counters().carried_bytes == len(content)


def test_bytes_come_out_as_they_went_in_when_the_network_changes_between():
    with running() as emulation, connected(emulation, (0, 1)) as [link]:
        for network in (LOOPBACK, WAN, LOOPBACK, WAN):
            emulation.set_network(network)
            content = link.next_message(500_000)

            found = digest_through(link, content)

            assert found == hashlib.sha256(content).hexdigest()


def test_a_message_arrives_after_the_delay_and_hardly_later():
    with running() as emulation, connected(emulation, (0, 1), (1, 0)) as links:
        emulation.set_network(WAN)

        for link in links:
            check_delay(partial(one_way_s, link), ONE_WAY_S, LATE_S)


def test_what_comes_back_on_a_connection_is_delayed_as_well():
    with running() as emulation, connected(emulation, (0, 1)) as [link]:
        emulation.set_network(WAN)
        content = link.next_message(32)

        def round_trip_s() -> float:
            begin_s = time.monotonic()
            link.sender.sendall(content)
            receive(link.receiver, len(content))
            link.receiver.sendall(b"taken")
            receive(link.sender, 5)
            return time.monotonic() - begin_s

        check_delay(round_trip_s, WAN.rtt_s, 2 * LATE_S)


def slowest_rate_bytes_per_s(links: list[Link], n_bytes: int) -> float:
    """Of links that are all busy at once, from the first byte sent on."""
    contents = [link.next_message(n_bytes) for link in links]
    begin_s = time.monotonic()

    def take(link: Link, content: bytes) -> float:
        left, buffer = len(content), bytearray(_CHUNK_BYTES)  # keeping it takes time
        while left:
            left -= link.receiver.recv_into(buffer)
        return len(content) / (time.monotonic() - begin_s - ONE_WAY_S)

    with ThreadPoolExecutor() as pool:
        for link, content in zip(links, contents, strict=True):
            pool.submit(link.sender.sendall, content)
        return min(pool.map(take, links, contents))


@pytest.mark.parametrize(
    ("pairs", "share"),
    [([(0, 1), (1, 0)], 1.0), ([(0, 1), (0, 1)], 0.5)],
    ids=["both directions have it", "connections of one direction share it"],
)
def test_the_rate_is_that_of_a_direction(pairs, share):
    with running() as emulation, connected(emulation, *pairs) as links:
        emulation.set_network(WAN)
        n_bytes = int(44_000_000 * share)  # a second of it

        # other programs may take the processor: it is never too fast, once as fast
        rates = [slowest_rate_bytes_per_s(links, n_bytes) for _ in range(3)]

        wanted = share * WAN.bandwidth_bytes_per_s
        assert max(rates) == pytest.approx(wanted, rel=RATE_TOLERANCE)


def test_a_direction_that_is_stuck_holds_up_no_other():
    with running(3) as emulation, connected(emulation, (0, 1), (1, 0), (0, 2)) as links:
        emulation.set_network(WAN)
        stuck, *others = links
        content = stuck.next_message(40_000_000)  # and nobody takes it
        (sending,) = in_background(lambda: stuck.sender.sendall(content))
        time.sleep(0.2)

        for link in others:
            check_delay(partial(one_way_s, link), ONE_WAY_S, LATE_S)
        receive(stuck.receiver, len(content))
        sending.join()


def test_the_end_of_a_connection_comes_after_its_last_bytes():
    with running() as emulation, connected(emulation, (0, 1)) as [link]:
        emulation.set_network(WAN)
        content = link.next_message(100_000)

        link.sender.sendall(content)
        link.sender.shutdown(socket.SHUT_WR)

        assert receive(link.receiver, len(content)) == content
        assert link.receiver.recv(1) == b""


def test_the_critical_path_is_counted_from_the_reset_on():
    with running() as emulation, connected(emulation, (0, 1), (1, 0)) as links:
        emulation.set_network(WAN)
        one_way_s(links[0])
        emulation.reset_counters()

        total_bytes = 0
        for link in links * 2:
            content = link.next_message(1000)
            total_bytes += len(content)
            link.sender.sendall(content)
            receive(link.receiver, len(content))

        counters = emulation.counters()
        assert counters.lower == counters.upper == Path(4, total_bytes)
        assert counters.carried_bytes == total_bytes


def test_a_stream_that_cannot_be_counted_ends_the_relay_with_a_reason():
    with running() as emulation, connected(emulation, (0, 1)) as [link]:
        emulation.set_network(WAN)

        link.sender.sendall(b"GET / HTTP/1.1\r\n\r\n")

        assert still_running([emulation.watched()[0].pid]) == []


def test_a_party_port_in_use_is_refused_by_number():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with (
            pytest.raises(LinkError, match=f"port {port} is in use.*--base-port"),
            running(base_port=port),
        ):
            pass


def test_a_relay_port_in_use_is_refused_by_number():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with (
            pytest.raises(LinkError, match=f"listen on port {port}: .*--base-port"),
            running(base_port=port - 2),  # after those of two parties
        ):
            pass


def test_ports_follow_each_other_from_the_base_port_on():
    base_port = min(free_ports(4))

    with running(base_port=base_port) as emulation:
        assert emulation.listen_address(0) == f"127.0.0.1:{base_port}"
        assert emulation.listen_address(1) == f"127.0.0.1:{base_port + 1}"
        assert emulation.peer_address(0, 1) == f"127.0.0.1:{base_port + 2}"
        assert emulation.peer_address(1, 0) == f"127.0.0.1:{base_port + 3}"


def test_a_second_link_shares_the_line_of_the_first_and_is_not_counted():
    with contextlib.closing(RelayEmulation()) as emulation:
        emulation.start(2, n_links=2)
        emulation.set_network(Network(bandwidth_bytes_per_s=10e6, rtt_s=0.02))
        first = Link(emulation, 0, 1)
        second = Link(emulation, 0, 1, 1)
        content, other = first.next_message(1_000_000), b"no frame of SPU's" * 60_000

        with contextlib.closing(first), contextlib.closing(second):
            begin_s = time.monotonic()
            second.sender.sendall(other)
            first.sender.sendall(content)
            receive(first.receiver, len(content))
            receive(second.receiver, len(other))
            waited_s = time.monotonic() - begin_s
            counters = emulation.counters()

    assert waited_s > (len(content) + len(other)) / 10e6
    assert counters.carried_bytes == len(content)


class RelayInThisProcess:
    """Answers as the child does."""

    def ask(self, header):
        if header["command"] == "start":
            self._relay = relay.Relay(header["n_parties"])
            return {}
        return relay._answer(self._relay, header)

    def close(self):
        pass


def test_the_relay_takes_no_port_that_a_party_was_promised(monkeypatch):
    create_server = socket.create_server
    party_ports = free_ports(3)
    offers = iter(party_ports)  # the worst that the kernel may do

    def offer_promised_ports(address):
        return create_server((address[0], next(offers, 0)))

    monkeypatch.setattr(relay, "free_ports", lambda *_: party_ports)
    monkeypatch.setattr(relay, "python_child", lambda *_: RelayInThisProcess())
    monkeypatch.setattr(socket, "create_server", offer_promised_ports)
    emulation = RelayEmulation()

    emulation.start(3)

    taken = {
        int(emulation.peer_address(a, b).split(":")[1])
        for a, b in itertools.permutations(range(3), 2)
    }
    assert len(taken) == 6
    assert not taken & {*party_ports}
    assert all(free_ports(1, port) == [port] for port in party_ports)


def test_a_closed_relay_is_gone_and_may_be_closed_again():
    with running() as emulation:
        pid = emulation.watched()[0].pid

        emulation.close()

        assert not is_running(pid)
        assert emulation.watched() == ()


def test_a_killed_relay_is_reported():
    with running() as emulation:
        os.kill(emulation.watched()[0].pid, signal.SIGKILL)

        with pytest.raises(PartyDiedError, match="relay was killed by signal 9"):
            emulation.set_network(WAN)


def test_the_relay_ends_with_a_killed_controller_and_frees_its_port():
    argv = [sys.executable, "-c", CONTROLLER]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as controller:
        pid, address = controller.stdout.readline().split()
        port = int(address.split(":")[1])
        assert is_running(int(pid))

        controller.kill()
        controller.wait()

        assert still_running([int(pid)]) == []
        assert is_free_soon(port)


def test_a_port_that_a_server_has_just_left_is_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            served, _ = server.accept()
            served.close()  # first, so that this end waits for late packets
            assert client.recv(1) == b""

    assert free_ports(1, port) == [port]
