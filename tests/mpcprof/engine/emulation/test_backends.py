"""Tests of `mpcprof.engine.emulation.backends`."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mpcprof.engine.emulation import backends as probe
from mpcprof.engine.emulation.backends import BackendStatus, probe_backends

pytestmark = pytest.mark.link


def _reasons() -> dict[str, str]:
    return {status.name: status.reason for status in probe_backends()}


def test_every_backend_is_reported_and_the_relay_always_works() -> None:
    statuses = probe_backends()

    assert [status.name for status in statuses] == ["relay", "tun", "netem"]
    assert statuses[0].is_available


def test_a_backend_is_available_exactly_when_there_is_no_reason_against_it() -> None:
    for status in probe_backends():
        assert status.is_available == (status.reason == "")
        assert "\n" not in status.reason


def test_probing_takes_less_than_a_second_or_a_few_starts_of_python() -> None:
    def seconds(act: Callable[[], object]) -> float:
        begin_s = time.perf_counter()
        act()
        return time.perf_counter() - begin_s

    start = [sys.executable, "-c", "import subprocess, json"]
    python_s = min(seconds(lambda: subprocess.check_call(start)) for _ in range(3))

    assert min(seconds(probe_backends) for _ in range(3)) < max(1.0, 8 * python_s)


def test_probing_leaves_the_devices_and_namespaces_of_this_process_alone() -> None:
    def state() -> tuple[list[str], str, list[str]]:
        named = Path("/run/netns")
        return (
            sorted(path.name for path in Path("/sys/class/net").iterdir()),
            str(Path("/proc/self/ns/net").readlink()),
            sorted(path.name for path in named.iterdir()) if named.exists() else [],
        )

    before = state()

    probe_backends()

    assert state() == before


def test_a_machine_without_nsenter_gets_that_as_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)

    reasons = _reasons()

    assert reasons["relay"] == ""
    assert reasons["tun"] == reasons["netem"] != ""
    assert "nsenter" in reasons["tun"]


def test_another_system_gets_that_as_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    assert _reasons() == {
        "relay": "",
        "tun": "it needs Linux",
        "netem": "it needs Linux",
    }


def test_a_probe_that_crashes_is_reported_with_its_last_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "__name__", "mpcprof.no_such_module")

    assert "no_such_module" in _reasons()["tun"]


def test_an_available_backend_is_said_so() -> None:
    assert BackendStatus(name="tun", reason="").is_available
    assert not BackendStatus(name="tun", reason="no TUN").is_available
