"""Text that people type and read, to and from SI seconds and bytes.

Inside the library only seconds, bytes and bytes per second exist. A parser here raises
a `ValueError`, so it is a click type as it stands.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from difflib import get_close_matches

from mpcprof.errors import UnitError, UsageError, did_you_mean

_NUMBER_AND_UNIT = re.compile(r"(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*(\D*)", re.ASCII)
_SPELLED_OUT = re.compile(r"([kmgt]i?)?(bit|byte)s?(ps|/s|/sec)?", re.IGNORECASE)
_CASE_IGNORED = re.compile(r"([kmgt]i?)?b?(ps|/s|/sec)?", re.IGNORECASE)
_MAX_DIGITS = 19  # sizes are 64-bit numbers on file
_DURATIONS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "min": Decimal(60),
    "h": Decimal(3600),
}
_SPELLED_DURATIONS = {
    "nsec": "ns",
    "usec": "us",
    "microsecond": "us",
    "msec": "ms",
    "millisecond": "ms",
    "sec": "s",
    "second": "s",
    "min": "min",
    "minute": "min",
    "hr": "h",
    "hour": "h",
}
_PREFIXES = {"": 0, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12}
_POWERS = {
    **{p: Decimal(10) ** n for p, n in _PREFIXES.items()},
    **{f"{p}i": Decimal(1024) ** n for n, p in enumerate("KMGT", start=1)},
}
_SIZES = {f"{p}B": n for p, n in _POWERS.items()}
_BANDWIDTHS = {
    f"{p}{letter}{per}": n / n_bits
    for p, n in _POWERS.items()
    for letter, n_bits in (("B", 1), ("b", 8))
    for per in ("ps", "/s", "/sec", "")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quantity:
    """What a text is read as.

    Attributes:
        name: Name with its article, such as "a duration".
        examples: Two good texts.
        units: Value of each unit.
        offered: Units that a message offers, one spelling of each.
        spell: Turns another spelling into one of the units, or returns it as it is.
        readings: Returns the units that an unclear one may stand for.
        why_unclear: What a message adds to them.
    """

    name: str
    examples: tuple[str, ...]
    units: Mapping[str, Decimal]
    offered: tuple[str, ...]
    spell: Callable[[str], str] = str
    readings: Callable[[str], tuple[str, ...]] = lambda _: ()
    why_unclear: str = ""

    @property
    def expected(self) -> str:
        """What a message says about a text that is none."""
        return f"expected {self.name} such as {' or '.join(self.examples)}"


def _spell_duration(unit: str) -> str:
    """Return `us` for either of the two letters micro, `ms` for tc's `msecs`."""
    unit = unit.replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u")
    return _SPELLED_DURATIONS.get(unit.removesuffix("s"), unit)


def _minutes_or_milliseconds(unit: str) -> tuple[str, ...]:
    return ("min", "ms") if unit in ("m", "M") else ()


def _spell_bandwidth(unit: str) -> str:
    """Return `Mb` for tc's `mbit`: spelled out, bits and bytes need no case."""
    match = _SPELLED_OUT.fullmatch(unit)
    if match is None:
        return unit
    return f"{_prefix(match[1])}{'b' if match[2].lower() == 'bit' else 'B'}"


def _bits_or_bytes(unit: str) -> tuple[str, ...]:
    """Return both readings of `mbps`, which is megabytes for tc, and of `M`."""
    match = _CASE_IGNORED.fullmatch(unit)
    if not unit or match is None:
        return ()
    return f"{_prefix(match[1])}bps", f"{_prefix(match[1])}Bps"


def _prefix(text: str | None) -> str:
    prefix = (text or "").capitalize()
    return "k" if prefix == "K" else prefix


_DURATION = _Quantity(
    name="a duration",
    examples=("40ms", "2s"),
    units=_DURATIONS,
    offered=tuple(_DURATIONS),
    spell=_spell_duration,
    readings=_minutes_or_milliseconds,
)
_BANDWIDTH = _Quantity(
    name="a bandwidth",
    examples=("44MBps", "352Mbps"),
    units=_BANDWIDTHS,
    offered=tuple(f"{p}{letter}ps" for letter in "bB" for p in ("k", "M", "G")),
    spell=_spell_bandwidth,
    readings=_bits_or_bytes,
    why_unclear=" (b is bits, B bytes; tc's bps are bytes)",
)
_SIZE = _Quantity(
    name="a size",
    examples=("64kB", "12MB"),
    units=_SIZES,
    offered=("B", "kB", "MB", "GB"),
)
_PERCENTAGE = _Quantity(
    name="a percentage", examples=("5%",), units={"%": Decimal("0.01")}, offered=("%",)
)


def _parse(text: str, quantity: _Quantity) -> float:
    """Read `number unit`, rounded once: 0.3ms is exactly the float 0.0003."""
    match = _NUMBER_AND_UNIT.fullmatch(text.strip())
    if match is None:
        raise UnitError(f"{text!r} is not {quantity.name}; {quantity.expected}")
    number, unit = match[1], match[2].strip()
    if not unit:
        suffixes = [example.lstrip("0123456789.") for example in quantity.examples]
        typed = " or ".join(f"{number}{suffix}" for suffix in suffixes)
        raise UnitError(f"{text!r} has no unit; type {typed}")
    known = quantity.spell(unit)
    if known not in quantity.units:
        raise UnitError(f"{text!r} {_what_is_wrong(number, unit, quantity)}")
    try:
        value = float(Decimal(number) * quantity.units[known])
    except ArithmeticError:
        value = math.inf
    if not math.isfinite(value):
        raise UnitError(f"{text!r} is too large; {quantity.expected}")
    return value


def _what_is_wrong(number: str, unit: str, quantity: _Quantity) -> str:
    if readings := quantity.readings(unit):
        meanings = " or ".join(f"{number}{reading}" for reading in readings)
        return f"may mean {meanings}{quantity.why_unclear}; type one of them"
    return f"has the unknown unit {unit!r}; {did_you_mean(unit, quantity.offered)}"


def is_duration(text: str) -> bool:
    """Tell whether the unit of a text is one of time, or nearer to one than a rate."""
    match = _NUMBER_AND_UNIT.fullmatch(text.strip())
    unit = match[2].strip() if match else ""
    if unit == "m" or _DURATION.spell(unit) in _DURATION.units:
        return True
    if _BANDWIDTH.spell(unit) in _BANDWIDTH.units or _BANDWIDTH.readings(unit):
        return False
    close = get_close_matches(unit.lower(), [*_DURATIONS, *_SPELLED_DURATIONS], n=1)
    return bool(close) and "b" not in unit.lower()


def parse_duration_s(text: str) -> float:
    """Read seconds from `40ms`, `0.3ms`, `20us`, `2s`, `1min`, `1h`.

    Raises:
        UnitError: If the unit is absent or unknown, or there is no number.
    """
    return _parse(text, _DURATION)


def parse_bandwidth_bytes_per_s(text: str) -> float:
    """Read bytes per second from `44MBps`, `44 MB/s`, `352Mbps`, `100mbit`, `1Gb`.

    M is 10^6 and Mi 2^20. The case of the B tells bytes (B) from bits (b), or the words
    `bit` and `byte` do, so `44mbps` is refused: for tc it is 44 MB/s.

    Raises:
        UnitError: If the unit is absent, unknown or unclear, or there is no number.
    """
    return _parse(text, _BANDWIDTH)


def parse_size_bytes(text: str) -> int:
    """Read whole bytes from `128B`, `1.5MB`, `2MiB`; MB is 10^6 bytes.

    Raises:
        UnitError: If the unit is absent or unknown, or the size is not whole bytes.
    """
    size_bytes = _parse(text, _SIZE)
    if not size_bytes.is_integer():
        raise UnitError(f"{text!r} is not a whole number of bytes; type such as 64kB")
    return int(size_bytes)


def parse_rounded_size_bytes(text: str) -> float:
    """Read bytes that somebody rounded, and that need not be whole: `0.989GiB`.

    Raises:
        UnitError: If the unit is absent or unknown, or there is no number.
    """
    return _parse(text, _SIZE)


def parse_percent(text: str) -> float:
    """Read the fraction 0.05 from `5%`.

    Raises:
        UnitError: If the percent sign is absent, or there is no number.
    """
    return _parse(text, _PERCENTAGE)


def _parse_size(text: str, whole: str, example: str) -> int:
    is_whole = text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS
    if not (is_whole and int(text) > 0):
        raise UsageError(
            f"{text!r} in {whole!r}: expected a whole number of at least 1, "
            f"as in {example}"
        )
    return int(text)


def parse_shape(text: str) -> tuple[int, ...]:
    """Read the shape (4, 65, 65) from `4x65x65`.

    Raises:
        UsageError: If a size is not a whole number of at least 1.
    """
    return tuple(_parse_size(s.strip(), text, "4x65x65") for s in text.split("x"))


def parse_int_list(text: str) -> tuple[int, ...]:
    """Read the sizes (1, 2, 4) from `1,2,4`, each once, in the order typed.

    Raises:
        UsageError: If a size is not a whole number of at least 1.
    """
    sizes = (_parse_size(s.strip(), text, "1,2,4") for s in text.split(","))
    return tuple(dict.fromkeys(sizes))


def _format(
    value: float, units: Mapping[str, Decimal], digits: int | None, gap: str
) -> str:
    """Write in the largest unit in which the number is at least 1, or the smallest."""
    exact = Decimal(repr(float(value)))
    if digits is not None:
        exact = Context(prec=digits).plus(exact)
    largest_first = sorted(units, key=units.__getitem__, reverse=True)
    fitting = (u for u in largest_first if abs(exact) >= units[u])
    unit = next(fitting, largest_first[-1])
    number = (exact / units[unit]).normalize()
    style = "f" if -7 < number.adjusted() < 16 else "e"
    return f"{number:{style}}{gap}{unit}"


def format_duration(seconds: float, *, digits: int | None = None) -> str:
    """Write `40ms`, which parses back, or `1.23 s` for reading (digits=3)."""
    units = {u: s for u, s in _DURATIONS.items() if u in ("us", "ms", "s")}
    if seconds == 0:
        units = {"s": Decimal(1)}
    return _format(seconds, units, digits, "" if digits is None else " ")


def format_at_least(seconds: float) -> str:
    """Write four digits, rounded up: `9.419s`, typed again, is not less."""
    exact = Decimal(repr(float(seconds)))
    rounded = Context(prec=4, rounding=ROUND_CEILING).plus(exact)
    return format_duration(float(rounded))


def format_bytes(size_bytes: float, *, digits: int | None = None) -> str:
    """Write `12MB`, which parses back, or `11.8 MB` for reading (digits=3)."""
    units = {f"{p}B": Decimal(10) ** n for p, n in _PREFIXES.items() if p != "K"}
    return _format(size_bytes, units, digits, "" if digits is None else " ")


def format_bandwidth(bytes_per_s: float, *, digits: int | None = None) -> str:
    """Write `44MBps`, which parses back, or `44 MBps` for reading (digits=3)."""
    units = {f"{p}Bps": Decimal(10) ** n for p, n in _PREFIXES.items() if p != "K"}
    return _format(bytes_per_s, units, digits, "" if digits is None else " ")


def format_hops(hops: float) -> str:
    """Write `93.6` hops of a mean, and `20` where the decimal would be 0."""
    rounded = round(hops, 1) + 0.0  # no -0
    return f"{rounded:.1f}".removesuffix(".0")
