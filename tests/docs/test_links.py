"""What the pages point at: files, headings, and the menu of the site."""

import functools
import re
import runpy
from pathlib import Path

import pytest

from mpcprof.cli import main
from tests import ROOT

FOLDERS = ("docs", "docs/reference", "profiles")
PAGES = [ROOT / "README.md", *(p for f in FOLDERS for p in (ROOT / f).glob("*.md"))]
MENU = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)")


@functools.cache
def anchors(page: Path) -> set[str]:
    """Return the headings of a page as a link names them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    plain = (re.sub(r"\[(.*?)\]\(.*?\)|[^\w\s-]", r"\1", one) for one in titles)
    return {re.sub(r"\s", "-", one.strip().lower()) for one in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_finds_its_file_and_its_heading(page):
    text = page.read_text(encoding="utf-8")

    for name, anchor in LINK.findall(text):
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page}: {name}"
        if anchor:
            assert anchor in anchors(target), f"{page}: {name}#{anchor}"


def test_the_menu_has_every_page_of_the_docs_once():
    own = {str(p.relative_to(ROOT)) for p in (*PAGES, ROOT / "CHANGELOG.md")}

    assert sorted(MENU) == sorted(own)


def test_the_reference_has_the_help_of_every_command_with_its_example():
    sections = runpy.run_path(str(ROOT / "docs/reference/commands.py"))["sections"]

    made = "\n".join(sections("mpcprof", main))

    for heading in ("mpcprof predict", "mpcprof table merge", "mpcprof zoo list"):
        assert f"## {heading}\n" in made
    assert made.count("Example:") >= 18
    assert "PARSE_" not in made  # the name of a function, where a value is meant


def test_the_search_of_somebody_else_meets_its_budget_in_twenty_lines(capsys):
    script = ROOT / "examples" / "torch_search.py"
    code = script.read_text(encoding="utf-8").split('"""')[2].splitlines()
    names: dict[str, object] = {}

    exec(compile("\n".join(code), script, "exec"), names)

    assert len([line for line in code if line and not line.startswith("import")]) <= 24
    assert names["seconds"].item() <= 1.02 * names["BUDGET_S"]
    assert "attention: scale" in capsys.readouterr().out
