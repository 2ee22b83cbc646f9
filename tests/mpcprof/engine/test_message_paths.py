"""The clock inside of parties: what waits for what, with no party and no delay."""

import pytest

from mpcprof.engine.party.message_paths import MessagePaths


def parties(n, delay_s=0.020, seconds_per_byte=1 / 44e6):
    paths = [MessagePaths() for _ in range(n)]
    for one in paths:
        one.reset(delay_s, seconds_per_byte)
    return paths


def test_a_simultaneous_exchange_is_one_hop_whatever_came_first():
    alice, bob = parties(2)

    for _ in range(3):
        to_bob, to_alice = alice.send(1, 100), bob.send(0, 100)
        alice.take(to_alice)  # long before bob takes his
        bob.take(to_bob)

    assert alice.reached == bob.reached == [(3, 300), (3, 300)]


def test_an_answer_waits_and_a_message_that_nobody_takes_does_not_count():
    alice, bob = parties(2)

    bob.take(alice.send(1, 10))
    alice.send(1, 10_000_000)  # never taken
    alice.take(bob.send(0, 20))

    assert alice.reached == [(2, 30), (2, 30)]
    assert bob.reached == [(1, 10), (1, 10)]
    assert alice.sent == {1: [2, 10_000_010]}


def test_messages_of_one_direction_follow_each_other_and_share_the_hop():
    alice, bob = parties(2)

    messages = [alice.send(1, 100) for _ in range(3)]
    for message in messages:
        bob.take(message)

    # by hops alone bytes weigh nothing: the first one is as deep as the last
    assert bob.reached == [(1, 100), (1, 300)]


@pytest.mark.parametrize(
    ("n_bytes", "heaviest"), [(1_000, (2, 20)), (10_000_000, (1, 10_000_000))]
)
def test_the_slowest_chain_is_that_of_the_network_and_the_deepest_of_none(
    n_bytes, heaviest
):
    alice, bob, carol = parties(3)

    bob.take(alice.send(1, 10))
    carol.take(bob.send(2, 10))
    carol.take(alice.send(2, n_bytes))

    assert carol.reached[0] == (2, 20)
    assert carol.reached[1] == heaviest


def test_a_reset_forgets_everything():
    (alice,) = parties(1)
    alice.send(1, 5)
    alice.take([(7, 7), (7, 7)])

    alice.reset(0.0, 0.0)

    assert alice.reached == [(0, 0), (0, 0)]
    assert alice.sent == {}
