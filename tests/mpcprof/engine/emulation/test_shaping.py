"""Laws of one direction of an emulated link; no clock and no socket."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.engine.emulation.pipe import Shaper

delays_s = st.floats(0, 1)
rates_bytes_per_s = st.floats(1e3, 1e10)
sizes_bytes = st.integers(0, 1 << 20)
gaps_s = st.floats(0, 0.1)
chunks = st.lists(st.tuples(gaps_s, sizes_bytes), min_size=1, max_size=30)


def make_shaper(*, delay_s: float, rate_bytes_per_s: float) -> Shaper:
    shaper = Shaper()
    shaper.set(delay_s=delay_s, seconds_per_byte=1 / rate_bytes_per_s)
    return shaper


def pass_through(
    shaper: Shaper, stream: list[tuple[float, int]]
) -> list[tuple[float, float, int]]:
    """(when it came, when it arrives, size) of each chunk of (gap before, size)."""
    now_s, passed = 0.0, []
    for gap_s, n_bytes in stream:
        now_s += gap_s
        passed.append((now_s, shaper.arrival_s(now_s, n_bytes), n_bytes))
    return passed


@given(delay_s=delays_s, rate=rates_bytes_per_s, now_s=st.floats(0, 1e3), n=sizes_bytes)
def test_an_idle_line_takes_exactly_its_delay_and_the_bytes_over_the_rate(
    delay_s, rate, now_s, n
):
    shaper = make_shaper(delay_s=delay_s, rate_bytes_per_s=rate)

    arrival_s = shaper.arrival_s(now_s, n)

    assert arrival_s == pytest.approx(now_s + delay_s + n / rate, rel=1e-12)


@given(delay_s=delays_s, rate=rates_bytes_per_s, stream=chunks)
def test_chunks_arrive_in_the_order_in_which_they_came(delay_s, rate, stream):
    shaper = make_shaper(delay_s=delay_s, rate_bytes_per_s=rate)

    arrivals_s = [arrival_s for _, arrival_s, _ in pass_through(shaper, stream)]

    assert arrivals_s == sorted(arrivals_s)


@given(
    delay_s=delays_s, rate=rates_bytes_per_s, sizes=st.lists(sizes_bytes, min_size=1)
)
def test_chunks_that_come_together_leave_one_after_the_other(delay_s, rate, sizes):
    shaper = make_shaper(delay_s=delay_s, rate_bytes_per_s=rate)

    passed = pass_through(shaper, [(0.0, n_bytes) for n_bytes in sizes])

    for (_, arrival_s, _), total in zip(
        passed, itertools.accumulate(sizes), strict=True
    ):
        assert arrival_s == pytest.approx(delay_s + total / rate, rel=1e-9)


@given(delay_s=delays_s, rate=rates_bytes_per_s, stream=chunks)
def test_no_stretch_of_a_stream_is_faster_than_the_line(delay_s, rate, stream):
    shaper = make_shaper(delay_s=delay_s, rate_bytes_per_s=rate)

    passed = pass_through(shaper, stream)

    for first, last in itertools.combinations(range(len(passed)), 2):
        n_bytes = sum(n for _, _, n in passed[first + 1 : last + 1])
        elapsed_s = passed[last][1] - passed[first][1]
        assert n_bytes <= rate * (elapsed_s + 1e-12) * (1 + 1e-6) + 1e-6


@given(delay_s=delays_s, rate=rates_bytes_per_s, stream=chunks)
def test_no_chunk_arrives_before_its_delay_and_its_own_bytes(delay_s, rate, stream):
    shaper = make_shaper(delay_s=delay_s, rate_bytes_per_s=rate)

    for came_s, arrival_s, n_bytes in pass_through(shaper, stream):
        assert arrival_s >= (came_s + delay_s + n_bytes / rate) * (1 - 1e-12)


@given(stream=chunks)
def test_an_open_line_delivers_at_once(stream):
    shaper = Shaper()

    passed = pass_through(shaper, stream)

    assert shaper.is_open
    assert all(arrival_s == came_s for came_s, arrival_s, _ in passed)


@given(delay_s=st.floats(1e-6, 1), rate=rates_bytes_per_s)
def test_a_line_with_a_delay_or_a_rate_is_not_open(delay_s, rate):
    delayed, limited = Shaper(), Shaper()

    delayed.set(delay_s=delay_s, seconds_per_byte=0.0)
    limited.set(delay_s=0.0, seconds_per_byte=1 / rate)

    assert not delayed.is_open
    assert not limited.is_open


def test_a_line_that_is_set_anew_has_no_queue():
    shaper = make_shaper(delay_s=0.02, rate_bytes_per_s=1e6)
    shaper.arrival_s(0.0, 10**9)

    shaper.set(delay_s=0.01, seconds_per_byte=1e-6)

    assert shaper.arrival_s(0.0, 1000) == pytest.approx(0.011)
