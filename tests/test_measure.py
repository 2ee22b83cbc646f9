"""The order and number of calls, with parties that only note whose turn it was."""

from types import SimpleNamespace

import pytest

from mpcprof.dims import Dims
from mpcprof.engine.measure import Case, Plan, measure
from mpcprof.engine.session import Call
from mpcprof.network import LOOPBACK, NETWORKS
from mpcprof.workloads import get_workload

WAN, LAN = NETWORKS["wan"], NETWORKS["lan"]


class Parties:
    """Compute what they are asked for, each call in `call_s`, and note it."""

    advice_on_a_wrong_result = ""

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

    def slack(self, name, kind):
        return 1.0

    def stray_share(self, kind):
        return 0.0


def turns_of(plan: Plan, *, call_s: float = 1.0) -> list[tuple[str, str]]:
    """Whose turn it was and where, after the first calls and the warm-ups."""
    square = get_workload("square")
    cases = [Case(workload=square, dims=Dims(n_heads=1, n_tokens=n)) for n in (3, 4)]
    parties = Parties(call_s)
    measure(parties, cases, plan)
    return parties.turns[len(cases) * (1 + plan.warmups) :]


def test_cases_take_turns_so_that_a_slow_minute_falls_on_all_of_them():
    wan, lan = str(WAN), str(LAN)

    turns = turns_of(Plan(networks=(WAN, LAN), repeats=2))

    in_turn = [("case0", wan), ("case1", wan), ("case0", lan), ("case1", lan)]
    assert turns == in_turn * 2


def test_in_series_each_case_pays_for_the_stock_that_it_uses_up():
    wan, lan = str(WAN), str(LAN)

    turns = turns_of(Plan(networks=(WAN, LAN), repeats=2, in_series=True))

    one = [(wan,), (wan,), (lan,), (lan,)]
    assert turns == [(name, *at) for name in ("case0", "case1") for at in one]


@pytest.mark.parametrize("in_series", [False, True])
@pytest.mark.parametrize(("enough_s", "n_calls"), [(0.0, 2), (5.0, 5), (99.0, 16)])
def test_short_cases_are_called_until_it_is_enough_within_bounds(
    in_series, enough_s, n_calls
):
    plan = Plan(networks=(WAN,), repeats=2, enough_s=enough_s, in_series=in_series)

    assert len(turns_of(plan)) == 2 * n_calls


@pytest.mark.parametrize("in_series", [False, True])
def test_a_network_that_only_counts_is_called_once(in_series):
    plan = Plan(
        networks=(LOOPBACK,),
        counted_on=(WAN,),
        repeats=3,
        enough_s=99.0,
        in_series=in_series,
    )

    turns = turns_of(plan)

    assert [at for _, at in turns].count(str(WAN)) == 2
    assert [at for _, at in turns].count(str(LOOPBACK)) == 2 * 24
