"""Processes of the owners: each reads what is its own, and tells where it put it.

The command line sees neither pictures nor weights. It runs a module of ours in a
process of its own, with a JSON document on standard input and another one as answer.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from mpcprof.errors import EngineError, MpcprofError, UsageError
from mpcprof.isolation import module_argv


def ask_owner(
    module: str, owner: str, request: dict[str, Any]
) -> Any:  # Any: JSON, here and there
    """Run a module that calls `answer_request`, and return its answer.

    Args:
        owner: The owner in words, such as `image owner`.

    Raises:
        UsageError: If the owner refuses what was asked for.
        EngineError: If it fails otherwise, or its process does.
    """
    done = subprocess.run(
        module_argv(module),
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"the {owner}'s process died"]
        is_usage = done.returncode == UsageError.exit_code
        raise (UsageError if is_usage else EngineError)(lines[-1])
    return json.loads(done.stdout)


def answer_request(answer: Callable[[dict[str, Any]], Any]) -> None:  # Any: JSON
    """Do what the JSON document on standard input asks for; an error is one line."""
    request = json.loads(sys.stdin.read())
    try:
        found = answer(request)
    except MpcprofError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    sys.stdout.write(json.dumps(found, default=str))
