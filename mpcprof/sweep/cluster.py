"""A sweep over the hosts of a Ray cluster: each keeps its parties and takes cases."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from mpcprof.cluster import Cluster
from mpcprof.engine.installation import get_runtime
from mpcprof.engine.measure import Case
from mpcprof.pricing import Calibration
from mpcprof.profile.record import Record
from mpcprof.progress import Progress, Silent
from mpcprof.provenance import host_description
from mpcprof.sweep.cases import BLOCK_CASES, CaseRun, LeftOut
from mpcprof.sweep.config import SweepConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredShare:
    """What a host measured of the cases that it took.

    Attributes:
        left_out: Cases without a record.
        lines: What there is to say of them.
        setup_s: Seconds of set-up on that host so far.
        timed_s: Seconds in calls for these cases.
    """

    records: tuple[Record, ...]
    left_out: tuple[LeftOut, ...]
    lines: tuple[str, ...]
    setup_s: float
    timed_s: float


class _Lines(Silent):
    def __init__(self) -> None:
        self._lines: list[str] = []

    def say(self, line: str) -> None:
        self._lines.append(line)

    def take(self) -> tuple[str, ...]:
        lines, self._lines = tuple(self._lines), []
        return lines


class SweepWorker:
    """Measures cases of a sweep on its host, in a session that stays.

    Args:
        known: Calibrations on file by host.
    """

    def __init__(self, config: SweepConfig, known: Mapping[str, Calibration]) -> None:
        get_runtime(config.deployment.build)
        self._config = config
        self._lines = _Lines()
        own = known.get(host_description())
        self._run = CaseRun(config, (), self._lines, own)
        self._lines.take()
        self._blocks = self._run.blocks()

    def take(self, items: tuple[int, ...]) -> MeasuredShare:
        """Measure the cases of these numbers.

        Raises:
            EngineError: If parties or network of this host fail.
        """
        n_left_out, timed_s = len(self._run.left_out), self._run.timed_s
        self._run.add([self._config.cases[item] for item in items])
        records: list[Record] = []
        while self._run.n_waiting:
            block = next(self._blocks, None)
            if block is None:  # a session ended with a case that failed
                self._blocks = self._run.blocks()
            else:
                records += block
        return MeasuredShare(
            records=tuple(records),
            left_out=tuple(self._run.left_out[n_left_out:]),
            lines=self._lines.take(),
            setup_s=self._run.setup_s,
            timed_s=self._run.timed_s - timed_s,
        )

    def close(self) -> None:
        """End the parties."""
        self._blocks.close()


class ClusterRun:
    """Cases on their way through the hosts of a cluster; as `CaseRun` for a sweep."""

    def __init__(
        self,
        address: str,
        config: SweepConfig,
        cases: Sequence[Case],
        progress: Progress,
        known: Mapping[str, Calibration],
    ) -> None:
        self._address = address
        self._config = config
        self._items = [config.cases.index(case) for case in cases]
        self._progress = progress
        self._known = known
        self._n_calls = config.plan().n_calls
        self.left_out: list[LeftOut] = []
        self.setup_s = 0.0
        self.timed_s = 0.0
        progress.say(
            f"{len(cases)} cases to measure, {len(config.cases) - len(cases)} on file "
            f"already; on the cluster {address}"
        )
        progress.begin(len(cases) * self._n_calls)

    def blocks(self) -> Generator[tuple[Record, ...], None, None]:
        """Yield records as hosts return them."""
        if not self._items:
            return
        make = partial(SweepWorker, self._config, self._known)
        setup_s: dict[str, float] = {}  # by host
        with Cluster(self._address, make, self._progress) as cluster:
            shares = cluster.run(self._items, most_each=BLOCK_CASES)
            with closing(shares):
                for share in shares:
                    if share.answer.records:
                        yield share.answer.records
                    self._account(share.answer, share.host)
                    setup_s[share.host] = share.answer.setup_s
                    self._progress.advance(len(share.items) * self._n_calls)
            self._progress.say(cluster.dispatch(sum(setup_s.values())))

    def _account(self, measured: MeasuredShare, host: str) -> None:
        for line in measured.lines:
            self._progress.say(f"{host}: {line}")
        self.left_out += measured.left_out
        self.setup_s = max(self.setup_s, measured.setup_s)
        self.timed_s += measured.timed_s
