"""What the docs add as an example, added word for word in a copy of the project."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.docs.pages import blocks, code

# page, heading -> for each block of Python: the file it goes to, and at whose end
EXAMPLES = {
    ("docs/zoo.md", "## Add a published approximation"): [
        ("mpcprof/zoo/systems.py", "SYSTEMS")
    ],
    ("docs/adding-a-workload.md", "## An activation, such as"): [
        ("mpcprof/nn/activation.py", "ACTIVATIONS"),
        ("tests/mpcprof/nn/test_activation.py", "OPERATIONS"),
    ],
}
COPIED = ("mpcprof", "mpcvit", "tests", "profiles", "docs", "benchmarks", "examples")


def section(page: str, heading: str) -> range:
    """Return the lines of a section, from 1."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines, 1) if line.startswith(heading))
    ends = [
        i for i, line in enumerate(lines, 1) if line.startswith("## ") and i > start
    ]
    return range(start, min([*ends, len(lines) + 1]))


def add(path: Path, table: str, lines: list[str]) -> None:
    """Put entries at the end of a table, and functions in front of it."""
    text = path.read_text(encoding="utf-8")
    start = re.search(rf"^{table}\b.*\{{", text, re.M).start()
    end = text.index("\n}\n", start) + 1
    first = next(i for i, line in enumerate(lines) if re.match(r' {4}"[\w-]+": ', line))
    functions, entries = "\n".join(lines[:first]).strip(), "\n".join(lines[first:])
    text = text[:end] + entries.rstrip() + "\n" + text[end:]
    gap = "\n\n\n" if functions else ""
    path.write_text(text[:start] + functions + gap + text[start:], encoding="utf-8")


@pytest.mark.docs
@pytest.mark.spu
@pytest.mark.timeout(0)
@pytest.mark.parametrize(("page", "heading"), EXAMPLES)
def test_an_example_of_the_docs_works_as_it_stands(tmp_path, page, heading):
    for name in COPIED:
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    lines = section(page, heading)
    python = [
        [text for _, text in block]
        for block in code(page)
        if block[0][0] in lines and not block[0][1].startswith(("mpc", "python"))
    ]

    for place, block in zip(EXAMPLES[page, heading], python, strict=True):
        add(tmp_path / place[0], place[1], block)

    commands = [c for b in blocks(page) for c in b.commands if c.number in lines]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command.text],
            cwd=tmp_path,
            env={"PATH": path, "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
