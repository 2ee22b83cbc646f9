"""One line of a log, taken out of what a collector wrapped around it."""

import json
import re
from dataclasses import dataclass
from typing import Final

_ANSI: Final = re.compile(
    r"(?:\x1b|\^\[|#033)\[[0-9;?]*[ -/]*[@-~]"
)  # as cat -v, rsyslog
_ANSI_HINTS: Final = ("\x1b", "^[[", "#033[")
_RAY: Final = re.compile(
    r"\(([^\s()]*(?:\([^()]*\))?\s?pid=[0-9]+(?:, ip=[^\s()]+)?)\) ?"
)
_PREFIX_CHARS: Final = 400  # a prefix stands within so many of the text
_PREFIX: Final = re.compile(
    r"(?:(?P<compose>[\w.-]+) +\| "  # docker compose logs
    r"|\[(?P<kubectl>pod/[\w.-]+(?:/[\w.-]+)?)\] "  # kubectl logs --prefix
    r"|[A-Z][a-z]{2} +[0-9]{1,2} [0-9:]{8} (?P<journal>[\w.-]+ [\w./@-]+\[[0-9]+\]): )"
)
_MERGED: Final = re.compile(
    r"\[repeated ([0-9]{1,9})x across cluster\](?: \(Ray deduplicates [^\r\n]*)?\s*$"
)
JOURNAL_KEY: Final = '"MESSAGE"'  # its text may be a list of bytes
_TEXT_KEYS: Final = ("log", "message", "MESSAGE", "msg", "line", "text", "textPayload")
_SOURCE_KEYS: Final = (
    "container_name",
    "CONTAINER_NAME",
    "container_id",
    "pod",
    "_PID",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """Text that a program printed, without colours and without a collector's wrapping.

    Attributes:
        text: The line without its end; prefixes stay.
        wrapper: Name of container or process that a JSON object gives, None without.
        n_merged: Lines of other processes that Ray dropped in favour of this one.
    """

    text: str
    wrapper: str | None = None
    n_merged: int = 0

    def source(self, end: int) -> str | None:
        """Return what tells the printing process apart, from the text before `end`."""
        if "pid=" in self.text:
            before = self.text[max(end - _PREFIX_CHARS, 0) : max(end, 0)]
            if ray := _RAY.search(before):
                return ray[1]
        prefix = _PREFIX.match(self.text[:_PREFIX_CHARS])
        return prefix[prefix.lastgroup or 0] if prefix else self.wrapper

    def bare(self) -> str:
        """Return the text without the prefix of Ray or of a collector."""
        if "pid=" in self.text and _RAY.search(self.text[:_PREFIX_CHARS]):
            return _RAY.sub("", self.text, count=1)
        return _PREFIX.sub("", self.text, count=1)


def read_line(line: str) -> LogLine:
    """Unwrap a line: JSON of docker, fluentd, journald or Loki, ANSI, Ray's merging."""
    text, wrapper = _unwrap_json(line) if line.startswith("{") else (line, None)
    text = text.rstrip("\r\n")
    if any(hint in text for hint in _ANSI_HINTS):
        text = _ANSI.sub("", text)
    merged = _MERGED.search(text) if "x across cluster]" in text else None
    if merged is None:
        return LogLine(text=text, wrapper=wrapper)
    return LogLine(
        text=text[: merged.start()].rstrip(),
        wrapper=wrapper,
        n_merged=int(merged[1]) - 1,
    )


def _unwrap_json(line: str) -> tuple[str, str | None]:
    """Return text and source of a JSON object; the line itself where it is none."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return line, None
    if not isinstance(content, dict):
        return line, None
    text = next((content[key] for key in _TEXT_KEYS if key in content), line)
    if isinstance(text, list):  # journald gives bytes that are not plain text so
        text = _from_bytes(text)
    names = [content[key] for key in _SOURCE_KEYS if isinstance(content.get(key), str)]
    return (text if isinstance(text, str) else line), (names[0] if names else None)


def _from_bytes(values: list[object]) -> str | None:
    if not all(isinstance(value, int) and 0 <= value < 256 for value in values):
        return None
    return bytes(value for value in values if isinstance(value, int)).decode(
        "utf-8", errors="replace"
    )
