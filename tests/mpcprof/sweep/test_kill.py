"""A sweep may be killed at any moment: what is finished stays, the rest is resumed.

Ten moments are spread over a sweep; more of them, and others, by
`MPCPROF_KILLS=50 MPCPROF_KILL_SEED=1 pytest tests/mpcprof/sweep/test_kill.py`.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mpcprof.profile.io import read_profile, write_profile
from mpcprof.sweep.grid import choose_workloads, get_preset
from tests.processes import still_running

N_KILLS = int(os.environ.get("MPCPROF_KILLS", "10"))
N_UNCALIBRATED = 2  # of them begin with no file; a record holds the calibration
N_CASES = 12
# calibrated and checked as any network, and not waited for
NETWORK = "loopback"
GRID = {"n_heads": (1,), "n_tokens": (3, 4, 5, 6)}
COMMAND = [
    *(sys.executable, "-m", "mpcprof", "sweep", "--network", NETWORK),
    *("--only", "mul,square,truncation", "--heads", "1", "--tokens", "3,4,5,6"),
    *("--repeats", "1", "--warmups", "0", "--output"),
]


def start(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def run_whole(path: Path) -> float:
    """Return the seconds of a sweep that nobody kills."""
    begin_s = time.monotonic()
    done = subprocess.run(
        [*COMMAND, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return time.monotonic() - begin_s


def ends_within(sweep: subprocess.Popen[bytes], limit_s: float) -> bool:
    try:
        sweep.wait(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def children_of(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def cases_on_file(path: Path) -> set[tuple[str, int]]:
    if not path.exists():
        return set()
    return {(record.workload, record.dims.n_tokens) for record in read_profile(path)}


def all_cases() -> set[tuple[str, int]]:
    grid = get_preset("quick").override(**GRID)
    return {
        (workload.name, dims.n_tokens)
        for workload in choose_workloads("mul,square,truncation")
        for dims in grid.dims_of(workload)
    }


@pytest.mark.spu
@pytest.mark.timeout(60 + 30 * N_KILLS)
def test_whatever_is_killed_and_whenever_finished_records_survive(tmp_path):
    chance = random.Random(int(os.environ.get("MPCPROF_KILL_SEED", "0")))
    path = tmp_path / "killed.parquet"
    whole_s = run_whole(path)
    whole = read_profile(path)
    one_record = replace(whole, records=whole.records[:1])
    write_profile(path, one_record)
    resumed_s = run_whole(path)
    n_lost_runs = 0
    order = chance.sample(range(N_KILLS), N_KILLS)

    for number in range(N_KILLS):
        before = cases_on_file(path)
        if number < N_UNCALIBRATED and before:
            path.unlink()
            before = set()
        elif number >= N_UNCALIBRATED and before in (set(), all_cases()):
            write_profile(path, one_record)
            before = cases_on_file(path)
        sweep = start(path)
        n_missing = N_CASES - len(before)
        share = 0.5 + 0.5 * n_missing / (N_CASES - 1)  # half of it is starting
        predicted_s = share * resumed_s if before else whole_s
        moment = 0.05 + 0.85 * (order[number] + chance.random()) / N_KILLS
        if ends_within(sweep, moment * predicted_s):  # quicker than it was
            whole_s *= moment
            resumed_s *= moment
        children = children_of(sweep.pid)
        if sweep.returncode is None:
            victim = chance.choice([sweep.pid, *children])
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(victim, signal.SIGKILL)
        code = sweep.wait(timeout=150)

        assert still_running([sweep.pid, *children]) == []
        assert before <= cases_on_file(path) <= all_cases()
        n_lost_runs += code != 0

    run_whole(path)
    assert cases_on_file(path) == all_cases()
    assert n_lost_runs > N_KILLS / 2  # the kills hit sweeps that were at work
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".parquet"] == []
