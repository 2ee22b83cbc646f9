"""The wheel, built from what git would give, and used where no checkout is."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from mpcprof.profile.io import packaged_names
from mpcvit.cli import main
from tests import ROOT

SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE")
BUILD = "import setuptools.build_meta as build; print(build.build_wheel('.'))"
COMMANDS = """
from mpcprof.cli import main
main("explore aby3 -o page.html".split(), standalone_mode=False)
main("predict semi2k --model digits --json".split(), standalone_mode=False)
"""
CITATION = (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an installed wheel."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    for name in ("mpcprof", "mpcvit", "profiles"):
        kept = shutil.ignore_patterns("__pycache__", "*.lock")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=kept)
    command = [sys.executable, "-c", BUILD]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(source / done.stdout.split()[-1]) as wheel:
        wheel.extractall(target)
    return target


def test_a_wheel_prices_networks_and_draws_its_page_by_packaged_profiles(
    installed, tmp_path
):
    paths = map(str, (installed, sysconfig.get_path("purelib")))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    done = subprocess.run(
        [sys.executable, "-S", "-c", COMMANDS],  # -S: without the checkout
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    predicted = json.loads("{" + done.stdout.partition("{")[2])
    assert predicted["title"].startswith("digits, ")
    assert "</html>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_without_its_extra_mpcvit_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "mpcvit.train.config", raising=False)

    done = CliRunner().invoke(main, ["train", "softmax"], prog_name="mpcvit")

    assert done.exit_code == 1
    assert done.stderr.endswith(
        "torch is not installed: pip install 'mpcprof[mpcvit]'\n"
    )
    assert len(done.stderr.splitlines()) == 1


def test_a_wheel_has_the_data_that_its_commands_read(installed):
    names = {path.stem for path in installed.glob("mpcprof/profiles/*.parquet")}

    assert names == {*packaged_names()}
    assert len([*installed.glob("mpcprof/profiles/softmax-error-*.csv")]) == 2
    assert not [*installed.glob("mpcprof/profiles/verify-*")]
    assert (installed / "mpcprof/zoo/found-cifar.json").exists()


def test_the_citation_is_of_this_version(installed):
    (metadata,) = installed.glob("mpcprof-*.dist-info/METADATA")
    lines = metadata.read_text(encoding="utf-8").splitlines()

    (version,) = (line for line in lines if line.startswith("Version: "))
    assert version.lower() in CITATION.splitlines()
    assert {"Provides-Extra: mpcvit", "Provides-Extra: onnx"} <= {*lines}
