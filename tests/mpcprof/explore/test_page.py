"""`mpcprof explore`: one file that holds all it needs."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from mpcprof.cli import main
from mpcprof.errors import MissingEntryError, UsageError
from mpcprof.explore.page import page_data, render_page, script, write_page
from mpcprof.network import NETWORKS
from mpcprof.nn.architecture import get_model, uniform_architecture
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.preset import MODELS
from mpcprof.nn.steps import PRIMITIVES
from mpcprof.units import format_duration
from tests import ROOT
from tests.committed import committed_model, small_profile

MAX_BYTES = 1e6
CHROMIUM = shutil.which("chromium")


def test_explore_writes_a_page_and_says_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    arguments = ["explore", str(small_profile()), "-o", str(path), "--json"]

    result = CliRunner().invoke(main, arguments)

    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["path"] == str(path)
    assert said["n_bytes"] == path.stat().st_size
    assert said["profiles"].keys() == {"semi2k"}


def test_a_page_asks_nothing_of_the_network() -> None:
    page = render_page({"semi2k": committed_model()})

    assert len(page.encode()) < MAX_BYTES / 4  # four or five profiles fit in
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:src|href)=|@import|url\(|fetch\(|XMLHttp", page)
    data = page.split('id="data">')[1].split("</script>")[0]
    whole = json.dumps(page_data({"semi2k": committed_model()}))
    assert json.loads(data) == json.loads(whole)


def test_the_page_holds_every_measured_size_and_every_preset() -> None:
    model = committed_model()

    data = page_data({"semi2k": model})

    sizes = {(seen.operation, seen.size) for seen in model.observations}
    measured = data["profiles"]["semi2k"]["measured"]
    assert sum(map(len, measured.values())) == len(sizes)
    assert data["models"].keys() == MODELS.keys()


def test_every_primitive_has_a_colour_in_the_figures() -> None:
    groups = script("figures.js").split("const GROUPS = [")[1].split("];")[0]

    assert {*PRIMITIVES} <= {*re.findall(r'"(\w+)"', groups)}


def test_a_profile_without_primitives_is_named_and_left_out(tmp_path: Path) -> None:
    empty = ROOT / "profiles" / "fig8-semi2k-spu0.3.1b0-measured.parquet"

    report = write_page([small_profile(), empty], tmp_path / "page.html")

    assert "no record of a primitive" in report.left_out[empty.stem]
    with pytest.raises(MissingEntryError, match="measured: no record of a primitive"):
        write_page([empty], tmp_path / "page.html")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_draws_the_page_with_the_price_of_predict(tmp_path: Path) -> None:
    assert CHROMIUM
    path = tmp_path / "page.html"
    path.write_text(render_page({"semi2k": committed_model()}), encoding="utf-8")
    quiet = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run")
    profile = f"--user-data-dir={tmp_path / 'browser'}"
    softmax = uniform_architecture(
        get_model("cifar"), attention="softmax", heads="batched"
    )
    expected = committed_model().predict(trace_model(softmax), NETWORKS["wan"])

    shown = subprocess.run(
        [CHROMIUM, *quiet, profile, "--disable-sync", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    ).stdout

    latency = format_duration(expected.latency_s, digits=4)
    assert f'<p class="big">{latency}</p>' in shown
    drawn = shown.split("<script")[0]
    assert drawn.count("<svg") == 5  # two networks by layer, and three more figures
    assert "local" not in drawn  # which semi2k has no record of


def test_two_profiles_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'semi2k' is given already"):
        write_page([small_profile(), small_profile()], tmp_path / "page.html")
