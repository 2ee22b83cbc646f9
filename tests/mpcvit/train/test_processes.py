"""Several processes that torchrun starts, on one folder or by mistake on two."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mpcprof.errors import UsageError
from mpcvit.train.log import read_log
from mpcvit.train.run import train
from tests.training_runs import steady_recipe, tiny_request

PROGRAM = """
import os, sys
from pathlib import Path
from mpcvit.train.run import train
from tests.training_runs import steady_recipe, tiny_request

train(tiny_request(Path(sys.argv[1].format(rank=os.environ["RANK"])), steady_recipe()))
"""


pytestmark = pytest.mark.usefixtures("one_thread")


def run_two(program: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """Two processes; `{rank}` in the output is the number of each."""
    program.write_text(PROGRAM)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
    }
    torchrun = [*(sys.executable, "-m", "torch.distributed.run"), "--standalone"]
    return subprocess.run(
        [*torchrun, "--nproc-per-node=2", str(program), str(output)],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def together(tmp_path_factory, one_thread) -> Path:
    """The folder of a finished run of two processes."""
    folder = tmp_path_factory.mktemp("together")
    done = run_two(folder / "program.py", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_two_processes_do_what_one_does(together, tmp_path):
    alone = train(tiny_request(tmp_path, steady_recipe()))

    found = read_log(together / "log.jsonl")
    for ours, theirs in zip(found, alone.epochs, strict=True):
        assert ours.losses == pytest.approx(theirs.losses, rel=1e-4)


def test_one_process_does_not_go_on_with_a_run_of_two(together):
    with pytest.raises(UsageError, match=r"n_processes=2, not 1: start anew with --fr"):
        train(tiny_request(together, steady_recipe()))


@pytest.mark.parametrize("has_run", [True, False])
def test_processes_whose_folders_differ_are_told_before_they_train(
    has_run, together, tmp_path
):
    """As on two nodes whose disks are their own."""
    if has_run:
        shutil.copytree(together, tmp_path / "node-0")

    done = run_two(tmp_path / "program.py", tmp_path / "node-{rank}")

    assert done.returncode != 0
    n_done = 3 if has_run else 0
    assert f"the processes see {n_done} epochs done, no run there" in done.stderr
    assert "must be one that all nodes share" in done.stderr
    assert "IndexError" not in done.stderr
    assert len(read_log(tmp_path / "node-0" / "log.jsonl")) == n_done


def test_what_is_from_before_processes_were_counted_is_resumed_by_one(tmp_path):
    train(tiny_request(tmp_path, steady_recipe()))
    config = tmp_path / "config.json"
    values = json.loads(config.read_text())
    assert values.pop("n_processes") == 1
    assert values["recipe"]["augmentation"].pop("crop_scale") == 0.0
    config.write_text(json.dumps(values))

    again = train(tiny_request(tmp_path, steady_recipe()))

    assert again.n_resumed == 3
