"""Processes of a training: several by torchrun, on one folder or two; one that ends."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from mpcvit.train.log import read_log
from mpcvit.train.run import TrainConfig, train
from tests.training_runs import (
    N_STEPS,
    StopAfter,
    assert_same_run,
    free_architecture,
    interrupt,
    steady_recipe,
    tiny_request,
    train_until_killed,
)

PROGRAM = """
import sys
from pathlib import Path
from mpcvit.train.run import train
from tests.mpcvit.train.test_processes import uneven_request

train(uneven_request(Path(sys.argv[1])))
"""


pytestmark = pytest.mark.usefixtures("one_thread")


def uneven_request(output: Path) -> TrainConfig:
    """BatchNorms, and batches of which one of two processes has an image more.

    The layernorms that BatchNorms begin as are gone amid the second epoch.
    """
    recipe = replace(steady_recipe(), batch_size=15, gradual_norm=0.4, mlp_norm=True)
    return tiny_request(output, recipe, architecture=free_architecture())


def train_with_torchrun(program: Path, output: Path) -> None:
    program.write_text(PROGRAM)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
    }
    torchrun = [*(sys.executable, "-m", "torch.distributed.run"), "--standalone"]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node=2", str(program), str(output)],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr


def train_as_rank(rank: int, output: Path, port: int, answers: Connection) -> None:
    """Train as torchrun would have it, and answer with the error."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "LOCAL_WORLD_SIZE": "2"}
    try:
        train(uneven_request(output))
    except Exception as error:
        answers.send(f"{type(error).__name__}: {error}")


def processes_with_torch() -> "multiprocessing.context.ForkServerContext":
    """Processes whose server imports torch once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training_runs"])
    return context


def errors_of_two(folder: Path) -> list[str]:
    """Train by two processes, each into a folder of its own; return their errors."""
    context = processes_with_torch()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answers, theirs = context.Pipe(duplex=False)
    processes = [
        context.Process(
            target=train_as_rank, args=(rank, folder / f"node-{rank}", port, theirs)
        )
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    theirs.close()
    for process in processes:
        process.join(240)
        process.kill()
    errors = []
    with contextlib.suppress(EOFError):
        while True:
            errors.append(answers.recv())
    return errors


@pytest.fixture(scope="module")
def together(tmp_path_factory, one_thread) -> Path:
    """The folder of a run that one process began and two finished."""
    folder = tmp_path_factory.mktemp("together")
    with pytest.raises(KeyboardInterrupt):
        train(uneven_request(folder / "run"), StopAfter(N_STEPS + 1, interrupt))
    train_with_torchrun(folder / "program.py", folder / "run")
    return folder / "run"


def test_two_processes_go_on_as_one_does(together, tmp_path):
    alone = train(uneven_request(tmp_path))

    found = read_log(together / "log.jsonl")
    assert found[0].losses == alone.epochs[0].losses
    for ours, theirs in zip(found, alone.epochs, strict=True):
        assert ours.losses == pytest.approx(theirs.losses, rel=1e-4)


def test_one_process_goes_on_with_a_run_of_two(together, tmp_path):
    shutil.copytree(together, tmp_path, dirs_exist_ok=True)

    again = train(uneven_request(tmp_path))

    assert again.n_resumed == 3
    assert again.epochs == read_log(together / "log.jsonl")


@pytest.mark.parametrize("has_run", [True, False])
def test_processes_whose_folders_differ_are_told_before_they_train(
    has_run, together, tmp_path
):
    """As on two nodes whose disks are their own."""
    if has_run:
        shutil.copytree(together, tmp_path / "node-0")

    errors = errors_of_two(tmp_path)

    n_done = 3 if has_run else 0
    assert len(errors) == 2
    for error in errors:
        assert f"the processes see {n_done} epochs done, no run there" in error
        assert "must be one that all nodes share" in error
    assert len(read_log(tmp_path / "node-0" / "log.jsonl")) == n_done


def test_what_is_from_before_processes_were_counted_is_resumed_by_one(tmp_path):
    train(tiny_request(tmp_path, steady_recipe()))
    config = tmp_path / "config.json"
    values = json.loads(config.read_text())
    assert values.pop("n_processes") == 1  # that began it
    assert values["recipe"]["augmentation"].pop("crop_scale") == 0.0
    config.write_text(json.dumps(values))

    again = train(tiny_request(tmp_path, steady_recipe()))

    assert again.n_resumed == 3


def test_a_killed_process_resumes_to_the_same_bits(tmp_path):
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    train(tiny_request(unbroken))
    process = processes_with_torch().Process(
        target=train_until_killed, args=(killed, N_STEPS + 1)
    )

    process.start()
    process.join(240)
    result = train(tiny_request(killed))

    assert process.exitcode == -signal.SIGKILL
    assert result.n_resumed == 1
    assert_same_run(killed, unbroken)


def test_sigterm_in_a_step_keeps_the_finished_epochs_and_says_so(tmp_path):
    command = [
        *(sys.executable, "-m", "mpcvit", "train", "scale", "--epochs", "999"),
        *("--limit", "64", "--output", str(tmp_path)),
    ]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=alone, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert "epoch 1" in next(line for line in process.stderr if "epoch" in line)

        process.send_signal(signal.SIGTERM)
        _, shown = process.communicate(timeout=240)

    assert process.returncode == 143
    assert shown.splitlines()[-1] == (
        f"mpcvit: stopped; finished epochs are in {tmp_path}, the same command goes on "
        "there"
    )
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) < 999
