"""What a failing child says becomes one line, and the rest of it a log."""

from pathlib import Path

import pytest

from mpcprof.engine.failure import keep_log, one_line

THROWN = """RuntimeError: what: 
\t[external/spulib~/libspu/kernel/hlo/control_flow.cc:133] While with secret condition is not supported
stacktrace: 
#0 spu::kernel::hlo::While()+0x7f856dfda5db
"""  # noqa: E501, W291 - as SPU prints it
ENFORCED = """RuntimeError: what: 
\t[Enforce fail at external/libspu/core/type.cc:34] a.numel() == 3. no such size
stacktrace: 
"""  # noqa: W291
CONVERTED = """RuntimeError: what:
\t[Enforce fail at external/libspu/type_cast.cc:116] (to == DT_F32 || to == DT_F64). \
expect to_type FXP, got F16
Stacktrace:
"""
COMPILED = """[2026-11-28 08:38:36.543] [info] [thread_pool.cc:30] Create a fixed thread pool
loc("jit(f)/fft"("/home/ann/f.py":2:19)): error: failed to legalize operation 'stablehlo.fft'
loc("inputs[0]"): error: 'builtin.unrealized_conversion_cast' op operation destroyed
  what():  [external/spulib~/compilation_context.cc:26] operation destroyed
Fatal Python error: Aborted
"""  # noqa: E501
LOOP = "; loop a fixed number of times, as lax.fori_loop does"
CRASHED = """[2026-11-28 08:38:36.543] [info] [thread_pool.cc:30] Create a thread pool
Fatal Python error: Segmentation fault

Current thread 0x00007f2784407b80 (most recent call first):
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MPCPROF_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (THROWN, "While with secret condition is not supported" + LOOP),
        (ENFORCED, "a.numel() == 3. no such size"),
        (CONVERTED, "expect to_type FXP, got F16; compute in float32"),
        (
            COMPILED,
            "failed to legalize operation 'stablehlo.fft'; SPU has no Fourier "
            "transform: multiply by its matrix",
        ),
        (CRASHED, "Fatal Python error: Segmentation fault"),
        ("KeyError: 1\nin a party\n", "KeyError: 1"),
    ],
)
def test_the_line_gives_the_reason_and_the_log_gives_all(home, text, reason):
    said, _, place = one_line(text, "party 0").partition(" (all of it: ")

    assert said == reason
    assert Path(place.rstrip(")")).read_text() == f"{text.rstrip()}\n"
    assert Path(place).parent == home / "logs"


def test_a_long_reason_is_shown_by_its_begin_and_its_end(home):
    text = f"loc(f.py): error: '{'x' * 500}' but got tensor<f80>\nand more"

    said, _, _ = one_line(text, "compiler").partition(" (all of it: ")

    assert len(said) < 220
    assert said.startswith("'xxx")
    assert said.endswith("but got tensor<f80>")


def test_what_is_one_line_anyway_needs_no_log(home):
    assert (
        one_line("ValueError: no such case\n", "party 0") == "ValueError: no such case"
    )
    assert [*home.iterdir()] == []


def test_two_failures_in_one_second_lose_nothing(home):
    places = [keep_log(text, "party 0") for text in ("first", "second")]

    assert "".join(Path(p).read_text() for p in {*places}) == "first\nsecond\n"


def test_only_the_newest_logs_are_kept(home, monkeypatch):
    logs = home / "logs"
    logs.mkdir()
    for second in range(30):
        (logs / f"20200101-0000{second:02}-1-party0.log").write_text("old")
    (logs / "notes.txt").write_text("the user's own")

    newest = keep_log("new", "party 0")

    left = sorted(path.name for path in logs.glob("*.log"))
    assert len(left) == 20
    assert left[-1] == Path(newest).name
    assert (logs / "notes.txt").exists()


def test_a_home_that_cannot_be_written_leaves_the_temporary_folder(
    tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MPCPROF_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))

    assert Path(keep_log("text", "party 0")).parent == tmp_path / "tmp" / "mpcprof"

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    assert keep_log("text", "party 0") == "not kept, Not a directory"


def test_a_single_long_line_is_shortened_and_kept_too(home):
    said, _, place = one_line("bad " * 400, "party 0").partition(" (all of it: ")

    assert len(said) < 220
    assert Path(place.rstrip(")")).read_text() == f"{('bad ' * 400).rstrip()}\n"


def test_nothing_said_is_nothing():
    assert one_line(" \n", "party 0") == ""
