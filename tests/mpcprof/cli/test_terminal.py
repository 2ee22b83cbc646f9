"""What a person sees and types: completion, tables of 80 columns, colour."""

import contextlib
import fcntl
import os
import re
import shutil
import struct
import subprocess
import sys
import termios

import pytest
from click.shell_completion import get_completion_class

from mpcprof.cli import main
from mpcprof.cli.table import _fitting_widths
from mpcprof.nn.attention import ATTENTIONS
from mpcprof.profile.io import packaged_names

SHELLS = ("bash", "zsh", "fish")
SHOW = """
import os
from mpcprof.cli import main
from mpcprof.cli.table import _fitting_widths
for no_colour in ("", "1"):
    os.environ["NO_COLOR"] = no_colour
    main(["table", "show", "semi2k", "--workload", "exp"], standalone_mode=False)
    print("-- end")
"""


def complete(*typed: str) -> list[str]:
    *words, last = typed
    shell = get_completion_class("bash")(main, {}, "mpcprof", "_MPCPROF_COMPLETE")
    return [
        one.value for one in shell.get_completions(words, last) if one.type == "plain"
    ]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_each_shell_is_what_that_shell_reads(shell):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    script = get_completion_class(shell)(main, {}, "mpcprof", "_MPCPROF_COMPLETE")

    done = subprocess.run([shell, "-n"], input=script.source(), text=True)

    assert done.returncode == 0


def test_the_program_answers_what_a_shell_asks():
    asked = {"COMP_WORDS": "mpcprof table s", "COMP_CWORD": "2"}
    how = {"_MPCPROF_COMPLETE": "bash_complete"}

    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from mpcprof.cli import main; main(prog_name='mpcprof')",
        ],
        env={**os.environ, **asked, **how},
        capture_output=True,
        text=True,
    )

    assert done.stdout.split() == ["plain,show"]


def test_commands_options_and_names_are_completed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.parquet").touch()
    relu = [name for name in ATTENTIONS if name.startswith("relu")]

    assert complete("pr") == ["predict", "price", "profile"]
    assert complete("predict", "") == [*packaged_names(), "own.parquet"]
    assert {*relu} <= {*complete("predict", "semi2k", "--attention", "relu")}
    assert complete("sweep", "--protocol", "ch") == ["cheetah"]
    assert complete("predict", "semi2k", "--network", "w") == ["wan"]
    assert complete("zoo", "predict", "semi2k", "--system", "pu") == ["puma"]


def seen_on_a_terminal(command: list[str], n_columns: int) -> str:
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, n_columns, 0, 0))
    left_out = ("COLUMNS", "NO_COLOR", "FORCE_COLOR")
    kept = {name: v for name, v in os.environ.items() if name not in left_out}
    child = subprocess.Popen(command, stdout=theirs, env={**kept, "TERM": "xterm"})
    os.close(theirs)
    chunks = []
    with contextlib.suppress(OSError):  # when the child has ended
        while chunk := os.read(ours, 65536):
            chunks.append(chunk)
    os.close(ours)
    assert child.wait() == 0
    return b"".join(chunks).decode().replace("\r", "")


def test_a_table_fits_a_terminal_of_80_columns_and_has_no_colour_where_none_is_wanted():
    seen = seen_on_a_terminal([sys.executable, "-c", SHOW], 80)
    in_colour, plain, _ = seen.split("-- end\n")

    assert re.search(r"\x1b\[", in_colour)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", plain)
    text = re.sub(r"\x1b\[[0-9;]*m", "", in_colour)
    lines = text.splitlines()[1:]
    assert len(lines) > 20
    assert max(map(len, lines)) <= 80
    for whole in ("workload", "latency", "n_tokens=257", "44MBps,40ms", "emulated"):
        assert whole in text


def test_systems_fit_a_terminal_of_80_columns_with_words_cut_at_hyphens_alone():
    program = "from mpcprof.cli import main; main(['zoo', 'predict', 'aby3'])"

    seen = seen_on_a_terminal([sys.executable, "-c", program], 80)

    text = re.sub(r"\x1b\[[0-9;]*m", "", seen)
    rows = re.split(r"\n(?=note: |left out: )", text.split("─\n")[1])[0].splitlines()
    assert max(map(len, rows)) <= 80
    words = {word for row in rows for word in row.split()}
    assert {"mpcformer-", "unshifted", "2relu", "bumblebee", "secformer"} <= words
    assert {"softmax,", "LayerNorm", "x^-1/2", "-14..0,", "5..9995,"} <= words


def test_a_terminal_too_narrow_for_the_words_breaks_them_and_loses_nothing():
    rows = [("system", "activation"), ("the-x", "quad of the-x")]

    assert _fitting_widths(rows, 12) == [6, 6]
    assert _fitting_widths(rows, 18) == [6, 12]
    assert _fitting_widths(rows, 80) == [6, 13]
    assert _fitting_widths([("", "a")], 80) == [1, 1]
    assert _fitting_widths([("system",), ("mpcformer-2relu",)], 12) == [12]


def test_markdown_stays_markdown_in_a_pipe_and_is_a_table_on_a_terminal():
    text = "1 case\n\n| a | b |\n|---|---|\n| `exp` | n_tokens=17 |\n"
    program = f"from mpcprof.cli.table import print_markdown; print_markdown({text!r})"
    command = [sys.executable, "-c", program]

    piped = subprocess.run(command, capture_output=True, text=True)

    assert piped.stdout == text
    shown = seen_on_a_terminal(command, 80)
    assert "1 case\n" in shown
    assert "│ exp │ n_tokens=17 │" in shown
