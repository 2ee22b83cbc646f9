"""Random functions of `jax.numpy` as `mpcprof profile` takes them: right or refused.

Every fifth of 200 is measured; all of them by
`MPCPROF_RANDOM_FUNCTIONS=200 pytest tests/mpcprof/sweep/test_random_functions.py`.
"""

import os
import re
import time

import numpy as np
import pytest

from mpcprof.deployment import make_deployment
from mpcprof.dims import Dims
from mpcprof.engine.emulation.relay import RelayEmulation
from mpcprof.engine.measure import Case, MeasureConfig, measure
from mpcprof.engine.session import Session
from mpcprof.errors import MpcprofError
from mpcprof.network import LOOPBACK
from mpcprof.workloads.user import make_user_workload
from tests.random_functions import RandomFunction, draw_function

N_FUNCTIONS = 200
N_MEASURED = int(os.environ.get("MPCPROF_RANDOM_FUNCTIONS", "40"))
SEEDS = range(0, N_FUNCTIONS, max(1, N_FUNCTIONS // N_MEASURED))
ONCE = MeasureConfig(networks=(LOOPBACK,), repeats=1, warmups=0)
STEP = 2.0**-18
LIMIT_S = 120.0  # a second or two where nothing else runs
REFUSALS = {
    "not traced": r"^'f' fails to trace at ",
    "undefined": r"^f\(.*\): the function itself is .*; choose another --domain$",
    "wrong": r"^f\(.*\): the revealed result is wrong: off by .*; what usually helps: ",
    "not compiled": r"^f\(.*\): .* does not compile for SPU: ",
}


class Parties:
    """Live parties that keep what they revealed, and start anew after an accident."""

    def __init__(self):
        self.revealed = []
        self._session = None

    def measure(self, function):
        """Measure a function as `mpcprof profile` does."""
        workload = make_user_workload(
            function, function.shapes, name="f", domain=function.domain
        )
        self.revealed = []
        measure(self._live(), [Case(workload=workload, dims=Dims())], ONCE)

    def _live(self):
        if self._session is None:
            self._session = Session(make_deployment("semi2k"), RelayEmulation())
            self._session.__enter__()
            fetch = self._session.fetch

            def keep(case):
                self.revealed.append(fetch(case))
                return self.revealed[-1]

            self._session.fetch = keep
        return self._session

    def close(self):
        """End the parties, if any live."""
        if self._session is not None:
            self._session.close()
        self._session = None


@pytest.fixture(scope="module")
def parties():
    """Parties for all random functions."""
    live = Parties()
    yield live
    live.close()


def inputs_of(function):
    """The inputs that the profiler draws, with the ends of each domain."""
    workload = make_user_workload(
        function, function.shapes, name="f", domain=function.domain
    )
    return workload.make_inputs(Dims(), np.random.default_rng(0))


def outcome_of(parties, function):
    """The kind of refusal, or "right"; it fails where neither is the case."""
    try:
        parties.measure(function)
    except MpcprofError as error:
        line = str(error)
        kinds = [kind for kind, text in REFUSALS.items() if re.search(text, line)]
        if not kinds:  # what is refused leaves parties as they were
            parties.close()
        assert "\n" not in line, line
        assert len(kinds) == 1, line
        return kinds[0]
    truth = function.truth(*inputs_of(function))
    assert len(parties.revealed) == 2  # the first call, and the one that is timed
    for revealed in parties.revealed:
        assert is_right(revealed, truth), (function.text, revealed, truth)
    return "right"


def is_right(revealed, truth):
    """Tell whether a result is what a person would take for the truth.

    Most entries speak for the scale: one of a sum that cancels may be off by more.
    """
    sizes = np.abs(truth)
    allowed = 0.05 * sizes + 0.01 * np.median(sizes) + 20 * STEP
    return bool(np.all(np.abs(revealed - truth) <= allowed))


@pytest.mark.spu
@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_function_is_measured_right_or_refused_by_one_line(parties, seed):
    begin_s = time.monotonic()

    outcome = outcome_of(parties, draw_function(seed))

    assert outcome in ("right", *REFUSALS)
    assert time.monotonic() - begin_s < LIMIT_S


@pytest.mark.spu
@pytest.mark.parametrize(
    ("text", "domain", "outcome"),
    [
        ("own.rsqrt(a)", (2e5, 1e6), "wrong"),  # SPU reveals 0 for 0.001 to 0.00224
        ("own.gelu(a)", (-20, 20), "right"),  # off by 0.0269 of 20
        ("xp.power(a, 0.5)", (-1, 1), "undefined"),
        ("xp.exp(a)", (-8, 18), "wrong"),  # off by more than it is where a > 0
    ],
)
def test_spu_itself_is_judged_by_the_size_of_its_outputs(
    parties, text, domain, outcome
):
    assert outcome_of(parties, RandomFunction(0, text, ((16,),), (domain,))) == outcome


def test_the_random_functions_have_small_and_large_results():
    small, large = [], []
    for seed in range(N_FUNCTIONS):
        function = draw_function(seed)
        sizes = np.abs(function.truth(*function.draw(np.random.default_rng(seed))))
        if 0 < np.max(sizes) < 0.01:
            small.append(function.text)
        if 1e4 < np.min(sizes) < np.inf:
            large.append(function.text)

    assert len({*small}) >= 10
    assert len({*large}) >= 10


@pytest.mark.parametrize(
    ("revealed", "is_accepted"),
    [
        ([0.0, 0.0, 0.0], False),
        ([0.001, 0.0015, 0.00224], True),
        ([0.001, 0.0015, 0.0019], False),
        ([np.nan, 0.0015, 0.00224], False),
    ],
)
def test_the_judge_tells_zeros_from_the_truth(revealed, is_accepted):
    truth = np.array([0.001, 0.0015, 0.00224])

    assert is_right(np.array(revealed), truth) == is_accepted


@pytest.mark.parametrize(
    ("fault", "text"),
    [(ValueError("a\ntraceback"), "traceback"), (MpcprofError("a\nb"), "assert")],
)
def test_a_traceback_or_a_second_line_is_no_outcome(monkeypatch, fault, text):
    def fail(*_):
        raise fault

    monkeypatch.setattr(Parties, "measure", fail)

    with pytest.raises((AssertionError, ValueError), match=text):
        outcome_of(Parties(), draw_function(0))
