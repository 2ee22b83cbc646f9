import contextlib
import math

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mpcprof import units
from mpcprof.errors import UnitError, UsageError

QUANTITIES = st.floats(min_value=1e-15, max_value=1e18)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("40ms", 0.040),
        ("0.3ms", 0.0003),
        ("2s", 2.0),
        ("20us", 20e-6),
        ("20 µs", 20e-6),
        ("1.5e3ms", 1.5),
        (".5s", 0.5),
        ("1min", 60.0),
        ("0s", 0.0),
        ("100\N{MICRO SIGN}s", 1e-4),
        ("100\N{GREEK SMALL LETTER MU}s", 1e-4),
        ("40msec", 0.040),
        ("2 secs", 2.0),
        ("3mins", 180.0),
        ("1h", 3600.0),
    ],
)
def test_a_typed_duration_is_the_nearest_float_of_its_seconds(text, seconds):
    assert units.parse_duration_s(text) == seconds


@pytest.mark.parametrize(
    ("text", "bytes_per_s"),
    [
        ("44MBps", 44e6),
        ("44MB/s", 44e6),
        ("352Mbps", 44e6),
        ("352Mbit/s", 44e6),
        ("1GBps", 1e9),
        ("1Gbps", 125e6),
        ("1kBps", 1e3),
        ("44 MB/s", 44e6),
        ("100mbit", 12.5e6),
        ("100Mbits/sec", 12.5e6),
        ("1Gbit", 125e6),
        ("100Mb", 12.5e6),
        ("100MB", 100e6),
        ("44mbyte/s", 44e6),
        ("1MiB/s", 2.0**20),
        ("8Kibit", 1024.0),
    ],
)
def test_a_typed_bandwidth_tells_bits_from_bytes(text, bytes_per_s):
    assert units.parse_bandwidth_bytes_per_s(text) == bytes_per_s


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (units.parse_duration_s, "40", "'40' has no unit; type 40ms or 40s"),
        (
            units.parse_bandwidth_bytes_per_s,
            "44",
            "'44' has no unit; type 44MBps or 44Mbps",
        ),
        (units.parse_size_bytes, "3", "'3' has no unit; type 3kB or 3MB"),
        (units.parse_percent, "0.05", "'0.05' has no unit; type 0.05%"),
        (units.parse_bandwidth_bytes_per_s, "44mbps", "may mean 44Mbps or 44MBps (b"),
        (units.parse_bandwidth_bytes_per_s, "44MBPS", "may mean 44Mbps or 44MBps (b"),
        (units.parse_bandwidth_bytes_per_s, "100M", "may mean 100Mbps or 100MBps"),
        (units.parse_bandwidth_bytes_per_s, "1g", "may mean 1Gbps or 1GBps"),
        (units.parse_bandwidth_bytes_per_s, "2MBp", "unit 'MBp'; did you mean MBps"),
        (units.parse_duration_s, "40MS", "unknown unit 'MS'; did you mean ms?"),
        (units.parse_duration_s, "40mss", "unknown unit 'mss'; did you mean ms?"),
        (units.parse_duration_s, "5m", "'5m' may mean 5min or 5ms; type one of them"),
        (units.parse_duration_s, "40MBps", "unknown unit 'MBps'; known: ns, us"),
        (units.parse_duration_s, "-1s", "'-1s' is not a duration; expected"),
        (units.parse_duration_s, "", "'' is not a duration"),
        (units.parse_duration_s, "nan s", "is not a duration"),
        (units.parse_duration_s, "1e999s", "is too large"),
        (units.parse_duration_s, "1e9999999999s", "is too large"),
        (units.parse_size_bytes, "0.5B", "not a whole number of bytes"),
    ],
)
def test_a_quantity_that_is_not_clear_says_what_to_type(parse, text, message):
    with pytest.raises(UnitError) as caught:
        parse(text)

    assert message in str(caught.value)


@given(QUANTITIES)
def test_a_formatted_quantity_parses_back_exactly(quantity):
    assert units.parse_duration_s(units.format_duration(quantity)) == quantity
    text = units.format_bandwidth(quantity)
    assert units.parse_bandwidth_bytes_per_s(text) == quantity


@given(st.integers(min_value=0, max_value=2**53))
def test_formatted_bytes_parse_back_exactly(size_bytes):
    assert units.parse_size_bytes(units.format_bytes(size_bytes)) == size_bytes


@given(QUANTITIES)
def test_a_rounded_quantity_is_within_half_a_digit(quantity):
    shown = units.parse_duration_s(units.format_duration(quantity, digits=3))

    assert math.isclose(shown, quantity, rel_tol=0.005)


@given(QUANTITIES)
def test_a_least_quantity_is_enough_when_it_is_typed(quantity):
    typed = units.parse_duration_s(units.format_at_least(quantity))

    assert quantity <= typed <= quantity * 1.002


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (units.format_duration(0.0), "0s"),
        (units.format_duration(0.040), "40ms"),
        (units.format_duration(1.2345, digits=3), "1.23 s"),
        (units.format_duration(0.99999, digits=3), "1 s"),
        (units.format_bytes(11_780_000, digits=3), "11.8 MB"),
        (units.format_bytes(0), "0B"),
        (units.format_bandwidth(44e6), "44MBps"),
        (units.format_bandwidth(384e6, digits=3), "384 MBps"),
    ],
)
def test_the_unit_is_the_largest_that_leaves_at_least_one(text, shown):
    assert text == shown


@pytest.mark.parametrize(
    ("hops", "shown"),
    [
        (93.6475, "93.6"),
        (20.0, "20"),
        (19.96, "20"),
        (1_234_567.5, "1234567.5"),
        (-0.01, "0"),
    ],
)
def test_hops_have_one_decimal_where_it_says_something(hops, shown):
    assert units.format_hops(hops) == shown


@given(st.lists(st.integers(min_value=1, max_value=10**6), min_size=1))
def test_shapes_and_lists_round_trip(sizes):
    assert units.parse_shape("x".join(map(str, sizes))) == tuple(sizes)
    parsed = units.parse_int_list(",".join(map(str, sizes)))
    assert parsed == tuple(dict.fromkeys(sizes))


@pytest.mark.parametrize("text", ["0", "1,0", "", "1,,2", "-1", "1.5", "a", "²"])
def test_a_size_that_is_not_positive_is_refused_by_name(text):
    with pytest.raises(UsageError, match="whole number of at least 1"):
        units.parse_int_list(text)
    with pytest.raises(UsageError, match=r"as in 4x65x65"):
        units.parse_shape(text.replace(",", "x"))


@given(st.text(max_size=12))
def test_no_text_makes_a_parser_fail_in_any_other_way(text):
    for parse in (
        units.parse_duration_s,
        units.parse_bandwidth_bytes_per_s,
        units.parse_size_bytes,
        units.parse_percent,
        units.parse_shape,
        units.parse_int_list,
    ):
        with contextlib.suppress(UsageError):
            parse(text)


def test_a_parser_is_a_click_type_and_its_message_survives():
    @click.command()
    @click.option("--rtt", type=units.parse_duration_s)
    def run(rtt: float) -> None:
        click.echo(rtt)

    good = CliRunner().invoke(run, ["--rtt", "40ms"])
    bad = CliRunner().invoke(run, ["--rtt", "40"])

    assert good.output == "0.04\n"
    assert bad.exit_code == 2
    assert "'40' has no unit; type 40ms or 40s" in bad.output
