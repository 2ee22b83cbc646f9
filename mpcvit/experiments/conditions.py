"""What an experiment's numbers hang on, for programs and people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mpcprof.costmodel.model import fit_cost_model
from mpcprof.profile.io import read_profile
from mpcprof.provenance import commit, host_description, now_utc
from mpcvit.experiments.search_config import Searched
from mpcvit.experiments.setting import Setting

Options = Mapping[str, Any]  # Any: JSON


def conditions(
    setting: Setting, command: str, options: Options, searches: Sequence[Searched]
) -> dict[str, Any]:  # Any: JSON
    """All of it, as JSON values."""
    model = fit_cost_model(read_profile(setting.profile))
    return {
        "command": command,
        "options": dict(options),
        "dataset": setting.run.dataset,
        "limit": setting.run.limit,
        "model": asdict(setting.preset),
        "profile": str(setting.profile),
        "records_sha256": model.records_digest,
        "deployment": str(model.deployment),
        "network": str(setting.network),
        "heads": setting.heads,
        "seeds": list(setting.seeds),
        "teacher": setting.teacher,
        "recipe": asdict(setting.run.recipe),
        "searches": [one.to_json() for one in searches],
        "host": host_description(),
        "commit": commit(),
        "created_at": now_utc(),
    }


def state_conditions(
    setting: Setting, command: str, options: Options, searches: Sequence[Searched]
) -> list[str]:
    """The same for people, in a few lines."""
    deployment = fit_cost_model(read_profile(setting.profile)).deployment
    recipe = setting.run.recipe
    lines = [
        f"`{command}`: {setting.run.dataset}, model {setting.preset.name}, "
        f"{recipe.epochs} epochs, seeds {', '.join(map(str, setting.seeds))}, teacher "
        f"{setting.teacher}.",
        f"Seconds: {setting.profile.name} ({deployment}) over {setting.network}, heads "
        f"{setting.heads}, one image.",
    ]
    if options:
        lines.append(_state_options(options))
    if searches:
        lines.append(f"Searches: {'; '.join(one.line() for one in searches)}.")
    return lines


def _state_options(options: Options) -> str:
    given = [f"{name} {_text(x)}" for name, x in options.items() if x is not None]
    unset = [name for name, x in options.items() if x is None]
    rest = f"; none: {', '.join(unset)}" if unset else ""
    return f"Options, durations in seconds: {', '.join(given)}{rest}."


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
