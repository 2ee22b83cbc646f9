"""Messages over TCP between parties that are threads here."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from mpcprof.engine.emulation.relay import free_ports
from mpcprof.engine.party.tcp_link import TcpLink


def run_parties(n, act):
    addresses = [f"127.0.0.1:{port}" for port in free_ports(n)]
    with ThreadPoolExecutor(n) as pool:
        links = [pool.submit(TcpLink, rank, addresses) for rank in range(n)]
        made = [link.result(10) for link in links]
        done = [pool.submit(act, rank, link) for rank, link in enumerate(made)]
        results = [one.result(10) for one in done]
    for link in made:
        link.close()
    return results


@pytest.mark.parametrize("n", [2, 3])
def test_every_party_hears_from_every_other_one(n):
    heard = run_parties(n, lambda rank, link: link.all_gather(f"from {rank}"))

    for rank, messages in enumerate(heard):
        others = [f"from {peer}".encode() for peer in range(n) if peer != rank]
        assert sorted(messages) == sorted(others)


def test_long_and_empty_messages_come_whole_and_in_order():
    messages = [os.urandom(3_000_000), b"", b"x"]

    def act(rank, link):
        if rank:
            return [link.recv(0) for _ in messages]
        for message in messages:
            link.send_async(1, message)
        return messages

    sent, received = run_parties(2, act)

    assert received == sent


def test_a_peer_that_is_gone_is_named():
    def act(rank, link):
        if rank:
            link.close()
            return ""
        with pytest.raises(ConnectionError) as caught:
            link.recv(1)
        return str(caught.value)

    assert run_parties(2, act)[0] == "party 1 closed the connection"
