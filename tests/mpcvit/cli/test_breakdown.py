"""`mpcvit breakdown` as a person types it."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import click
import pytest
from click.testing import CliRunner

from mpcprof.deployment import Deployment
from mpcprof.network import NETWORKS
from mpcprof.nn.architecture import uniform_architecture
from mpcprof.nn.preset import MODELS
from mpcprof.profile.io import write_profile
from mpcprof.profile.record import Profile
from mpcvit.cli import COMMANDS, main
from mpcvit.paper.cases import CaseConfig
from mpcvit.paper.fig8 import Figure8
from tests.factories import make_full_profile, make_profile, make_record
from tests.test_architecture import NOT_FOR_HELP, modules_loaded_by

FULL = make_full_profile()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Profiles of every primitive; of aby3, none of matmul."""
    made = tmp_path_factory.mktemp("breakdown")
    (made / "profiles").mkdir()
    write_profile(made / "profiles" / "semi2k.parquet", FULL)
    write_profile(made / "exp.parquet", make_profile(make_record()))
    kept = tuple(r for r in FULL if r.workload != "matmul")
    cheetah = Deployment(protocol="cheetah")
    write_profile(made / "nomatmul.parquet", Profile(deployment=cheetah, records=kept))
    old = Deployment(protocol="cheetah", runtime="spu-0.3.1b0")
    write_profile(made / "old.parquet", Profile(deployment=old, records=FULL.records))
    write_profile(
        made / "cheetah.parquet", Profile(deployment=cheetah, records=FULL.records)
    )
    for name in ("tiny-imagenet", "cifar"):
        architecture = uniform_architecture(MODELS[name], attention="scale")
        (made / f"{name}.json").write_text(architecture.to_json())
    own = replace(MODELS["tiny-imagenet"], name="own", n_layers=2, width=96)
    architecture = uniform_architecture(own, attention="scale")
    (made / "own.json").write_text(architecture.to_json())
    return made


@pytest.fixture
def folder(files, tmp_path, monkeypatch):
    """A copy of the files in the current folder."""
    monkeypatch.chdir(shutil.copytree(files, tmp_path, dirs_exist_ok=True))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, ["breakdown", *map(str, arguments)])


def test_it_prints_files_and_sentences(folder):
    shown = run("fig1", "-o", "out")

    assert shown.exit_code == 0, shown.output
    lines = shown.stdout.splitlines()
    assert lines[:4] == [f"out/fig1.{s}" for s in ("png", "svg", "csv", "json")]
    assert any("softmax is the largest part" in line for line in lines)


def test_figure_8_takes_the_sizes_of_an_architecture_of_its_own(folder):
    shown = run("fig8", "-o", "out", "--arch", "own.json", "--json")

    assert shown.exit_code == 0, shown.output
    drawn = (folder / "out" / "fig8.csv").read_text().splitlines()[1:]
    assert len(drawn) == 3 * 2  # three models of two layers
    own = CaseConfig(network=NETWORKS["wan"], architecture=folder / "own.json")
    assert Figure8().caption(own).startswith("2 layers, 12 heads one by one")


def test_json_is_one_document_and_the_file_beside_the_figure(folder):
    shown = run("fig8", "-o", "out", "--arch", "tiny-imagenet.json", "--json")

    assert shown.exit_code == 0, shown.output
    document = json.loads(shown.stdout)
    written = json.loads((folder / "out" / "fig8.json").read_text())
    assert {*document} == {*written}
    assert document["architecture"] == "tiny-imagenet.json"
    assert document["profiles"][0]["path"] == "profiles/semi2k.parquet"


def test_fig3_takes_the_outer_ring_first(folder):
    shown = run(
        *("fig3", "--profile", "profiles/semi2k.parquet"),
        *("--profile", "cheetah.parquet", "-o", "out", "--json"),
    )

    protocols = [p["protocol"] for p in json.loads(shown.stdout)["profiles"]]
    assert protocols == ["semi2k", "cheetah"]


def test_batched_heads_and_another_network_are_on_request(folder):
    shown = run("fig1", "-o", "o", "--heads", "batched", "--network", "lan", "--json")

    document = json.loads(shown.stdout)
    assert (document["heads"], document["network"]) == ("batched", "384MBps,300us")


WRONG = [
    (("fig1",), 2, "Missing option '-o'"),
    (("fig2", "-o", "o"), 2, "'fig2' is not one of"),
    (("fig3", "-o", "o"), 1, "no profile 'profiles/cheetah.parquet'"),
    (("fig1", "-o", "o", "--runtime", "spu-0.3.1b0"), 1, "semi2k-spu0.3.1b0.parquet"),
    (("fig1", "-o", "o", "--compare"), 1, "semi2k-spu0.3.1b0.parquet"),
    (("fig1", "-o", "o", "--profile", "exp.parquet"), 1, "exp.parquet: no record of"),
    (
        (
            *("fig3", "-o", "o", "--profile", "profiles/semi2k.parquet"),
            *("--profile", "nomatmul.parquet"),
        ),
        1,
        "nomatmul.parquet: no record of 'matmul'",
    ),
    (
        (
            *("fig3", "-o", "o", "--profile", "profiles/semi2k.parquet"),
            *("--profile", "old.parquet"),
        ),
        1,
        "runtime is spu-0.9.5 in one, spu-0.3.1b0 in the other",
    ),
    (("fig3", "-o", "o", "--profile", "exp.parquet"), 2, "1 times --profile: fig3"),
    (
        ("fig1", "-o", "o", "--profile", "exp.parquet", "--compare"),
        2,
        "--compare: --profile exp.parquet says which runtime",
    ),
    (
        ("fig1", "-o", "o", "--runtime", "spu-0.9.5", "--compare"),
        2,
        "--compare draws both",
    ),
    (("fig1", "-o", "exp.parquet"), 2, "is a file: expected a folder"),
    (("fig1", "-o", "exp.parquet/o"), 2, "cannot make it"),
    (("fig1", "-o", "o", "--network", "44MBps"), 2, "such as 44MBps,40ms"),
    (("fig8", "-o", "o", "--arch", "none.json"), 2, "cannot read architecture"),
    (("fig8", "-o", "o", "--arch", "cifar.json"), 2, "is of cifar with 7 layers"),
]


@pytest.mark.parametrize(("arguments", "code", "expected"), WRONG)
def test_what_cannot_be_drawn_is_one_line_and_leaves_nothing(
    folder, arguments, code, expected
):
    before = sorted(folder.rglob("*"))

    shown = run(*arguments)

    assert shown.exit_code == code, shown.output
    assert shown.stdout == ""
    assert shown.stderr.count("\n") == 1
    assert shown.stderr.startswith("mpcvit")
    assert expected in shown.stderr
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_mpcvit_resolves_and_explains_itself(name):
    command = main.get_command(click.Context(main), name)

    assert isinstance(command, click.Command)
    assert command.help


def test_help_of_mpcvit_loads_only_click():
    loaded = modules_loaded_by(
        "from mpcvit.cli import main\nmain(['--help'], standalone_mode=False)"
    )

    assert "mpcvit.cli" in loaded
    assert not loaded & (NOT_FOR_HELP | {"mpcvit.paper"})


def test_the_numbers_behind_a_figure_need_no_heavy_package():
    loaded = modules_loaded_by("import mpcvit.paper.published")

    assert not loaded & {"jax", "spu", "matplotlib", "torch"}


def test_the_program_is_called_mpcvit():
    done = subprocess.run(
        [sys.executable, "-m", "mpcvit", "brakdown"], capture_output=True, text=True
    )

    assert done.returncode == 2
    assert done.stderr.startswith("mpcvit: ")
    assert done.stderr.count("\n") == 1
