import json
import sys

from click.testing import CliRunner

import mpcprof.engine.runtime
from mpcprof.cli import main
from mpcprof.engine.runtime import Runtime

ABSENT = Runtime(
    name="spu-9", python="/nowhere/python", problem="needs spu==9, found none"
)


def run(*arguments):
    return CliRunner().invoke(main, ["runtime", *arguments])


def test_list_names_each_build_and_its_python():
    shown = run("list")

    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith(f"spu-0.9.5  {sys.executable}  ")


def test_json_says_why_a_build_cannot_be_used(monkeypatch):
    monkeypatch.setattr(mpcprof.engine.runtime, "list_runtimes", lambda: (ABSENT,))

    shown = run("list", "--json")

    assert shown.exit_code == 0
    assert json.loads(shown.stdout) == {
        "runtimes": [
            {
                "name": "spu-9",
                "python": "/nowhere/python",
                "available": False,
                "problem": "needs spu==9, found none",
            }
        ]
    }


def test_a_build_that_cannot_be_used_is_listed_with_its_problem(monkeypatch):
    monkeypatch.setattr(mpcprof.engine.runtime, "list_runtimes", lambda: (ABSENT,))

    shown = run("list")

    assert shown.exit_code == 0
    assert shown.stdout == "spu-9  /nowhere/python  needs spu==9, found none\n"
