"""The paper's printed numbers, and ours beside them."""

import pytest

from benchmarks.published import compare
from mpcprof.network import NETWORKS
from mpcvit.paper.cases import CaseConfig, mpcvit
from mpcvit.paper.published import (
    FIGURE_7,
    PUBLISHED,
    RATIOS,
    TABLE_2,
    TABLE_3,
    TABLE_4,
    TABLE_5,
    Published,
    whole_networks,
)
from tests.committed import committed_fit

WAN = NETWORKS["wan"]


def test_every_table_has_as_many_numbers_as_the_paper_prints():
    assert [len(t) for t in (TABLE_2, TABLE_3, TABLE_4, TABLE_5)] == [10, 6, 10, 4]
    assert {one.where.partition(",")[0] for one in RATIOS} == {
        "abstract",
        "section 5.2",
    }


def test_the_extremes_of_table_2_are_those_in_grey():
    latencies = {one.what: one.latency_s for one in TABLE_2 if one.latency_s}
    accuracies = {
        one.what: one.accuracy_percent
        for one in TABLE_2
        if one.accuracy_percent and one.what != "Softmax Attention"
    }

    assert min(latencies, key=latencies.__getitem__) == "ScaleAttn"
    assert max(latencies, key=latencies.__getitem__) == "XNorm Attention"
    assert max(accuracies, key=accuracies.__getitem__) == "RSAttn"


def test_head_wise_search_is_the_most_accurate_of_table_3():
    for mu in (0.5, 0.7):
        own = {o.what: o.accuracy_percent for o in TABLE_3 if o.mu == mu}
        assert max(own, key=own.__getitem__) == "MPCViT, head-wise search"


def test_every_latency_is_compared_or_a_sentence_says_why_not():
    rows = compare(committed_fit().model, WAN)

    wanted = [one for one in PUBLISHED if one.latency_s or one.times_faster]
    assert [row.published for row in rows] == wanted
    assert all(row.sentence for row in rows if row.ours is None)
    assert all(row.ratio == row.ours / row.theirs for row in rows if row.ours)


def test_table_2_is_never_compared_without_a_word_about_its_unit():
    rows = compare(committed_fit().model, WAN, TABLE_2)

    assert len(rows) == 9  # ReLU attention failed
    assert all("gives no unit of work" in row.sentence for row in rows)


def test_the_ratio_of_the_abstract_is_near_on_the_build_of_today():
    (row,) = compare(committed_fit().model, WAN, RATIOS[:1])

    assert row.theirs == 6.2
    assert row.ratio == pytest.approx(1.0, abs=0.1)
    assert "6.2 times" in str(row)


def test_a_row_without_a_counterpart_prints_a_dash():
    (row,) = compare(
        committed_fit().model, WAN, [one for one in RATIOS if one.than == "THE-X"]
    )

    assert row.ours is None
    assert row.ratio is None
    assert " - " in str(row)
    assert "cannot be compared" in str(row)


@pytest.mark.parametrize(("mu", "n_heads"), [(0.1, 3), (0.3, 9), (0.5, 14), (0.7, 20)])
def test_mu_is_a_share_of_all_heads_rounded_up(mu, n_heads):
    architecture = mpcvit("cifar", mu, CaseConfig(network=WAN))

    kept = [
        head
        for layer in architecture.attention
        for head in layer
        if head == ("relu_softmax",)
    ]
    assert len(kept) == n_heads


def test_a_number_names_its_place_in_the_paper():
    assert all(isinstance(one, Published) and one.where for one in PUBLISHED)
    assert len({(o.where, o.dataset, o.what, o.than, o.mu) for o in PUBLISHED}) == len(
        PUBLISHED
    )


def test_ratios_and_tables_agree_with_figure_7():
    """It comes from scripts, so the paper's own text has to confirm it."""
    found = {(o.dataset, o.what, o.mu): o for o in FIGURE_7}
    softmax = found["Tiny-ImageNet", "softmax ViT", None]
    taught = found["Tiny-ImageNet", "MPCViT with KD", 0.1]
    without, with_kd = (
        next(o for o in TABLE_4 if o.dataset == "CIFAR-10" and o.what.endswith(end))
        for end in (" CE", "feature")
    )

    assert softmax.latency_s / taught.latency_s == pytest.approx(6.2, abs=0.05)
    assert taught.accuracy_percent - softmax.accuracy_percent == pytest.approx(1.94)
    assert found["CIFAR-10", "MPCViT", 0.7].accuracy_percent == without.accuracy_percent
    assert with_kd.what == "MPCViT, CE + feature"
    assert found["CIFAR-10", "MPCViT with KD", 0.7].accuracy_percent == 94.27
    assert all(o.latency_s and o.accuracy_percent for o in whole_networks("cifar10"))
