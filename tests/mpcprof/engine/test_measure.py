"""The order and number of calls, with parties that only note whose turn it was."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
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
from mpcprof.workloads.user import make_user_workload

WAN, LAN = NETWORKS["wan"], NETWORKS["lan"]
SQUARE = Case(workload=get_workload("square"), dims=Dims(n_heads=1, n_tokens=3))


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
def test_a_slow_case_is_called_once_on_each_network(in_series):
    plan = MeasureConfig(
        networks=(LOOPBACK, WAN), repeats=2, in_series=in_series, slow_s=1.0
    )
    told = []

    parties = Parties(1.0)
    (timing,), _ = measure(parties, [SQUARE], plan, on_call=told.append)

    assert [at for _, at in parties.turns] == ["loopback", str(WAN)]
    assert timing.on(LOOPBACK) == (timing.first_call,)
    assert timing.warmups == ()
    assert timing.total_s == 2.0
    assert len(told) == plan.n_calls


@pytest.mark.parametrize("in_series", [False, True])
def test_a_first_call_that_made_a_stock_is_not_the_one_on_loopback(in_series):
    class Cold(Parties):
        def run(self, name):
            self.call_s = 1.0 if self.turns else 9.0
            return super().run(name)

    plan = MeasureConfig(
        networks=(LOOPBACK, WAN), repeats=2, in_series=in_series, slow_s=1.0
    )

    parties = Cold(9.0)
    (timing,), _ = measure(parties, [SQUARE], plan)

    assert [at for _, at in parties.turns] == ["loopback", str(WAN), "loopback"]
    assert [call.latency_s for call in timing.on(LOOPBACK)] == [1.0]
    assert timing.total_s == 11.0


def test_a_call_that_is_slow_for_its_hops_is_the_only_one_on_its_network():
    class Waiting(Parties):
        def run(self, name):
            self.call_s = 0.1 if self.network == LOOPBACK else 3.0
            return super().run(name)

    plan = MeasureConfig(networks=(LOOPBACK, WAN), repeats=2, slow_s=1.0)

    parties = Waiting(0.1)
    (timing,), _ = measure(parties, [SQUARE], plan)

    assert len(timing.on(WAN)) == 1
    assert len(timing.on(LOOPBACK)) == 2
    assert len(timing.warmups) == plan.warmups


def test_a_case_that_is_not_slow_is_called_as_often_as_ever():
    fast = MeasureConfig(networks=(LOOPBACK, WAN), repeats=2, slow_s=1.01)

    assert len(turns_of(fast)) == 2 * 4


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


@pytest.mark.parametrize(
    ("protocol", "network", "mode", "counted_on"),
    [
        ("semi2k", WAN, "emulated", []),  # the calls show the hops themselves
        ("semi2k", WAN, "priced", [0.01]),
        ("semi2k", LOOPBACK, "emulated", [0.01]),
        ("aby3", WAN, "priced", [0.04]),
        ("aby3", LOOPBACK, "priced", [0.01]),
    ],
)
def test_hops_of_a_function_nobody_has_seen_are_counted_where_there_is_a_delay(
    protocol, network, mode, counted_on
):
    function = replace(get_workload("exp"), kind="function")
    config = make_config(
        protocol=protocol,
        network=network,
        mode=mode,
        cases=(Case(workload=function, dims=Dims(n_heads=1, n_tokens=3)),),
    )

    assert [one.rtt_s for one in config.plan().counted_on] == counted_on


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


class Mistaken(Parties):
    """Parties that reveal something else than the result."""

    def __init__(self, mistake, deployment=Parties.deployment):
        super().__init__(1.0)
        self.mistake = mistake
        self.deployment = deployment

    def fetch(self, name):
        return self.mistake(np.asarray(super().fetch(name), np.float64))


def check(function, *shapes, mistake, domain=(-1.0, 1.0), **asked):
    """Measure a function of the user's by parties that make a mistake."""
    workload = make_user_workload(function, shapes, name="f", domain=(domain,), **asked)
    plan = MeasureConfig(networks=(WAN,), repeats=1)
    measure(Mistaken(mistake), [Case(workload=workload, dims=Dims())], plan)


def zeros(revealed):
    return np.zeros_like(revealed)


def no_small_ones(revealed):
    return np.where(np.abs(revealed) < 0.01, 0.0, revealed)


@pytest.mark.parametrize(
    ("function", "domain", "mistake"),
    [
        (jax.lax.rsqrt, (2e5, 1e6), zeros),  # 0.001 to 0.00224: SPU gives 0
        (jax.lax.rsqrt, (0.01, 1e6), no_small_ones),  # 10, and 15 others
        (lambda x: jax.nn.softmax(x * 0.01), (-1.0, 1.0), zeros),
        (lambda x: 1 / x, (2e4, 2.1e4), zeros),  # 13 steps of the fixed point
        (jnp.mean, (0.001, 0.002), zeros),
        (jnp.square, (1e3, 1e4), lambda x: x - 2.0**28),  # wrapped around
        (jnp.exp, (-1.0, 1.0), lambda x: 1.06 * x),
    ],
)
def test_a_wrong_result_is_refused_whatever_its_size(function, domain, mistake):
    with pytest.raises(CaseFailedError, match="the revealed result is wrong: off by"):
        check(function, (16,), domain=domain, mistake=mistake)


@pytest.mark.parametrize(
    ("function", "domain", "mistake"),
    [
        (jax.lax.rsqrt, (2e5, 1e6), lambda x: x + 2.0**-17),
        (jax.nn.gelu, (-20.0, 20.0), lambda x: x + 1.4e-3 * np.abs(x)),
        (lambda x: x - x, (-1.0, 1.0), lambda x: x + 2.0**-18),
        (lambda x: 1e-6 * x, (-1.0, 1.0), zeros),  # below the step of the ring
        (jnp.square, (1e3, 1e4), lambda x: x + 10.0),
    ],
)
def test_what_truncation_and_approximation_leave_is_no_mistake(
    function, domain, mistake
):
    check(function, (16,), domain=domain, mistake=mistake)


def test_a_refusal_says_where_by_how_much_for_which_inputs_and_what_helps():
    def overflow(revealed):
        return np.where(revealed > 900, -7.0, revealed)

    with pytest.raises(CaseFailedError) as raised:
        check(jnp.exp, (8,), domain=(0.0, 7.0), mistake=overflow)

    assert raised.value.reason == (
        "the revealed result is wrong: off by up to 1.1e+03, allowed 24.4, where "
        "outputs are up to 1.1e+03 in size; 1 of 8 entries are wrong, at [7] -7 "
        "instead of 1096.63, inputs there 7, of all such entries 7 to 7, of "
        "all entries 0 to 7; its latency is not recorded; what usually helps: "
        "--field-bits 128, a narrower --domain, or another formula; "
        "--tolerance allows more"
    )


def test_a_build_that_is_wrong_at_random_is_asked_again_before_anything_else():
    old = make_deployment("semi2k", runtime="spu-0.3.1b0")
    case = Case(workload=get_workload("exp"), dims=Dims(n_heads=1, n_tokens=3))

    with pytest.raises(CaseFailedError, match="0 is wrong at random: run the same"):
        measure(Mistaken(zeros, old), [case], MeasureConfig(networks=(WAN,), repeats=1))


def test_what_a_build_has_wrong_in_every_call_is_not_asked_again():
    old = make_deployment("semi2k", runtime="spu-0.3.1b0")
    dims = Dims(n_heads=1, n_tokens=3, head_dim=2)
    case = Case(workload=get_workload("attn.xnorm"), dims=dims)

    with pytest.raises(CaseFailedError, match=r"in every call; use another runtime$"):
        measure(Mistaken(zeros, old), [case], MeasureConfig(networks=(WAN,), repeats=1))


def test_inputs_of_another_shape_are_said_by_their_range():
    with pytest.raises(
        CaseFailedError, match=r"[0-9], inputs from -1 to 1 and -1 to 1; its"
    ):
        check(jnp.dot, (3, 4), (4, 2), mistake=zeros)


@pytest.mark.parametrize(
    ("domain", "text"),
    [
        ((2e4, 3e4), r"; products beyond 1.34e\+08 wrap around in this ring; what"),
        ((1e-3, 2e-3), "; the fixed point has steps of 3.81e-06; what usually helps"),
        ((1.0, 2.0), "is not recorded; what usually helps: --field-bits 128, a "),
    ],
)
def test_a_refusal_says_what_the_ring_cannot_hold(domain, text):
    with pytest.raises(CaseFailedError, match=text):
        check(jnp.square, (4,), domain=domain, mistake=lambda x: -1 - x)


def beside_its_root(x):
    return jnp.stack([x, jax.lax.rsqrt(x)], -1)


def no_second_column(revealed):
    return revealed * [1, 0]


def test_zeros_for_a_column_of_small_numbers_beside_large_ones_are_refused():
    with pytest.raises(
        CaseFailedError, match=r"16 of 32 entries are wrong, at \[0, 1\] 0"
    ):
        check(beside_its_root, (16,), mistake=no_second_column, domain=(2e5, 1e6))


def test_a_tolerance_allows_more_and_less():
    def mistake(revealed):
        return revealed * 1.06

    check(jnp.exp, (16,), mistake=mistake, rtol=0.1)
    with pytest.raises(CaseFailedError, match="wrong"):
        check(jnp.square, (16,), mistake=lambda x: x * 1.01, rtol=1e-3)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (jnp.log, r"is nan in float64 at .*, and nan or infinite in \d of 8 entries"),
        (lambda x: 1 / (x + 1), r"is inf in float64 at \[0\], .* inputs there -1, of"),
        (lambda x: jnp.sum(jnp.log(x)), "is nan .* 1 of 1 entries, inputs from -1 to"),
    ],
)
def test_a_reference_that_is_no_number_asks_for_another_domain(function, text):
    with pytest.raises(CaseFailedError, match=f"{text}.*choose another --domain$"):
        check(function, (8,), mistake=zeros)


def test_a_step_of_the_ring_in_use_is_what_a_result_is_judged_by():
    square = get_workload("square")
    case = Case(workload=square, dims=Dims(n_heads=1, n_tokens=3))
    plan = MeasureConfig(networks=(WAN,), repeats=1)
    coarse = make_deployment("semi2k", fraction_bits=10)

    def mistake(revealed):
        return revealed + 2.0**-10

    measure(Mistaken(mistake, coarse), [case], plan)
    with pytest.raises(CaseFailedError, match=r"allowed 1.91e-05, .* --field-bits 128"):
        measure(Mistaken(mistake), [case], plan)


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "gelu_tanh", "reciprocal"])
def test_zeros_are_no_result_of_a_primitive(name):
    case = Case(workload=get_workload(name), dims=sizes_of(name))
    plan = MeasureConfig(networks=(WAN,), repeats=1)

    with pytest.raises(CaseFailedError, match="result is wrong"):
        measure(Mistaken(zeros), [case], plan)


def sizes_of(name):
    return Dims(**dict.fromkeys(get_workload(name).dim_names, 3))


def test_truth_values_are_exact_and_the_refusal_offers_no_tolerance():
    check(lambda x: x > 0, (8,), mistake=np.asarray)

    with pytest.raises(
        CaseFailedError, match="truth values have to be exact"
    ) as raised:
        check(lambda x: x > 0, (8,), mistake=lambda revealed: 1 - revealed)

    assert "--tolerance" not in raised.value.reason
