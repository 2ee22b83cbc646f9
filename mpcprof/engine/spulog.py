"""SPU's own profile, read from the text it logs.

Builds 0.3.1b0, 0.5.0b0 and 0.9.5 are read. A run is one header, then per level a total
and one line per operation, then (0.5.0b0 and later) the totals of the link. SPU logs to
standard output; lines of anything else may stand between.
"""

import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from mpcprof.errors import LogError
from mpcprof.profile.columns import Level
from mpcprof.profile.record import Operation

_HEADER = "[Profiling] SPU execution "
_HEADER_END = " completed, input processing took "
_SECTION = " profiling: total time"
_OPERATION = ", executed "
_LINK = "Link details: total send bytes "
_LEVELS: dict[str, Level] = {"HLO": "pphlo", "HAL": "hal", "MPC": "mpc"}

# Bounded digits: what fits int64, and never an infinity.
_COUNT = r"([0-9]{1,18})"
_REAL = r"([0-9]{1,18}(?:\.[0-9]{1,25})?(?:e[+-]?[0-9]{1,2})?)"
_HEADER_TIMES = re.compile(
    rf"{_REAL}s, execution took {_REAL}s, output processing took {_REAL}s, "
    rf"total time {_REAL}s\."
)
_SECTION_TOTAL = re.compile(rf"(HLO|HAL|MPC) profiling: total time:? {_REAL}")
_OPERATION_LINE = re.compile(
    rf"- ([^\s,][^,]*), executed {_COUNT} times, duration {_REAL}s"
    rf"(?:, send bytes {_COUNT}"
    rf"(?: recv bytes {_COUNT}, send actions {_COUNT}, recv actions {_COUNT})?)?"
)
_LINK_TOTALS = re.compile(
    rf"{_COUNT}(?:, recv bytes {_COUNT})?, send actions {_COUNT}"
    rf"(?:, recv actions {_COUNT})?"
)
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
_RAY = re.compile(r"\(([^\s()]*(?:\([^()]*\))?\s?pid=[0-9]+(?:, ip=[^\s()]+)?)\) ?")
_PREFIX_CHARS = 400  # a Ray prefix stands within so many of the log line
_NAME_LINES = 500  # a torch module's repr is the name of its run in 0.3.1b0, 0.5.0b0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpuRun:
    """One execution, as one party logged it.

    Bytes and actions are this party's and this run's only, payload without framing;
    None where the build does not print them.

    Attributes:
        name: Name of the executable.
        total_s: Seconds of input, execution and output together.
        operations: Operations as printed; the levels describe the same time thrice.
        source: Ray prefix of the lines, which tells parties apart.
        problem: Why the numbers are not to be trusted: cut off, lines missing, or
            lines of another run among them; None when nothing is wrong.
    """

    name: str
    total_s: float
    input_s: float
    execution_s: float
    output_s: float
    bytes_sent: int | None = None
    bytes_received: int | None = None
    send_actions: int | None = None
    recv_actions: int | None = None
    operations: tuple[Operation, ...] = ()
    source: str | None = None
    problem: str | None = None


@dataclass(slots=True)
class _Section:
    """One `... profiling: total time` line and what follows it."""

    label: str
    total_s: float
    operations: list[Operation] = field(default_factory=list)

    def problem(self) -> str | None:
        """Say which lines are lost: SPU's total is the exact sum of its lines."""
        found_s = math.fsum(o.duration_s for o in self.operations)
        if math.isclose(found_s, self.total_s, rel_tol=1e-7, abs_tol=1e-9):
            return None
        kind = "missing" if found_s < self.total_s else "of another run"
        return (
            f"{self.label} lines add up to {found_s:.9g} s of {self.total_s:.9g} s: "
            f"lines are {kind}"
        )


@dataclass(slots=True)
class _OpenRun:
    """A run whose end has not been seen."""

    number: int
    run: SpuRun
    sections: list[_Section] = field(default_factory=list)
    has_link: bool = False

    def close(self) -> SpuRun:
        operations = tuple(o for s in self.sections for o in s.operations)
        return replace(self.run, operations=operations, problem=self._problem())

    def _problem(self) -> str | None:
        if not self.sections:
            return "no line per operation follows"
        for section in self.sections:
            if problem := section.problem():
                return problem
        operations = [o for s in self.sections for o in s.operations]
        if not self.has_link and any(o.bytes_sent is not None for o in operations):
            return "cut off: no 'Link details' line follows"
        received = sum(o.recv_actions or 0 for o in operations if o.level == "mpc")
        if self.run.recv_actions is not None and received > self.run.recv_actions:
            # The last number of a file may have lost digits.
            return f"{self.run.recv_actions} recv actions in all, {received} by line"
        return None


class SpuLogReader:
    """Reads a log line by line.

    A run of 0.5.0b0 and later is complete with its `Link details`; one of 0.3.1b0 only
    when the next begins or at `finish`. Runs of different Ray actors may interleave.
    """

    def __init__(self) -> None:
        self._n_runs = 0
        self._open: dict[str | None, _OpenRun] = {}
        self._name_lines: dict[str | None, list[str]] = {}  # names that span lines

    def feed(self, line: str) -> SpuRun | None:
        """Take a whole line; return the run that it completes, if it does."""
        done = self._feed(line)
        return done.close() if done else None

    def finish(self) -> tuple[SpuRun, ...]:
        """Return the runs that are still open; the reader is as new afterwards."""
        return tuple(done.close() for done in self._finish())

    def _finish(self) -> list[_OpenRun]:
        left = list(self._open.values())
        self._open.clear()
        self._name_lines.clear()
        return left

    def _feed(self, line: str) -> _OpenRun | None:
        # Plain substring tests first: nearly every line of a big log ends here.
        if _OPERATION in line:
            self._on_operation(_plain(line))
        elif _HEADER in line or _HEADER_END in line:
            return self._on_header(_plain(line))
        elif _SECTION in line:
            self._on_section(_plain(line))
        elif _LINK in line:
            return self._on_link(_plain(line))
        elif self._name_lines:
            self._on_name_line(_plain(line))
        return None

    def _on_header(self, line: str) -> _OpenRun | None:
        before, mark, rest = line.rpartition(_HEADER)
        if _HEADER_END not in rest:
            self._name_lines[_source(before)] = [rest]
            return None
        text, _, times_text = rest.rpartition(_HEADER_END)
        source, name = (_source(before), text) if mark else self._finish_name(text)
        times = _HEADER_TIMES.match(times_text)
        if times is None or name is None:
            return None
        input_s, execution_s, output_s, total_s = map(float, times.groups())
        ended = self._open.pop(source, None)
        self._n_runs += 1
        self._open[source] = _OpenRun(
            self._n_runs,
            SpuRun(
                name=name,
                total_s=total_s,
                input_s=input_s,
                execution_s=execution_s,
                output_s=output_s,
                source=source,
            ),
        )
        return ended

    def _on_name_line(self, line: str) -> None:
        source = _source(line[:_PREFIX_CHARS])
        lines = self._name_lines.get(source)
        if lines is None:
            return
        lines.append(_RAY.sub("", line, count=1) if source else line)
        if len(lines) > _NAME_LINES:
            del self._name_lines[source]

    def _finish_name(self, last: str) -> tuple[str | None, str | None]:
        """Return source and name of a header whose first line came earlier."""
        source = _source(last[:_PREFIX_CHARS])
        lines = self._name_lines.pop(source, None)
        if lines is None:
            return source, None
        last = _RAY.sub("", last, count=1) if source else last
        return source, "\n".join([*lines, last])

    def _on_section(self, line: str) -> None:
        at = max(line.rfind(_SECTION) - len("HLO"), 0)
        run = self._open.get(_source(line[:at]))
        total = _SECTION_TOTAL.fullmatch(line[at:].rstrip())
        if run and total:
            run.sections.append(_Section(total[1], float(total[2])))

    def _on_operation(self, line: str) -> None:
        at = max(line.rfind("- ", 0, line.rfind(_OPERATION)), 0)
        run = self._open.get(_source(line[:at]))
        match = _OPERATION_LINE.fullmatch(line[at:].rstrip())
        if run and run.sections and match:
            section = run.sections[-1]
            section.operations.append(_operation(_LEVELS[section.label], match))

    def _on_link(self, line: str) -> _OpenRun | None:
        before, _, rest = line.rpartition(_LINK)
        source = _source(before)
        match = _LINK_TOTALS.fullmatch(rest.rstrip())
        if match is None or source not in self._open:
            return None
        done = self._open.pop(source)
        done.has_link = True
        bytes_sent, bytes_received, sends, receives = map(_count, match.groups())
        done.run = replace(
            done.run,
            bytes_sent=bytes_sent,
            bytes_received=bytes_received,
            send_actions=sends,
            recv_actions=receives,
        )
        return done


def parse_spu_log(text: str) -> tuple[SpuRun, ...]:
    """Read the runs in a log, in the order in which they begin.

    Raises:
        LogError: If there is none.
    """
    return _parse_lines(io.StringIO(text, newline=None))


def read_spu_log(stream: BinaryIO) -> tuple[SpuRun, ...]:
    """Read the runs in a log of UTF-8 bytes; what does not decode is replaced.

    Raises:
        LogError: If there is no run.
    """
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="replace", newline=None)
    try:
        return _parse_lines(text)
    finally:
        text.detach()  # the stream stays open, it is the caller's


def _parse_lines(lines: Iterable[str]) -> tuple[SpuRun, ...]:
    """Read lines with universal newlines: a progress bar prints carriage returns."""
    reader = SpuLogReader()
    done: list[_OpenRun] = []
    n_lines, has_nul = 0, False
    for line in lines:
        n_lines += 1
        has_nul = has_nul or "\0" in line
        if _is_whole(line) and (ended := reader._feed(line)):
            done.append(ended)
    done += reader._finish()
    if not done:
        hint = " (it holds NUL bytes: binary, packed, or not UTF-8)" if has_nul else ""
        raise LogError(
            f"no SPU run in {n_lines} lines{hint}: looked for '{_HEADER}NAME "
            "completed', which SPU logs with enable_pphlo_profile or "
            "enable_hal_profile on"
        )
    return tuple(run.close() for run in sorted(done, key=lambda run: run.number))


def _is_whole(line: str) -> bool:
    """Tell whether a line is whole, not the end of a cut file, short of digits.

    Totals of the link are let through: many logs are pasted without the last newline.
    """
    return line.endswith("\n") or not line[-1:].isdigit() or _LINK in line


def _plain(line: str) -> str:
    line = line.rstrip("\r\n")
    return _ANSI.sub("", line) if "\x1b" in line else line


def _source(before: str) -> str | None:
    if "pid=" not in before:
        return None
    match = _RAY.search(before[-_PREFIX_CHARS:])
    return match[1] if match else None


def _count(digits: str | None) -> int | None:
    return None if digits is None else int(digits)


def _operation(level: Level, match: re.Match[str]) -> Operation:
    name, count, duration_s, *counters = match.groups()
    bytes_sent, bytes_received, sends, receives = map(_count, counters)
    return Operation(
        level=level,
        name=name,
        count=int(count),
        duration_s=float(duration_s),
        bytes_sent=bytes_sent,
        bytes_received=bytes_received,
        send_actions=sends,
        recv_actions=receives,
    )
