import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from mpcprof.cli import main
from mpcprof.cli.table import _FORMATS
from mpcprof.deployment import Deployment
from mpcprof.dims import Dims
from mpcprof.profile.export import EXPORT_COLUMNS, EXPORT_FORMATS
from mpcprof.profile.io import read_profile, write_profile
from tests.factories import make_profile, make_record

RECORDS = (make_record(), make_record(workload="relu", dims=Dims(n_tokens=65)))


@pytest.fixture
def path(tmp_path):
    write_profile(tmp_path / "a.parquet", make_profile(*RECORDS))
    return tmp_path / "a.parquet"


def run(*arguments):
    return CliRunner().invoke(main, ["table", *map(str, arguments)])


def test_show_prints_one_line_per_record_with_units(path):
    shown = run("show", path)

    assert shown.exit_code == 0, shown.output
    (line,) = (line for line in shown.stdout.splitlines() if "relu" in line)
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        *("relu", "n_tokens=65", "44MBps,40ms", "emulated", "410 ms", "25 ms"),
        *("1.69 MB", "17"),
    ]
    assert "spu-0.9.5 semi2k 64-bit ring" in shown.stdout


def test_show_prints_a_mean_of_hops_to_one_decimal(tmp_path):
    mean = make_record(hops=93.6475, hops_basis="measured")
    write_profile(tmp_path / "a.parquet", make_profile(mean))

    shown = run("show", tmp_path / "a.parquet").stdout
    document = json.loads(run("show", tmp_path / "a.parquet", "--json").stdout)

    assert "│ 93.6 │" in shown
    assert document["records"][0]["hops"] == 93.6475


def test_show_keeps_to_the_named_workload(path):
    shown = run("show", path, "--workload", "exp", "--json")

    document = json.loads(shown.stdout)
    assert [record["workload"] for record in document["records"]] == ["exp"]
    assert document["records"][0]["latency_s"] == RECORDS[0].latency_s
    assert document["deployment"]["protocol"] == "semi2k"


def test_an_unknown_workload_is_one_line(path):
    shown = run("show", path, "--workload", "rellu")

    assert shown.exit_code == 1
    assert shown.stderr == (
        "mpcprof: no record of workload 'rellu'; did you mean relu?\n"
    )
    assert shown.stdout == ""


@pytest.mark.parametrize("export_format", _FORMATS)
def test_export_writes_the_same_to_stdout_and_to_a_file(path, export_format):
    out = path.with_name("out")

    shown = run("export", path, "--format", export_format)
    written = run("export", path, "--format", export_format, "-o", out)

    assert shown.exit_code == written.exit_code == 0
    assert shown.stdout_bytes == out.read_bytes()
    assert written.stdout == ""


def test_csv_is_the_default_and_has_the_columns_of_the_design(path):
    assert run("export", path).stdout.startswith(",".join(EXPORT_COLUMNS))
    assert _FORMATS == EXPORT_FORMATS


@pytest.mark.parametrize("export_format", _FORMATS)
def test_an_export_takes_the_format_that_its_file_promises(path, export_format):
    out = path.with_name(f"out.{export_format}")

    run("export", path, "-o", out)

    shown = run("export", path, "--format", export_format).stdout_bytes
    assert out.read_bytes() == shown


def test_an_export_does_not_overwrite_its_profile(path):
    shown = run("export", path, "-o", path)

    assert shown.exit_code == 2
    assert "would write over the profile" in shown.stderr
    assert len(read_profile(path)) == 2


@pytest.mark.parametrize(
    "option", [("--model", "cifar"), ("--network", "lan"), ("--batch", "2")]
)
def test_an_option_of_the_terms_is_not_silently_ignored(path, option):
    shown = run("export", path, *option)

    assert shown.exit_code == 2
    assert shown.stderr == (
        f"mpcprof: {option[0]} is of the terms; add --terms or leave it out\n"
    )


def test_merge_does_not_overwrite_unless_forced(path, tmp_path):
    other = tmp_path / "b.parquet"
    write_profile(other, make_profile(make_record(workload="gelu")))
    out = tmp_path / "out.parquet"

    first = run("merge", path, other, "-o", out)
    second = run("merge", path, "-o", out)

    assert first.exit_code == 0, first.output
    assert second.exit_code == 1
    assert "overwrite it with --force" in second.stderr
    assert len(read_profile(out)) == 3
    assert run("merge", path, "-o", out, "--force").exit_code == 0
    assert len(read_profile(out)) == 2


def test_merge_refuses_two_deployments_and_writes_nothing(path, tmp_path):
    other = tmp_path / "b.parquet"
    write_profile(other, make_profile(deployment=Deployment(protocol="cheetah")))

    shown = run("merge", path, other, "-o", tmp_path / "out.parquet")

    assert shown.exit_code == 1
    assert "protocol is 'semi2k' in one, 'cheetah' in the other" in shown.stderr
    assert not (tmp_path / "out.parquet").exists()


def test_diff_fails_only_beyond_its_tolerance(path, tmp_path):
    slower = tmp_path / "b.parquet"
    write_profile(slower, make_profile(make_record(latencies_s=(0.45,)), RECORDS[1]))

    strict = run("diff", path, slower, "--tolerance", "5%", "--json")
    lenient = run("diff", path, slower, "--tolerance", "20%")

    assert strict.exit_code == 1
    assert json.loads(strict.stdout)["has_regressions"] is True
    assert lenient.exit_code == 0
    assert "2 cases in both, 0 regressions at 20% tolerance" in lenient.stdout
    assert run("diff", path, path).exit_code == 0


def test_a_tolerance_has_a_unit(path):
    shown = run("diff", path, path, "--tolerance", "0.05")

    assert shown.exit_code == 2
    assert "'0.05' has no unit; type 0.05%" in shown.stderr


@pytest.mark.parametrize("command", ["show", "export"])
def test_a_file_that_is_no_profile_is_one_line(tmp_path, command):
    shown = run(command, tmp_path / "none.parquet")

    assert shown.exit_code == 1
    assert shown.stderr.count("\n") == 1
    assert "`mpcprof sweep --output` makes one" in shown.stderr


def test_help_loads_no_heavy_package():
    code = "import sys, mpcprof.cli.table; print(*sys.modules)"

    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()

    assert not {"pandas", "pyarrow", "rich", "numpy", "spu", "jax"} & {*loaded}
