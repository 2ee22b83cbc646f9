"""What an inference costs in money, from seconds, bytes and two prices."""

import json

import pytest
from click.testing import CliRunner

from mpcprof.cli import main
from mpcprof.errors import UsageError
from mpcprof.money import Money, Tariff, make_tariff, parse_money
from tests import PROFILES

PROFILE = str(PROFILES / "semi2k.parquet")


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("3.06", 3.06, "USD"),
        ("$3.06", 3.06, "USD"),
        ("3.06 EUR", 3.06, "EUR"),
        ("€0", 0.0, "EUR"),
        ("CHF .5", 0.5, "CHF"),
    ],
)
def test_a_price_is_an_amount_with_a_currency(text, amount, currency):
    assert parse_money(text) == Money(amount=amount, currency=currency)


@pytest.mark.parametrize("text", ["", "cheap", "-1", "$3EUR", "1,5", "nan"])
def test_what_is_no_price_is_refused(text):
    with pytest.raises(UsageError, match=r"expected 3\.06"):
        parse_money(text)


def test_two_currencies_are_refused():
    with pytest.raises(UsageError, match="3 EUR and --price-per-GB 1 USD: expected"):
        make_tariff(parse_money("3EUR"), parse_money("1"))


def test_no_price_is_no_tariff():
    assert make_tariff(None, None) is None


def test_every_party_is_paid_by_the_hour_and_for_what_it_sends():
    bill = Tariff(per_hour=3.0, per_gb=0.5).bill(
        n_parties=3, latency_s=1200, total_bytes_sent=4e9, n_inputs=5
    )

    assert bill.machines == pytest.approx(3 * 3.0 / 3 / 5)
    assert bill.traffic == pytest.approx(4 * 0.5 / 5)
    assert bill.total.amount == pytest.approx(1.0)


def test_predict_prices_each_network_and_only_on_request():
    arguments = ["predict", PROFILE, "--model", "digits", "--batch", "4", "--json"]
    arguments += ["--network", "wan", "--network", "lan"]
    prices = ["--price-per-hour", "3.6", "--price-per-GB", "0.1"]

    plain = json.loads(CliRunner().invoke(main, arguments).stdout)
    priced = json.loads(CliRunner().invoke(main, [*arguments, *prices]).stdout)

    assert "cost" not in plain
    assert "cost" not in plain["networks"][0]
    for one in priced["networks"]:
        machines, traffic = one["latency_s"] / 500, one["total_bytes_sent"] / 1e10
        assert one["cost"]["amount"] == pytest.approx((machines + traffic) / 4)
    assert priced["cost"] == priced["networks"][0]["cost"]
    assert priced | {"cost": 0, "networks": 0} == plain | {"cost": 0, "networks": 0}
