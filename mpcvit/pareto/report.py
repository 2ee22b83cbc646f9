"""A family as a table, for people and programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from mpcprof.units import format_duration
from mpcvit.pareto.family import Member, is_on_front


def pareto_table(members: Sequence[Member]) -> str:
    """Markdown; `*` marks those that no other beats in both."""
    lines = [
        "| | group | name | accuracy | predicted | measured |",
        "|---|---|---|---|---|---|",
    ]
    for member in members:
        mark = "*" if is_on_front(member, members) else ""
        measured = (
            ""
            if member.measured_s is None
            else format_duration(member.measured_s, digits=4)
        )
        lines.append(
            f"| {mark} | {member.group} | {member.name} | {member.accuracy:.2%} | "
            f"{format_duration(member.predicted_s, digits=4)} | {measured} |"
        )
    return "\n".join(lines)


def pareto_json(members: Sequence[Member]) -> str:
    """One document; seconds, shares."""
    return json.dumps(
        {
            "members": [
                {**asdict(member), "is_on_front": is_on_front(member, members)}
                for member in members
            ]
        }
    )
