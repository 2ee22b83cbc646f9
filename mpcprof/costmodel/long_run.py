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

_NOISE: Final = 0.1  # of a round, by which ciphertexts of calls differ at most
# calls of one program find each stock of a thread short once more, or not
_MOST_APART: Final = 2 * PRIMED_THREADS


class Made(NamedTuple):
    """Refills of one call; not whole numbers for a mean one.

    Attributes:
        rounds: Rounds of oblivious transfers.
        half_batches: Half batches of triples.
    """

    rounds: float = 0.0
    half_batches: float = 0.0

    def plus(self, other: "Made", n: float = 1.0) -> "Made":
        """Return these refills and `n` times the others."""
        return Made(
            self.rounds + n * other.rounds, self.half_batches + n * other.half_batches
        )

    def times_each(self, each: "Made") -> float:
        """Return what they come to: seconds or bytes of `each` kind, summed."""
        return self.rounds * each.rounds + self.half_batches * each.half_batches


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
        """Return the seconds of a call among many, by the seconds of a refill."""
        return fmean(self.latencies_s) - self.surplus.times_each(each_s)


def count_refills(
    n_bytes: Sequence[int],
    expected: Made,
    half_batch_bytes: float,
    last_half_batches: int | None = None,
) -> tuple[Made, ...] | None:
    """Return the refills of each call, from the bytes of all parties together.

    Bytes beyond those of the leanest call are whole refills; how many that call made
    are the whole numbers for which the mean call comes nearest to what is expected.
    None if the bytes of a call are not those of whole refills.

    Args:
        expected: Refills of a call in the long run.
        half_batch_bytes: Bytes of a half batch of triples.
        last_half_batches: Half batches of the last call, where they are known.
    """
    half_bytes = half_batch_bytes if expected.half_batches else 0.0
    more = [_more(n - min(n_bytes), half_bytes) for n in n_bytes]
    found = [one for one in more if one is not None]
    if len(found) < len(more):
        return None
    rounds, half_batches = zip(*found, strict=True)
    fewest = _fewest(half_batches, expected.half_batches)
    if last_half_batches is not None:
        fewest = max(last_half_batches - half_batches[-1], -min(half_batches))
    least = Made(_fewest(rounds, expected.rounds), fewest)
    return tuple(one.plus(least) for one in found)


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


def _fewest(numbers: Sequence[float], mean: float) -> float:
    """Return the whole number that brings a mean nearest to another, none below 0."""
    return max(round(mean - fmean(numbers)), -min(numbers))


def half_batch_seconds(cases: Sequence[Calls]) -> float:
    """Return the median seconds by which a half batch of triples makes a call longer.

    0 if calls of no program differ by that alone.
    """
    return median([*_half_batch_slopes(cases)] or [0.0])


def _half_batch_slopes(cases: Sequence[Calls]) -> Iterator[float]:
    for case in cases:
        calls = [*zip(case.latencies_s, case.made, strict=True)]
        for rounds in {made.rounds for _, made in calls}:
            alike = [(s, m.half_batches) for s, m in calls if m.rounds == rounds]
            yield from _slope(alike)


def round_seconds(
    cases: Sequence[Calls], half_batch_s: float
) -> tuple[tuple[Calls, float], ...]:
    """Return each case whose calls differ by rounds, with the seconds of a round."""
    found = []
    for case in cases:
        calls = zip(case.latencies_s, case.made, strict=True)
        points = [(s - m.half_batches * half_batch_s, m.rounds) for s, m in calls]
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
