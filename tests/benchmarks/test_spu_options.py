"""The table of SPU's options, held against real parties."""

import importlib
import re

import pytest

from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.session import Session
from mpcprof.spu_options import MEASURED_AT, get_option
from tests import ROOT

NAME = "trunc_allow_msb_error=true, enable_optimize_denominator_with_broadcast=true"


@pytest.mark.spu
def test_parties_take_the_hops_and_bytes_of_the_table_and_fail_as_often_as_it_says():
    script = importlib.import_module("benchmarks.spu_options")
    option = get_option(NAME)

    with Session(option.deployment(), RelayEmulation()) as session:
        effects = script.measure_option(session)
        line = script.count_failures(session, 2.0**24, 2**14)

    for found, (name, said) in zip(effects, option.effects.items(), strict=True):
        assert (name, found.hops, found.bytes_sent) == (
            name,
            said.hops,
            said.bytes_sent,
        )
    assert script.markdown_row(option, effects).count("|") == len(MEASURED_AT) + 2
    n_wrong, formula = map(
        float, re.findall(r": (\d+) of 16384 .*? formula (\d+)", line)[0]
    )
    assert formula == 1024
    assert abs(n_wrong - formula) < 5 * 32
    assert "off by ['2.68435e+08']" in line


def test_the_committed_table_is_that_of_the_module():
    script = importlib.import_module("benchmarks.spu_options")
    text = (ROOT / "docs" / "spu-options.md").read_text(encoding="utf-8")

    for option in script.SPU_OPTIONS:
        assert script.markdown_row(option, [*option.effects.values()]) in text
