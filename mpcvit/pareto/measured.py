"""`measured.json`: seconds of a private inference, beside the checkpoint it ran."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mpcprof.errors import UsageError
from mpcprof.profile_io import replace_file

MEASURED: Final = "measured.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredConditions:
    """What was run, how and where; seconds of other conditions say nothing.

    Attributes:
        architecture: The text of `architecture.json`.
        deployment: In words, as `str` of it.
        network: Likewise.
    """

    architecture: str
    deployment: str
    network: str

    def __post_init__(self) -> None:
        # equal whatever the order of keys in the file
        canonical = json.dumps(json.loads(self.architecture), sort_keys=True)
        object.__setattr__(self, "architecture", canonical)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A private inference of one image, by real parties.

    Raises:
        UsageError: If the seconds are not above 0 and finite.
    """

    conditions: MeasuredConditions
    latency_s: float

    def __post_init__(self) -> None:
        if not 0 < self.latency_s < math.inf:  # refuses NaN too
            raise UsageError(
                f"latency_s={self.latency_s}: expected a finite time above 0"
            )


def write_measured(path: Path, measured: Measured) -> None:
    """Make it the content of the file, at once.

    Raises:
        ProfileError: If the folder or the disk does not let us.
    """
    conditions = measured.conditions
    document = {
        "conditions": {
            "architecture": json.loads(conditions.architecture),
            "deployment": conditions.deployment,
            "network": conditions.network,
        },
        "latency_s": measured.latency_s,
    }
    replace_file(path, json.dumps(document).encode())


def read_measured(path: Path) -> Measured | None:
    """What `write_measured` wrote; None if there is no file.

    Raises:
        UsageError: If it cannot be read, or is not such a file; one line that says
            what is wrong.
    """
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ArithmeticError, OSError, RecursionError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"cannot read {str(path)!r}: {reason}; expected a file that `mpcvit pareto "
            "--measured` wrote: move it away, and that command measures anew"
        ) from None


def _parse(text: str) -> Measured:
    document = _checked_object("the file", json.loads(text))
    conditions = _checked_object("conditions", _entry(document, "conditions"))
    architecture = _checked_object("architecture", _entry(conditions, "architecture"))
    return Measured(
        conditions=MeasuredConditions(
            architecture=json.dumps(architecture),
            deployment=_text(conditions, "deployment"),
            network=_text(conditions, "network"),
        ),
        latency_s=_number(document, "latency_s"),
    )


def _checked_object(what: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise UsageError(f"{what} is {_short(value)}: expected a JSON object")
    return value


def _entry(values: dict[str, object], key: str) -> object:
    if key not in values:
        raise UsageError(f"it has no {key!r}, but {_short([*values])}")
    return values[key]


def _text(values: dict[str, object], key: str) -> str:
    value = _entry(values, key)
    if not isinstance(value, str):
        raise UsageError(f"{key} is {_short(value)}: expected a text")
    return value


def _number(values: dict[str, object], key: str) -> float:
    value = _entry(values, key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{key} is {_short(value)}: expected a number of seconds")
    return float(value)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:36]} ..."
