"""The order and number of calls, with parties that only note whose turn it was."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from mpcprof.deployment import make_deployment
from mpcprof.dims import Dims
from mpcprof.engine.calls import Call
from mpcprof.engine.measure import (
    Case,
    CaseFailedError,
    CaseNotCompiledError,
    MeasureConfig,
    measure,
)
from mpcprof.errors import EngineError, PartyDiedError
from mpcprof.network import LOOPBACK, NETWORKS
from mpcprof.sweep.config import make_config
from mpcprof.workloads.registry import get_workload

WAN, LAN = NETWORKS["wan"], NETWORKS["lan"]


class Parties:
    """Compute what they are asked for, each call in `call_s`, and note it."""

    deployment = make_deployment("semi2k")

    def __init__(self, call_s: float) -> None:
        self.call_s = call_s
        self.network = LOOPBACK
        self.turns: list[tuple[str, str]] = []
        self._results: dict[str, object] = {}

    def lower(self, name, function, inputs):
        self._results[name] = function(*inputs)
        return SimpleNamespace(compile_s=0.0)

    def load(self, name, lowered, inputs):
        pass

    def unload(self, name):
        del self._results[name]

    def set_network(self, network):
        self.network = network

    def run(self, name):
        self.turns.append((name, str(self.network)))
        return Call(
            latency_s=self.call_s, busy_s_by_rank=(0.0, 0.0), runs=(), counters=None
        )

    def fetch(self, name):
        return self._results[name]


def turns_of(plan: MeasureConfig, *, call_s: float = 1.0) -> list[tuple[str, str]]:
    """Whose turn it was and where, after the first calls and the warm-ups."""
    square = get_workload("square")
    cases = [Case(workload=square, dims=Dims(n_heads=1, n_tokens=n)) for n in (3, 4)]
    parties = Parties(call_s)
    measure(parties, cases, plan)
    return parties.turns[len(cases) * (1 + plan.warmups) :]


def test_cases_take_turns_so_that_a_slow_minute_falls_on_all_of_them():
    wan, lan = str(WAN), str(LAN)

    turns = turns_of(MeasureConfig(networks=(WAN, LAN), repeats=2))

    in_turn = [("case0", wan), ("case1", wan), ("case0", lan), ("case1", lan)]
    assert turns == in_turn * 2


def test_in_series_each_case_pays_for_the_stock_that_it_uses_up():
    wan, lan = str(WAN), str(LAN)

    turns = turns_of(MeasureConfig(networks=(WAN, LAN), repeats=2, in_series=True))

    one = [(wan,), (wan,), (lan,), (lan,)]
    assert turns == [(name, *at) for name in ("case0", "case1") for at in one]


@pytest.mark.parametrize("in_series", [False, True])
@pytest.mark.parametrize(("enough_s", "n_calls"), [(0.0, 2), (5.0, 5), (99.0, 16)])
def test_short_cases_are_called_until_it_is_enough_within_bounds(
    in_series, enough_s, n_calls
):
    plan = MeasureConfig(
        networks=(WAN,), repeats=2, enough_s=enough_s, in_series=in_series
    )

    assert len(turns_of(plan)) == 2 * n_calls


@pytest.mark.parametrize("in_series", [False, True])
def test_a_network_that_only_counts_is_called_as_often_as_calls_differ(in_series):
    plan = MeasureConfig(
        networks=(LOOPBACK,),
        counted_on=(WAN,),
        n_counts=3,
        repeats=3,
        in_series=in_series,
    )

    turns = turns_of(plan)

    wan = [name for name, at in turns if at == str(WAN)]
    assert wan == ["case0"] * 3 + ["case1"] * 3
    assert len(turns) == 2 * (plan.n_calls - 1 - plan.warmups)


@pytest.mark.parametrize(("protocol", "n_counts"), [("cheetah", 4), ("aby3", 1)])
def test_a_priced_sweep_counts_every_repeat_where_calls_live_on_a_stock(
    protocol, n_counts
):
    config = make_config(
        protocol=protocol,
        network=WAN,
        mode="priced",
        emulation="auto",
        repeats=4,
        warmups=None,
        seed=0,
        base_port=0,
        cases=(),
    )

    plan = config.plan()

    assert (plan.counted_on, plan.n_counts) == ((WAN,), n_counts)


def test_a_case_whose_inputs_cannot_be_made_is_one_that_failed():
    exp = get_workload("exp")
    cases = [Case(workload=exp, dims=Dims(n_heads=1, hidden=3))]

    with pytest.raises(CaseFailedError, match=r"exp.*: n_tokens=0") as raised:
        measure(Parties(1.0), cases, MeasureConfig(networks=(WAN,), repeats=1))

    assert raised.value.case is cases[0]


@pytest.mark.parametrize("error", [MemoryError(), ValueError("no such shape")])
def test_a_case_that_numpy_cannot_compute_is_one_that_failed(error):
    def fail(x):
        raise error

    square = replace(get_workload("square"), reference=fail)
    cases = [Case(workload=square, dims=Dims(n_heads=1, n_tokens=3))]

    with pytest.raises(CaseFailedError, match=r"MemoryError|no such shape"):
        measure(Parties(1.0), cases, MeasureConfig(networks=(WAN,), repeats=1))


@pytest.mark.parametrize("step", ["load", "run"])
def test_the_death_of_a_party_names_the_case_that_it_was_at(step):
    def die(*_):
        raise PartyDiedError("party 1 was killed by signal 9")

    parties = Parties(1.0)
    setattr(parties, step, die)
    cases = [Case(workload=get_workload("square"), dims=Dims(n_heads=1, n_tokens=3))]

    with pytest.raises(
        PartyDiedError, match=r"^square \[.*n_tokens=3.*\]: party 1 was"
    ):
        measure(parties, cases, MeasureConfig(networks=(WAN,), repeats=1))


@pytest.mark.parametrize("in_series", [False, True])
def test_a_network_that_only_counts_is_called_once(in_series):
    plan = MeasureConfig(
        networks=(LOOPBACK,),
        counted_on=(WAN,),
        repeats=3,
        enough_s=99.0,
        in_series=in_series,
    )

    turns = turns_of(plan)

    assert [at for _, at in turns].count(str(WAN)) == 2
    assert [at for _, at in turns].count(str(LOOPBACK)) == 2 * 24


@pytest.mark.parametrize(
    ("step", "expected"), [("lower", CaseNotCompiledError), ("load", CaseFailedError)]
)
def test_what_a_build_has_no_operation_for_is_told_from_what_failed(step, expected):
    def fail(*_):
        raise EngineError("MHLO has no counterpart of chlo.erf")

    parties = Parties(1.0)
    setattr(parties, step, fail)
    cases = [Case(workload=get_workload("square"), dims=Dims(n_heads=1, n_tokens=3))]

    with pytest.raises(CaseFailedError, match=r"square .*no counterpart") as raised:
        measure(parties, cases, MeasureConfig(networks=(WAN,), repeats=1))

    assert type(raised.value) is expected
