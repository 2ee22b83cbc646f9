"""`mpcprof verify` where calls refill stocks: chance is no error, a wrong price is."""

import json
from types import SimpleNamespace

import pytest

from mpcprof.costmodel.ferret import TRANSFER_ROUND
from mpcprof.dims import Dims
from mpcprof.network import NETWORKS
from mpcprof.nn.catalogue import trace_block
from mpcprof.verify import run
from mpcprof.verify.draw import Drawn
from mpcprof.verify.run import VerifyConfig
from tests.committed import committed_model, committed_profile
from tests.factories import make_profile, make_record

WAN = NETWORKS["wan"]
MODEL, PROFILE = committed_model("cheetah"), committed_profile("cheetah")
PRICED_S = MODEL.refills.costs(1.0).latency_s(WAN)


def case(n_tokens: int) -> Drawn:
    dims = Dims(n_heads=12, n_tokens=n_tokens)
    return Drawn(name="less", dims=dims, steps=trace_block("less", dims))


OFTEN, SELDOM = case(60), case(59)  # 0.41 and 0.39 refills a call


def quiet_s(one: Drawn) -> float:
    """Seconds of a call without refills, as predicted."""
    share = MODEL.refills.expected(one.steps).rounds
    return MODEL.predict(one.steps, WAN).latency_s - share * PRICED_S


def verified(monkeypatch, made, *, round_s=PRICED_S, times=1.0, free=None):
    """Verify cases whose calls take `times` the predicted seconds and refills.

    Args:
        free: The case whose refills take no time.
    """
    records = [
        make_record(
            workload=one.name,
            dims=one.dims,
            latencies_s=tuple(
                times * quiet_s(one) + n * round_s * (one is not free) for n in rounds
            ),
            total_bytes_sent_by_repeat=tuple(
                5_000_000 + n * TRANSFER_ROUND.bytes_sent for n in rounds
            ),
            bytes_sent_by_rank=(2_500_000, 2_500_000),
            operations=(),
        )
        for one, rounds in made.items()
    ]
    profile = make_profile(*records, deployment=PROFILE.deployment)
    done = SimpleNamespace(profile=profile, left_out=())
    monkeypatch.setattr(run, "sweep", lambda *_, **__: done)
    config = VerifyConfig(
        profile=PROFILE, model=MODEL, cases=tuple(made), networks=(WAN,)
    )
    return run.verify(config, "not there.parquet", None)


@pytest.mark.parametrize("rounds", [(0, 0, 0), (1, 0, 0), (1, 1, 0, 0), (2, 0, 1)])
def test_how_many_refills_calls_make_by_chance_is_no_error(monkeypatch, rounds):
    made = {OFTEN: rounds, SELDOM: (0, 1, 0)}

    chance, _ = verified(monkeypatch, made).results

    assert chance.error == pytest.approx(0.0, abs=1e-9)
    plain = sum(chance.latencies_s) / len(rounds)
    assert chance.called_s == pytest.approx(plain)
    assert chance.rounds_made == sum(rounds) / len(rounds)


def test_a_wrong_price_of_a_refill_is_found_in_every_case_that_needs_some(monkeypatch):
    made = {OFTEN: (0, 0, 0), SELDOM: (1, 0, 0)}

    found = verified(monkeypatch, made, round_s=2.5 * PRICED_S)

    assert all(one.error < -0.2 for one in found.results)
    (check,) = found.refills
    assert check.measured_s == pytest.approx(2.5 * check.priced_s)


def test_a_wrong_price_of_all_else_is_found_whatever_calls_refill(monkeypatch):
    made = {OFTEN: (0, 0, 0), SELDOM: (1, 0, 0)}

    found = verified(monkeypatch, made, times=1.3)

    assert all(one.error < -0.1 for one in found.results)


def test_refills_are_counted_beside_those_expected_and_priced(monkeypatch):
    found = verified(monkeypatch, {OFTEN: (1, 0, 0), SELDOM: (0, 0)})

    (check,) = found.refills
    share = [MODEL.refills.expected(one.steps).rounds for one in (OFTEN, SELDOM)]
    assert (check.made, check.n_calls, check.n_seen) == (1, 5, 1)
    assert check.expected == pytest.approx(3 * share[0] + 2 * share[1])
    assert "1 in 5 calls, where 2.0 are expected; one takes" in found.to_markdown()
    assert json.loads(found.to_json())["refills"][0]["priced_s"] == check.priced_s


def test_a_price_that_no_call_shows_is_said_to_be_unchecked(monkeypatch):
    found = verified(monkeypatch, {OFTEN: (0, 0, 0)})

    assert found.refills[0].measured_s is None
    assert "their price was not checked" in found.to_markdown()
    assert found.results[0].error == pytest.approx(0.0, abs=1e-9)


def test_a_case_whose_calls_are_shorter_than_its_refills_is_left_out(monkeypatch):
    made = {OFTEN: (2, 0, 1), SELDOM: (1, 0, 0)}

    found = verified(monkeypatch, made, round_s=10.0, times=1e-3, free=OFTEN)

    assert [one.dims for one in found.results] == [SELDOM.dims]
    (reason,) = found.left_out
    assert reason.startswith("less [")
    assert "measure it with more --repeats" in reason
