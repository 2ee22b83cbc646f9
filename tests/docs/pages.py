"""Command lines of README and docs, with the output that a page shows for them."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from tests import ROOT

PROGRAMS = ("mpcprof", "mpcvit", "python", "make")
PAGES = ("README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")))


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """One command line of a page.

    Attributes:
        page: File, from the root.
        number: Line of the page, from 1.
        text: What a person types, on one line.
    """

    page: str
    number: int
    text: str

    @property
    def words(self) -> list[str]:
        """Words without the comment behind them; a scheduler's task is the third."""
        text = self.text.replace("$SLURM_ARRAY_TASK_ID", "3")
        return shlex.split(text, comments=True)

    def __str__(self) -> str:
        return f"{self.page}:{self.number}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandBlock:
    """Lines that a page shows as code, where one of them is a command.

    Attributes:
        shown: Lines behind the first command: what they print, or a part of it.
    """

    commands: tuple[CommandLine, ...]
    shown: tuple[str, ...]


def blocks(page: str) -> Iterator[CommandBlock]:
    """Yield the blocks of a page, from top to bottom."""
    for lines in code(page):
        commands, shown = [], []
        rest = iter(lines)
        for number, line in rest:
            text = line.removeprefix("$ ")
            if text.partition(" ")[0] not in PROGRAMS:
                shown += [line] if commands else []
                continue
            while text.endswith("\\"):
                text = text[:-1] + next(rest)[1].strip()
            commands.append(CommandLine(page=page, number=number, text=text))
        if commands:
            kept = tuple(line for line in shown if line.strip(" ."))
            yield CommandBlock(commands=tuple(commands), shown=kept)


def code(page: str) -> Iterator[list[tuple[int, str]]]:
    """Yield indented and fenced code, as (number of the line, its text)."""
    block: list[tuple[int, str]] = []
    is_fenced = False
    source = (ROOT / page).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate([*source, "end"], start=1):
        if not is_fenced and line.startswith("    "):
            block.append((number, line[4:]))
        elif is_fenced and not line.startswith("```"):
            block.append((number, line))
        elif line.strip():  # text, or a fence
            if block:
                yield block
            block, is_fenced = [], line.startswith("```") and not is_fenced
