"""Text that people type and read, to and from SI seconds and bytes.

Inside the library only seconds, bytes and bytes per second exist. A parser here raises
a `ValueError`, so it is a click type as it stands.
"""

import math
import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Context, Decimal

from mpcprof.errors import UnitError, UsageError

_NUMBER_AND_UNIT = re.compile(r"(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*(\D*)", re.ASCII)
_MAX_DIGITS = 19  # sizes are 64-bit numbers on file
_DURATIONS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "min": Decimal(60),
}
_PREFIXES = {"": 0, "k": 3, "K": 3, "M": 6, "G": 9, "T": 12}
_SIZES = {f"{p}B": Decimal(10) ** n for p, n in _PREFIXES.items()}
_BITS = {f"{p}b": Decimal(10) ** n / 8 for p, n in _PREFIXES.items()}
_BANDWIDTHS = {
    **{f"{u}{per}": s for u, s in _SIZES.items() for per in ("ps", "/s")},
    **{f"{u}{per}": s for u, s in _BITS.items() for per in ("ps", "/s", "it/s")},
}


def _parse(
    text: str, units: Mapping[str, Decimal], what: str, examples: tuple[str, ...]
) -> float:
    """Read `number unit`, rounded once: 0.3ms is exactly the float 0.0003."""
    expected = f"expected {what} such as {' or '.join(examples)}"
    match = _NUMBER_AND_UNIT.fullmatch(text.strip())
    if match is None:
        raise UnitError(f"{text!r} is not {what}; {expected}")
    number, unit = match[1], match[2].strip()
    if not unit:
        suffixes = [example.lstrip("0123456789.") for example in examples]
        typed = " or ".join(f"{number}{suffix}" for suffix in suffixes)
        raise UnitError(f"{text!r} has no unit; type {typed}")
    if unit not in units:
        close = [known for known in units if known.lower() == unit.lower()]
        known = ", ".join(close or units)
        raise UnitError(f"{text!r} has the unknown unit {unit!r}; known: {known}")
    try:
        value = float(Decimal(number) * units[unit])
    except ArithmeticError:
        value = math.inf
    if not math.isfinite(value):
        raise UnitError(f"{text!r} is too large; {expected}")
    return value


def parse_duration_s(text: str) -> float:
    """Read seconds from `40ms`, `0.3ms`, `20us`, `2s`, `1min`.

    Raises:
        UnitError: If the unit is absent or unknown, or there is no number.
    """
    return _parse(text, _DURATIONS, "a duration", ("40ms", "2s"))


def parse_bandwidth_bytes_per_s(text: str) -> float:
    """Read bytes per second from `44MBps`, `44MB/s`, `352Mbps` (bits), `1Gbps`.

    M is 10^6. The case of the B tells bytes (B) from bits (b), so `44mbps` is refused.

    Raises:
        UnitError: If the unit is absent or unknown, or there is no number.
    """
    return _parse(text, _BANDWIDTHS, "a bandwidth", ("44MBps", "352Mbps"))


def parse_size_bytes(text: str) -> int:
    """Read whole bytes from `128B`, `1.5MB`; MB is 10^6 bytes.

    Raises:
        UnitError: If the unit is absent or unknown, or the size is not whole bytes.
    """
    size_bytes = _parse(text, _SIZES, "a size", ("64kB", "12MB"))
    if not size_bytes.is_integer():
        raise UnitError(f"{text!r} is not a whole number of bytes; type such as 64kB")
    return int(size_bytes)


def parse_percent(text: str) -> float:
    """Read the fraction 0.05 from `5%`.

    Raises:
        UnitError: If the percent sign is absent, or there is no number.
    """
    return _parse(text, {"%": Decimal("0.01")}, "a percentage", ("5%",))


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
    units = {u: s for u, s in _SIZES.items() if u != "KB"}
    return _format(size_bytes, units, digits, "" if digits is None else " ")


def format_bandwidth(bytes_per_s: float, *, digits: int | None = None) -> str:
    """Write `44MBps`, which parses back, or `44 MBps` for reading (digits=3)."""
    units = {f"{u}ps": s for u, s in _SIZES.items() if u != "KB"}
    return _format(bytes_per_s, units, digits, "" if digits is None else " ")
