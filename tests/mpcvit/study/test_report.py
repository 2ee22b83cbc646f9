"""Reports of a study: compared fairly, reported whole."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from mpcvit.study.report import StudyReport, compare_means
from mpcvit.study.training import standard_error
from tests.studies import make_outcome, make_study

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_difference_is_held_against_the_spread_of_both():
    first, second = [0.98, 0.97], [0.90, 0.91, 0.92]

    found = compare_means(first, second, n_test=360)

    welch = ttest_ind(first, second, equal_var=False)
    low, high = welch.confidence_interval(0.95)
    assert found.difference == pytest.approx(0.065)
    assert found.p_value == pytest.approx(welch.pvalue)
    assert found.interval == pytest.approx((low, high))
    assert found.p_value < 0.05


def test_a_group_of_one_is_taken_to_vary_as_the_other():
    one, others = [0.98], [0.90, 0.91, 0.92]

    found = compare_means(one, others, n_test=360)

    assert found.standard_error == pytest.approx((1e-4 * (1 + 1 / 3)) ** 0.5)
    assert found.degrees_of_freedom == 2
    assert compare_means(others, one, n_test=360).p_value == found.p_value
    assert compare_means([0.98], [0.9], n_test=360).interval is None


def test_equal_accuracies_of_two_seeds_are_no_certainty():
    found = compare_means([0.95, 0.95], [0.947, 0.947], n_test=360)

    assert found.standard_error == pytest.approx(1 / 360 / 12**0.5)
    assert found.p_value >= 0.05
    assert str(found) == ("+0.30 points, 95% interval -0.05 to +0.65 (p = 0.065)")


@given(
    st.lists(st.integers(0, 360), min_size=2, max_size=5),
    st.lists(st.integers(0, 360), min_size=2, max_size=5),
)
def test_the_interval_lacks_0_where_p_is_below_5_percent(a, b):
    found = compare_means([n / 360 for n in a], [n / 360 for n in b], n_test=360)
    low, high = found.interval

    assert (found.p_value < 0.05) == (not low <= 0 <= high)
    assert min(len(a), len(b)) - 1 <= found.degrees_of_freedom + 1e-9
    assert found.degrees_of_freedom <= len(a) + len(b) - 2 + 1e-9


def test_the_standard_error_is_that_of_a_share_of_so_many_images():
    assert standard_error(0.9, 360) == pytest.approx(0.0158, abs=1e-4)


def test_a_report_has_every_seed_and_what_it_was_made_under(tmp_path):
    report = StudyReport(
        title="Title",
        study=make_study(tmp_path),
        outcomes=(make_outcome(0.9, 0.8), make_outcome(None, name="lost")),
        findings=("A finding.",),
        values={"n": 1},
        command="python benchmarks/x.py",
        options={"lambda": 0.005, "mu": [0.5, 0.7], "limit": None},
    )

    report.write()

    text = (tmp_path / "results.md").read_text()
    assert "| g | one |  | 85.00% | 7.07% | 2 | 10 s |  |" in text
    assert "360 test images: one image is 0.28%" in text
    assert "Diverged, and left out of the means: g/lost seed 0." in text
    assert (
        "Options, durations in seconds: lambda 0.005, mu 0.5 0.7; none: limit" in text
    )
    rows = [*csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text()))]
    assert [row["accuracy"] for row in rows] == ["0.9", "0.8", ""]
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["outcomes"][0]["accuracy"] == pytest.approx(0.85)
    made = document["conditions"]
    assert made["command"] == "python benchmarks/x.py"
    assert made["deployment"].startswith("spu-0.9.5 semi2k")
    assert made["network"] == "44MBps,40ms"
    assert len(made["records_sha256"]) == 64
