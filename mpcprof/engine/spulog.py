"""SPU's own profile, read from the text it logs.

Builds 0.3.1b0 to 0.9.5 are read, and OpenBumbleBee, which prints MiB. A run is one
header, then per level a total and one line per operation, then (0.4 and later) the
totals of the link. SPU logs to standard output; lines of anything else may stand
between.
"""

import gzip
import io
import math
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from mpcprof.engine.logline import JOURNAL_KEY, LogLine, read_line
from mpcprof.errors import LogError
from mpcprof.profile.columns import Level
from mpcprof.profile.record import Operation

_HEADER = "[Profiling] SPU execution "
_HEADER_END = " completed, input processing took "
_SECTION = " profiling: total time"
_OPERATION = ", executed "
_LINK = "Link details: total send "
_LEVELS: dict[str, Level] = {"HLO": "pphlo", "HAL": "hal", "MPC": "mpc"}

# Bounded digits: what fits int64, and never an infinity.
_COUNT = r"([0-9]{1,18})"
_REAL = r"([0-9]{1,18}(?:\.[0-9]{1,25})?(?:e[+-]?[0-9]{1,2})?)"
_HEADER_TIMES = re.compile(
    rf"{_REAL}s, execution took {_REAL}s, output processing took {_REAL}s, "
    rf"total time {_REAL}s\."
)
_SECTION_TOTAL = re.compile(rf"(HLO|HAL|MPC) profiling: total time:? {_REAL}")
# 0.5 prints bytes sent, 0.9.0 bytes received as well, 0.9.3 all
_BYTES = rf"(bytes [0-9]{{1,18}}|{_REAL[1:-1]} MiB)"
_OPERATION_START = re.compile(r"- [^\s,][^,]*, executed [0-9]+ times, duration ")
_OPERATION_LINE = re.compile(
    rf"- ([^\s,][^,]*), executed {_COUNT} times, duration {_REAL}s"
    rf"(?:, send {_BYTES}(?:,? recv {_BYTES})?)?"
    rf"(?:, send actions {_COUNT}, recv actions {_COUNT})?"
)
_LINK_TOTALS = re.compile(
    rf"{_BYTES}(?:,? recv {_BYTES})?, send actions {_COUNT}"
    rf"(?:, recv actions {_COUNT})?"
)
_MIB = 2**20
_GZIP_MARK = b"\x1f\x8b"
_UTF16_START = re.compile(rb"\xff\xfe[^\0]\0|\xfe\xff\0[^\0]")  # mark, a plain letter
_UNREAD_CHARS = 120  # of a line that is shown
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
        n_merged_lines: Lines of other parties or runs that Ray dropped in favour of
            these, since they differ in their numbers alone.
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
    n_merged_lines: int = 0


@dataclass(slots=True)
class _Section:
    """One `... profiling: total time` line and what follows it."""

    label: str
    total_s: float
    operations: list[Operation] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)  # in no layout that is known

    def problem(self) -> str | None:
        """Say which lines are lost: SPU's total is the exact sum of its lines."""
        found_s = math.fsum(o.duration_s for o in self.operations)
        if math.isclose(found_s, self.total_s, rel_tol=1e-7, abs_tol=1e-9):
            return None
        reason = "lines are missing"
        if found_s > self.total_s:
            reason = "lines are of another run"
        elif self.unread:
            reason = f"layout of {len(self.unread)} lines not known: {self.unread[0]!r}"
        return (
            f"{self.label} lines add up to {found_s:.9g} s of {self.total_s:.9g} s: "
            f"{reason}"
        )


@dataclass(slots=True)
class _OpenRun:
    """A run whose end has not been seen."""

    number: int
    run: SpuRun
    sections: list[_Section] = field(default_factory=list)
    has_link: bool = False
    n_merged_lines: int = 0

    def close(self) -> SpuRun:
        return replace(
            self.run,
            operations=tuple(o for s in self.sections for o in s.operations),
            problem=self._problem(),
            n_merged_lines=self.n_merged_lines,
        )

    def _problem(self) -> str | None:
        if not self.sections:
            return "no line per operation follows"
        for section in self.sections:
            if problem := section.problem():
                return problem
        operations = [o for s in self.sections for o in s.operations]
        if not self.has_link and any(o.bytes_sent is not None for o in operations):
            return "cut off: no 'Link details' line follows"
        if len({_layout(o) for o in operations}) > 1:
            return "lines are cut: some have fewer numbers than others"
        has_all = any(o.recv_actions is not None for o in operations)
        if has_all and self.run.recv_actions is None:
            return "cut off: the 'Link details' line is not whole"
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
        seen = read_line(line).text if JOURNAL_KEY in line else line  # bytes as numbers
        if _OPERATION in seen:
            self._on_operation(read_line(line))
        elif _HEADER in seen or _HEADER_END in seen:
            return self._on_header(read_line(line))
        elif _SECTION in seen:
            self._on_section(read_line(line))
        elif _LINK in seen:
            return self._on_link(read_line(line))
        elif self._name_lines:
            self._on_name_line(read_line(line))
        return None

    def _on_header(self, line: LogLine) -> _OpenRun | None:
        at = line.text.rfind(_HEADER)
        rest = line.text[at + len(_HEADER) :] if at >= 0 else line.text
        source = line.source(at)
        if _HEADER_END not in rest:
            self._name_lines[source] = [rest]
            return None
        name: str | None
        name, _, times_text = rest.rpartition(_HEADER_END)
        if at < 0:
            source, name = self._finish_name(line)
        times = _HEADER_TIMES.match(times_text)
        if times is None or name is None:
            return None
        input_s, execution_s, output_s, total_s = map(float, times.groups())
        ended = self._open.pop(source, None)
        self._n_runs += 1
        run = SpuRun(
            name=name,
            total_s=total_s,
            input_s=input_s,
            execution_s=execution_s,
            output_s=output_s,
            source=source,
        )
        opened = _OpenRun(self._n_runs, run, n_merged_lines=line.n_merged)
        self._open[source] = opened
        return ended

    def _on_name_line(self, line: LogLine) -> None:
        source = line.source(len(line.text))
        lines = self._name_lines.get(source)
        if lines is None:
            return
        lines.append(line.bare())
        if len(lines) > _NAME_LINES:
            del self._name_lines[source]

    def _finish_name(self, last: LogLine) -> tuple[str | None, str | None]:
        """Return source and name of a header whose first line came earlier."""
        source = last.source(len(last.text))
        lines = self._name_lines.pop(source, None)
        if lines is None:
            return source, None
        return source, "\n".join([*lines, last.bare().rpartition(_HEADER_END)[0]])

    def _find_run(self, line: LogLine, at: int) -> _OpenRun | None:
        """Return the run that a line belongs to, where its own text begins at `at`."""
        run = self._open.get(line.source(at))
        if run:
            run.n_merged_lines += line.n_merged
        return run

    def _on_section(self, line: LogLine) -> None:
        at = max(line.text.rfind(_SECTION) - len("HLO"), 0)
        run = self._find_run(line, at)
        total = _SECTION_TOTAL.fullmatch(line.text[at:].rstrip())
        if run and total:
            run.sections.append(_Section(total[1], float(total[2])))

    def _on_operation(self, line: LogLine) -> None:
        at = max(line.text.rfind("- ", 0, line.text.rfind(_OPERATION)), 0)
        run = self._find_run(line, at)
        text = line.text[at:].rstrip()
        if run is None or not run.sections:
            return
        section = run.sections[-1]
        if match := _OPERATION_LINE.fullmatch(text):
            section.operations.append(_operation(_LEVELS[section.label], match))
        elif _OPERATION_START.match(text):
            section.unread.append(text[:_UNREAD_CHARS])

    def _on_link(self, line: LogLine) -> _OpenRun | None:
        at = line.text.rfind(_LINK)
        match = _LINK_TOTALS.fullmatch(line.text[at + len(_LINK) :].rstrip())
        done = self._find_run(line, at) if match else None
        if match is None or done is None:
            return None
        del self._open[done.run.source]
        done.has_link = True
        sent, received, sends, receives = match.groups()
        done.run = replace(
            done.run,
            bytes_sent=_bytes(sent),
            bytes_received=_bytes(received),
            send_actions=_count(sends),
            recv_actions=_count(receives),
        )
        return done


def parse_spu_log(text: str) -> tuple[SpuRun, ...]:
    """Read the runs in a log, in the order in which they begin.

    Raises:
        LogError: If there is none.
    """
    return _parse_lines(io.StringIO(text, newline=None))


def read_spu_log(stream: BinaryIO) -> tuple[SpuRun, ...]:
    """Read the runs in a log of UTF-8 or UTF-16 bytes, packed by gzip or not.

    Bytes that do not decode are replaced.

    Raises:
        LogError: If there is no run, or a packed file is damaged.
    """
    peekable: io.BufferedReader = io.BufferedReader(stream)  # type: ignore[arg-type]
    try:
        if peekable.peek(2)[:2] == _GZIP_MARK:
            return _read_text(io.BufferedReader(gzip.GzipFile(fileobj=peekable)))
        return _read_text(peekable)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LogError(f"damaged gzip file: {error}") from None
    finally:
        peekable.detach()  # the stream stays open, it is the caller's


def _read_text(stream: io.BufferedReader) -> tuple[SpuRun, ...]:
    is_utf16 = _UTF16_START.match(stream.peek(4))
    encoding = "utf-16" if is_utf16 else "utf-8-sig"
    text = io.TextIOWrapper(stream, encoding, errors="replace", newline=None)
    try:
        return _parse_lines(text)
    finally:
        text.detach()


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


def _count(digits: str | None) -> int | None:
    return None if digits is None else int(digits)


def _bytes(text: str | None) -> int | None:
    """Return the bytes of `bytes 1024` or `0.5 MiB`, exact: MiB have all digits."""
    if text is None:
        return None
    if text.startswith("bytes "):
        return int(text.removeprefix("bytes "))
    return round(float(text.removesuffix(" MiB")) * _MIB)


def _layout(operation: Operation) -> tuple[bool, bool, bool]:
    """Return which numbers a line has; a build prints the same ones in each."""
    return (
        operation.bytes_sent is None,
        operation.bytes_received is None,
        operation.send_actions is None,
    )


def _operation(level: Level, match: re.Match[str]) -> Operation:
    name, count, duration_s, sent, received, sends, receives = match.groups()
    return Operation(
        level=level,
        name=name,
        count=int(count),
        duration_s=float(duration_s),
        bytes_sent=_bytes(sent),
        bytes_received=_bytes(received),
        send_actions=_count(sends),
        recv_actions=_count(receives),
    )
