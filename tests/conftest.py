"""Settings that hold for all tests, and the live parties that several of them ask."""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from mpcprof.engine.session import Session

# two threads of an operation would wait for each other beside other tests
os.environ["OMP_NUM_THREADS"] = "1"
# most of what JAX takes in tests is compiling; none of it is for speed
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# a shared machine may be slow at any moment: examples are counted, not timed
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("shared-machine", untimed)
settings.register_profile("daily", untimed, max_examples=25)  # `make check`
settings.load_profile("shared-machine")

# Files that take longest, begun first, so that no processor idles at the end.
LONG = (
    *("sweep/test_kill.py", "engine/test_conformance.py", "cli/test_sweep.py"),
    *("engine/test_runtime_old.py", "train/test_processes.py"),
    *("sweep/test_random_functions.py", "engine/test_session_spu.py"),
    *("engine/test_block_cost_spu.py", "hosts/test_session_hosts.py"),
    *("zoo/test_systems.py", "benchmarks/test_studies.py", "tune/test_run.py"),
    *("paper/test_breakdown.py", "figures/test_figures.py", "test_derive.py"),
    *("workloads/test_blocks.py", "benchmarks/test_scripts.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def turn(item: pytest.Item) -> int:
        path = item.path.as_posix()
        return next((n for n, one in enumerate(LONG) if path.endswith(one)), len(LONG))

    items.sort(key=turn)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch with one thread, as small models like it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _live_session(protocol: str) -> "Iterator[Session]":
    from mpcprof.deployment import make_deployment
    from mpcprof.engine.emulation.relay import RelayEmulation
    from mpcprof.engine.session import Session

    with Session(make_deployment(protocol), RelayEmulation()) as session:
        yield session


@pytest.fixture(scope="session")
def semi2k() -> "Iterator[Session]":
    """Two parties for all tests that leave them on loopback, with no case loaded."""
    yield from _live_session("semi2k")


@pytest.fixture(scope="session")
def aby3() -> "Iterator[Session]":
    """Three parties, on the same terms."""
    yield from _live_session("aby3")


@pytest.fixture
def stay(monkeypatch: pytest.MonkeyPatch, semi2k: "Session") -> "Iterator[Session]":
    """Have commands use live parties, which stay, and a calibration that is known.

    A link that is off is tried once.
    """
    from mpcprof.network import LOOPBACK
    from mpcprof.pricing import Calibration
    from mpcprof.sweep import cases
    from mpcvit.secure import parties

    def of_run(_: object, deployment: object) -> "AbstractContextManager[Session]":
        assert deployment == semi2k.deployment
        return contextlib.nullcontext(semi2k)

    def of_model(conditions: parties.Conditions, _: int) -> object:
        return of_run(None, conditions.deployment)

    known = Calibration(loopback_s_per_hop=1e-4, loopback_s_per_byte=1e-9)
    monkeypatch.setattr(cases.CaseRun, "_session", of_run)
    monkeypatch.setattr(cases, "calibrate_host", lambda *_: known)
    monkeypatch.setattr(parties, "_make_session", of_model)
    monkeypatch.setattr("mpcprof.engine.calibration._N_TRIES", 1)
    yield semi2k
    semi2k.late_s = 0.0
    semi2k.set_network(LOOPBACK)
