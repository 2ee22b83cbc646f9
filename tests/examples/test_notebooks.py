"""The notebooks in examples/ run, and print what is stored in them.

`python -m tests.examples.test_notebooks` runs them and stores what they print.
"""

import ast
import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
Cell = dict[str, Any]  # Any: JSON, as nbformat says


def run_cell(source: str, names: Cell) -> list[Cell]:
    """Return what a notebook shows under a cell."""
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    printed, outputs = io.StringIO(), []
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    if printed.getvalue():
        lines = printed.getvalue().splitlines(keepends=True)
        outputs.append({"name": "stdout", "output_type": "stream", "text": lines})
    if value is not None:
        data = {"text/plain": str(value).splitlines(keepends=True)}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = value._repr_html_().splitlines(keepends=True)
        outputs.append(
            {
                "data": data,
                "execution_count": None,
                "metadata": {},
                "output_type": "execute_result",
            }
        )
    return outputs


def run_notebook(path: Path) -> Cell:
    """Return the notebook with the outputs of its cells, run in the project's root."""
    notebook: Cell = json.loads(path.read_text(encoding="utf-8"))
    names: Cell = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = run_cell("".join(cell["source"]), names)
    return notebook


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_is_stored_in_it(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    stored = json.loads(path.read_text(encoding="utf-8"))

    assert run_notebook(path) == stored
    assert stored["nbformat"] == 4
    assert any(cell.get("outputs") for cell in stored["cells"])


if __name__ == "__main__":
    for one in NOTEBOOKS:
        text = json.dumps(run_notebook(one), indent=1, ensure_ascii=False)
        one.write_text(text + "\n", encoding="utf-8")
