"""Every command of README and docs: read by its program, and run.

What needs no parties runs in `make test`; the rest in `make docs-test`, page by page.
"""

import functools
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import mpcprof.costmodel.model
from mpcprof.cli import main as mpcprof_main
from mpcvit.cli import main as mpcvit_main
from tests import ROOT
from tests.docs.folder import NOT_RUN, fill
from tests.docs.pages import PAGES, CommandLine, blocks

MAINS = {"mpcprof": mpcprof_main, "mpcvit": mpcvit_main}
QUICK = re.compile(
    r"mpcprof (predict|price|log|table show|zoo (list|predict)"
    r"|runtime list)\b|python benchmarks/published\.py"
)
BLOCKS = [(page, block) for page in PAGES for block in blocks(page)]
COMMANDS = [command for _, block in BLOCKS for command in block.commands]
TRY_IT = ("gelu_quartic", "puma-bumblebee", "try.parquet")  # added by the page first
# a page may use what an earlier one has made: these in this order, then all others
FIRST = (
    "README.md",
    *(f"docs/{name}.md" for name in ("how-to", "tuning", "commands", "plans")),
)


def is_run(command: CommandLine) -> bool:
    return not any(text in str(command) for text in (*NOT_RUN, *TRY_IT))


def is_quick(command: CommandLine) -> bool:
    not_there, long = ("demo/", "runs/", "CHECKPOINT"), (" -o ", "bert-")
    return bool(QUICK.match(command.text)) and not any(
        text in command.text for text in (*not_there, *long)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a user's folder, with each profile fitted once."""
    place = tmp_path_factory.mktemp("user")
    fill(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        fit = functools.lru_cache(mpcprof.costmodel.model.fit_cost_model)
        patch.setattr(mpcprof.costmodel.model, "fit_cost_model", fit)
        yield place


def run(command: CommandLine) -> Result:
    program, *words = command.words
    if program == "python":
        path, *words = words
        main = importlib.import_module(f"benchmarks.{Path(path).stem}").main
    else:
        main = MAINS[program]
    return CliRunner().invoke(main, words, catch_exceptions=False, prog_name=program)


def test_the_pages_have_commands_and_the_reasons_are_of_some():
    assert len(COMMANDS) > 100
    for text in (*NOT_RUN, *TRY_IT):
        assert any(text in str(command) for command in COMMANDS), text


@pytest.mark.parametrize("page", sorted({page for page, _ in BLOCKS}))
def test_every_command_of_a_page_is_one_that_its_program_takes(folder, page):
    targets = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M)

    for command in (c for own, b in BLOCKS if own == page for c in b.commands):
        program, *words = command.words
        if program == "make":
            assert words[0] in targets, command
        elif program == "python" and not words[0].startswith("benchmarks/"):
            assert words[0] == "-m" or (ROOT / words[0]).exists(), command
        elif program == "python":
            main = importlib.import_module(f"benchmarks.{Path(words[0]).stem}").main
            main.make_context(words[0], words[1:])
        elif program in MAINS:
            name, leaf = program, MAINS[program]
            while isinstance(leaf, click.Group):
                name, *words = words
                leaf = leaf.get_command(click.Context(leaf), name)
                assert leaf, command
            leaf.make_context(name, words)


@pytest.mark.parametrize(
    "block",
    [b for _, b in BLOCKS if any(is_run(c) and is_quick(c) for c in b.commands)],
    ids=lambda block: f"{block.commands[0].page}-{block.commands[0].number}",
)
def test_what_needs_no_parties_runs_and_prints_what_the_page_shows(folder, block):
    done = {c: run(c) for c in block.commands if is_run(c) and is_quick(c)}

    assert {str(c): r.stderr for c, r in done.items() if r.exit_code} == {}
    if len(done) == len(block.commands):
        printed = {line for one in done.values() for line in one.stdout.splitlines()}
        assert [line for line in block.shown if line not in printed] == []


# ---------------------------------------------------------------- make docs-test

STAND_INS = {"CHECKPOINT": "runs/digits/model.safetensors"}
FOUND = "demo/trained/found/model.safetensors"
TUNE = f"mpcvit tune {FOUND} --cost-table demo/semi2k.parquet"
BEFORE = {"mpcvit infer demo/trained/found": TUNE}  # the page shows one network of two
MAY_FAIL = ("mpcprof verify", "mpcprof zoo measure")


@pytest.fixture(scope="module")
def long_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one folder for all pages, in their order: a page uses earlier ones'."""
    place = tmp_path_factory.mktemp("user")
    fill(place)
    return place


def call(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    for name, value in STAND_INS.items():
        text = text.replace(name, value)
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    command = ["bash", "-c", text]
    own = {"PATH": path, "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=own, capture_output=True, text=True, check=False
    )


@pytest.mark.docs
@pytest.mark.spu
@pytest.mark.timeout(0)
@pytest.mark.parametrize("page", dict.fromkeys((*FIRST, *PAGES)))
def test_a_page_runs_from_top_to_bottom(long_folder, page):
    commands = [c for own, b in BLOCKS if own == page for c in b.commands]

    for command in filter(is_run, commands):
        for start, text in BEFORE.items():
            if command.text.startswith(start):
                assert call(text, long_folder).returncode == 0
        done = call(command.text, long_folder)
        may = {0, 1} if command.text.startswith(MAY_FAIL) else {0}  # 1: beyond 10 %
        assert done.returncode in may, f"{command}\n{done.stderr}"
