"""The offline phase: counts that SPU's own bytes prove, and published formulas."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from mpcprof.cli import main
from mpcprof.cli.predict import OFFLINE_PROTOCOLS
from mpcprof.costmodel.ferret import TRANSFER_ROUND
from mpcprof.costmodel.offline import (
    PROTOCOLS,
    Correlation,
    count_randomness,
    price_offline,
)
from mpcprof.errors import UsageError
from mpcprof.network import NETWORKS, Network
from mpcprof.nn.architecture import uniform_architecture
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.plan import rewrites_only
from mpcprof.nn.preset import MODELS
from mpcprof.predict import predict_model, predict_offline
from tests.committed import committed_model, committed_profile

TRIPLE = Correlation(kind="ring triple", width_bits=64, count=1)


def opened_bytes(one):
    """Bytes that a party sends where the correlation is used up."""
    if one.kind == "matrix triple":
        p, q, r = one.size
        return one.count * (p * q + q * r) * one.width_bits / 8
    bits = {"random bit": 1, "AND triple": 2, "ring triple": 2 * one.width_bits}
    return one.count * bits.get(one.kind, one.width_bits) / 8


def transfers(one):
    (row,) = price_offline([one], "ferret").rows
    return row


@pytest.mark.parametrize("attention", ["softmax", "relu_softmax", "scale", "2quad"])
@pytest.mark.parametrize("has_plan", [False, True])
def test_what_is_counted_explains_every_byte_of_the_online_phase(attention, has_plan):
    architecture = uniform_architecture(MODELS["cifar"], attention=attention)
    plan = rewrites_only(architecture) if has_plan else None
    steps = trace_model(architecture, 2, plan)

    counted = count_randomness(committed_profile(), steps)

    predicted = committed_model().predict(steps, NETWORKS["wan"])
    assert sum(map(opened_bytes, counted)) == predicted.bytes_sent


def test_half_trees_halve_what_ferret_s_paper_prints():
    bits = 8 * TRANSFER_ROUND.bytes_sent / TRANSFER_ROUND.n_usable

    assert bits == pytest.approx(0.44 / 2, rel=0.05)


def test_a_triple_is_two_products_of_gilboa():
    row = transfers(TRIPLE)

    corrections = 2 * sum(64 - i for i in range(64)) / 8
    assert row.n_transfers == 2 * 64
    assert row.total_bytes == pytest.approx(corrections + 2 * 64 * 0.2126 / 8, rel=1e-3)


def test_a_matrix_triple_of_one_entry_is_a_ring_triple():
    matrix = Correlation(kind="matrix triple", size=(1, 1, 1), width_bits=64, count=1)

    assert transfers(matrix).total_bytes == transfers(TRIPLE).total_bytes


def test_the_smaller_side_chooses():
    wide = Correlation(kind="matrix triple", size=(2, 3, 50), width_bits=64, count=1)
    tall = Correlation(kind="matrix triple", size=(50, 3, 2), width_bits=64, count=1)

    assert transfers(wide).n_transfers == 2 * 2 * 3 * 64
    assert transfers(wide).total_bytes == transfers(tall).total_bytes


def test_two_random_transfers_make_an_and_triple():
    row = transfers(Correlation(kind="AND triple", width_bits=1, count=8e6))

    assert row.n_transfers == 16e6
    assert row.total_bytes * 8 / 8e6 == pytest.approx(2 * 0.2126, rel=1e-3)


def test_more_transfers_than_a_round_makes_wait_for_another_round():
    one_round = Correlation(
        kind="AND triple", width_bits=1, count=TRANSFER_ROUND.n_usable
    )  # two transfers each, half in each direction
    two_rounds = Correlation(
        kind="AND triple", width_bits=1, count=TRANSFER_ROUND.n_usable + 1
    )

    assert price_offline([one_round], "ferret").hops == 1 + 1
    assert price_offline([two_rounds], "ferret").hops == 2 + 1


def test_nothing_costs_nothing():
    assert price_offline([]).latency_s(NETWORKS["wan"]) == 0


def test_a_dealer_is_cheapest_and_ciphertexts_beat_transfers():
    steps = trace_model(uniform_architecture(MODELS["cifar"], attention="softmax"), 1)
    counted = count_randomness(committed_profile(), steps)
    cost = {name: price_offline(counted, name).total_bytes for name in PROTOCOLS}

    assert cost["dealer"] < cost["bfv"] < cost["ferret"] < cost["iknp"]


def test_a_protocol_without_an_offline_phase_is_refused():
    with pytest.raises(UsageError, match="aby3 has no offline phase to price"):
        count_randomness(committed_profile("aby3"), [])


def report(protocol):
    architecture = uniform_architecture(MODELS["digits"], attention="softmax")
    without = predict_model(committed_model(), architecture, [NETWORKS["wan"]])
    offline = predict_offline(committed_profile(), architecture, protocol=protocol)
    return without, replace(without, offline=offline)


def test_offline_seconds_are_added_by_request_only():
    without, with_offline = report("bfv")

    document = json.loads(with_offline.to_json())

    offline = document.pop("offline")
    assert document == json.loads(without.to_json())
    (network,) = offline["networks"]
    assert network["with_offline_s"] == document["latency_s"] + network["offline_s"]
    assert network["offline_s"] == pytest.approx(
        offline["hops"] * 0.02 + offline["total_bytes"] / 2 / 44e6
    )


def test_people_see_that_it_is_priced():
    lines = "\n".join(report("dealer")[1].lines())

    assert "offline, priced and not measured, network alone: by dealer" in lines
    assert "matrix triple" in lines


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--offline-protocol", "bfv"), "add --with-offline"),
        (("--with-offline", "--offline-protocol", "ot"), "'ot' is not one of"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, said):
    result = CliRunner().invoke(main, ["predict", "profile.parquet", *arguments])

    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_every_protocol_can_be_asked_for():
    assert set(OFFLINE_PROTOCOLS) == set(PROTOCOLS)


def test_a_faster_network_makes_triples_sooner():
    costs = price_offline([TRIPLE])
    slow = Network(bandwidth_bytes_per_s=1e6, rtt_s=0.04)

    assert costs.latency_s(NETWORKS["lan"]) < costs.latency_s(slow)
