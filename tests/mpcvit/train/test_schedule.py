"""The learning rate as a function of the epoch."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcprof.errors import UsageError
from mpcvit.train.recipe import Schedule

PAPER = Schedule(epochs=600, warmup_epochs=10, cooldown_epochs=10)


def rate(schedule: Schedule, epoch: float) -> float:
    return schedule.learning_rate(epoch, peak=5.5e-4, least=1e-5)


def test_it_rises_linearly_to_its_peak_and_ends_flat_at_its_least():
    assert rate(PAPER, 5) == pytest.approx(5.5e-4 / 2)
    assert rate(PAPER, 10) == pytest.approx(5.5e-4)
    assert rate(PAPER, 300) == pytest.approx((5.5e-4 + 1e-5) / 2)
    assert rate(PAPER, 590) == rate(PAPER, 599.9) == pytest.approx(1e-5)


@given(
    epochs=st.integers(1, 50),
    warmup=st.integers(0, 20),
    cooldown=st.integers(0, 20),
    share=st.floats(0, 1, exclude_max=True),
)
def test_however_short_a_run_is_its_rate_stays_in_range(
    epochs, warmup, cooldown, share
):
    schedule = Schedule(epochs=epochs, warmup_epochs=warmup, cooldown_epochs=cooldown)

    found = rate(schedule, share * epochs)

    assert 0 < found <= 5.5e-4 * (1 + 1e-12)
    assert math.isfinite(found)


def test_a_run_shorter_than_its_warm_up_still_reaches_the_peak():
    schedule = Schedule(epochs=4, warmup_epochs=10, cooldown_epochs=10)

    assert rate(schedule, 1) == pytest.approx(5.5e-4)
    assert rate(schedule, 3) == pytest.approx(1e-5)


def test_no_epochs_are_refused():
    with pytest.raises(UsageError, match=r"epochs=0.*expected at least 1"):
        Schedule(epochs=0, warmup_epochs=0, cooldown_epochs=0)
