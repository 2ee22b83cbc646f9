"""What a call costs among many: its refills brought to the number that is expected.

Calls of one program in Cheetah differ by what they refill: rounds of oblivious
transfers, and half batches of triples. A few calls make more or fewer than their share,
and one round may take longer than all the rest of a call. How many a call made follows
from its bytes, how many it makes in the long run from SPU's source, and what one costs
from calls of one program that made different numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Final, NamedTuple

from mpcprof.costmodel.ferret import PRIMED_THREADS, TRANSFER_ROUND
from mpcprof.errors import RangeError
from mpcprof.units import format_duration

_NOISE: Final = 0.1  # of a round, by which ciphertexts of calls differ at most
# calls of one program find each stock of a thread short once more, or not
_MOST_APART: Final = 2 * PRIMED_THREADS
_SAME: Final = 1e-6  # squares of differences that rounding leaves


class Made(NamedTuple):
    """Refills of one call; not whole numbers for a mean one.

    Attributes:
        rounds: Rounds of oblivious transfers.
        half_batches: Half batches of triples.
        waits: Waits for these: a product makes all half batches that it needs at once.
    """

    rounds: float = 0.0
    half_batches: float = 0.0
    waits: float = 0.0

    def plus(self, other: "Made", n: float = 1.0) -> "Made":
        """Return these refills and `n` times the others."""
        return Made(*(own + n * more for own, more in zip(self, other, strict=True)))

    def times_each(self, each: "Made") -> float:
        """Return what they come to: seconds or bytes of `each` kind, summed."""
        return sum(n * one for n, one in zip(self, each, strict=True))

    @property
    def triples(self) -> "Made":
        """Those of triples alone."""
        return self._replace(rounds=0.0)

    @property
    def waits_each(self) -> float:
        """Waits for one half batch; 0 where there are none."""
        return self.waits / self.half_batches if self.half_batches else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """Calls of one program on one network, and the refills that they made.

    Attributes:
        made: Refills of each call.
        expected: Refills of a call in the long run.
    """

    latencies_s: tuple[float, ...]
    made: tuple[Made, ...]
    expected: Made

    @property
    def mean_made(self) -> Made:
        """Refills of the mean call."""
        return Made(*map(fmean, zip(*self.made, strict=True)))

    @property
    def surplus(self) -> Made:
        """Refills of the mean call beyond those expected; below 0 if it made fewer."""
        return self.mean_made.plus(self.expected, -1.0)

    def long_run_s(self, each_s: Made) -> float:
        """Return the seconds of a call among many, by the seconds of a refill.

        Raises:
            RangeError: If what is taken off is no less than the mean call.
        """
        mean_s, surplus_s = fmean(self.latencies_s), self.surplus.times_each(each_s)
        if surplus_s >= mean_s:
            raise RangeError(
                f"its calls take {format_duration(mean_s, digits=3)} in the mean, and "
                "refills beyond those expected alone would take "
                f"{format_duration(surplus_s, digits=3)}: measure it with more "
                "--repeats"
            )
        return mean_s - surplus_s


def count_refills(
    n_bytes: Sequence[int],
    expected: Made,
    half_batch_bytes: float,
    last: tuple[int | None, int | None] = (None, None),
) -> tuple[Made, ...] | None:
    """Return the refills of each call, from the bytes of all parties together.

    Bytes beyond those of the leanest call are whole refills; how many that call made
    are the whole numbers for which the mean call comes nearest to what is expected.
    None if the bytes of a call are not those of whole refills.

    Args:
        expected: Refills of a call in the long run.
        half_batch_bytes: Bytes of a half batch of triples.
        last: Rounds and half batches of the last call, where they are known.
    """
    half_bytes = half_batch_bytes if expected.half_batches else 0.0
    more = [_more(n - min(n_bytes), half_bytes) for n in n_bytes]
    found = [one for one in more if one is not None]
    if len(found) < len(more):
        return None
    kinds = zip(zip(*found, strict=True), expected, last, strict=False)
    least = Made(*(_fewest(*kind) for kind in kinds))
    whole = [one.plus(least) for one in found]
    return tuple(
        one._replace(waits=one.half_batches * expected.waits_each) for one in whole
    )


def _more(n_bytes: int, half_batch_bytes: float) -> Made | None:
    """Return the refills that send so many bytes; of several, with fewest rounds.

    Rounds may be below 0: the leaner call made one where this one made triples.
    """
    most = int(n_bytes / half_batch_bytes) + 1 if half_batch_bytes else 0
    fitting = []
    for n in range(most + 1):
        rounds = (n_bytes - n * half_batch_bytes) / TRANSFER_ROUND.bytes_sent
        is_whole = abs(rounds - round(rounds)) < _NOISE
        if is_whole and abs(rounds) < _MOST_APART + _NOISE:
            fitting.append(Made(round(rounds), n))
    return min(fitting, key=lambda made: abs(made.rounds), default=None)


def _fewest(numbers: Sequence[float], mean: float, last: int | None) -> float:
    """Return what is to be added so that the last one, or else the mean, is right.

    It is a whole number for which none is below 0.
    """
    missing = round(mean - fmean(numbers)) if last is None else last - numbers[-1]
    return max(missing, -min(numbers))


def triple_seconds(cases: Sequence[Calls]) -> Made:
    """Return the seconds of a half batch of triples and of a wait for some.

    The difference between calls of one program that differ by triples alone tells the
    sum; programs whose products need more half batches at once have fewer waits for
    each. Where all have as many, a wait is taken to cost nothing by itself.
    """
    found = [
        (slope, case.expected.waits_each, len(case.made))
        for case in cases
        for slope in _half_batch_slopes(case)
    ]
    if not found:
        return Made()
    weight = sum(n for *_, n in found)
    mean_s = sum(s * n for s, _, n in found) / weight
    mean_waits = sum(waits * n for _, waits, n in found) / weight
    square = sum(n * (waits - mean_waits) ** 2 for _, waits, n in found)
    product = sum(n * (waits - mean_waits) * (s - mean_s) for s, waits, n in found)
    wait_s = max(product / square, 0.0) if square > _SAME else 0.0
    return Made(0.0, max(mean_s - wait_s * mean_waits, 0.0), wait_s)


def times_longer(cases: Sequence[Calls], each_s: Made) -> float:
    """Return how many times the given seconds triples take in these calls; a median.

    1 if calls of no program differ by triples alone.
    """
    found = []
    for case in cases:
        expected_s = each_s.half_batches + each_s.waits * case.expected.waits_each
        found += [slope / expected_s for slope in _half_batch_slopes(case)]
    return median(found or [1.0])


def _half_batch_slopes(case: Calls) -> Iterator[float]:
    """Yield the seconds of a half batch and its waits, as calls of a case differ."""
    calls = [*zip(case.latencies_s, case.made, strict=True)]
    for rounds in {made.rounds for _, made in calls}:
        alike = [(s, m.half_batches) for s, m in calls if m.rounds == rounds]
        yield from _slope(alike)


def round_seconds(
    cases: Sequence[Calls], each_s: Made
) -> tuple[tuple[Calls, float], ...]:
    """Return each case whose calls differ by rounds, with the seconds of a round.

    Args:
        each_s: Seconds of triples, which are taken off.
    """
    found = []
    for case in cases:
        calls = zip(case.latencies_s, case.made, strict=True)
        points = [(s - m.triples.times_each(each_s), m.rounds) for s, m in calls]
        found += [(case, slope) for slope in _slope(points)]
    return tuple(found)


def _slope(points: Sequence[tuple[float, float]]) -> Iterator[float]:
    """Yield the slope of the first over the second number, if the second differs."""
    if not points:
        return
    mean_s, mean_n = (fmean(values) for values in zip(*points, strict=True))
    square = sum((n - mean_n) ** 2 for _, n in points)
    if square:
        yield sum((s - mean_s) * (n - mean_n) for s, n in points) / square
