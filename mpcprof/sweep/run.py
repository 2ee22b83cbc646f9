"""A grid of cases through the engine into a profile that is valid at every moment."""

import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpcprof.engine.installation import get_runtime
from mpcprof.engine.measure import Case, Timing
from mpcprof.errors import ProfileError, UsageError
from mpcprof.pricing import Calibration
from mpcprof.profile.io import ProfileWriter
from mpcprof.profile.record import Profile, Record
from mpcprof.progress import SILENT, Progress
from mpcprof.provenance import host_description
from mpcprof.sweep.cases import CaseRun, LeftOut, known_calibrations
from mpcprof.sweep.config import SweepConfig

if TYPE_CHECKING:
    from mpcprof.sweep.cluster import ClusterRun


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """What came of a sweep.

    Attributes:
        profile: All records on file now.
        n_measured: Cases measured by this call.
        n_resumed: Cases that were on file before.
        left_out: Cases that failed or would have taken too long.
        setup_s: Seconds of calibration, starting parties, and checking the link; of
            several hosts at once, those of the slowest.
        measuring_s: All other seconds, until the last record was on file.
        timed_s: Part of `measuring_s` in calls, first ones and warm-ups included; of
            several hosts, their sum.
    """

    profile: Profile
    n_measured: int
    n_resumed: int
    left_out: tuple[LeftOut, ...]
    setup_s: float
    measuring_s: float
    timed_s: float

    @property
    def has_failed(self) -> bool:
        """Whether a case failed, or none of those asked for is on file."""
        if any(one.has_failed for one in self.left_out):
            return True
        return bool(self.left_out) and not self.n_measured + self.n_resumed


def sweep(
    config: SweepConfig,
    path: str | os.PathLike[str],
    progress: Progress = SILENT,
    *,
    is_fresh: bool = False,
    calibration: Calibration | None = None,
    cluster: str = "",
    clock: Callable[[], float] = time.monotonic,
) -> SweepResult:
    """Measure every case that is not on file yet.

    Args:
        calibration: This host's constants, where they are known.
        cluster: Address of a Ray cluster whose hosts measure; "" for this one.

    Raises:
        ProfileError: If the file cannot be continued or written, or has a case of
            another emulation.
        EngineError: If parties or network fail; what was finished is on file.
    """
    if not cluster:
        get_runtime(config.deployment.build)
    if config.parties and cluster:
        raise UsageError("--parties and --cluster: expected one of them")
    if config.is_network_seen:
        raise UsageError(
            "--parties without --network: records are of a network that stays; measure "
            "it with `mpcprof link --parties PARTY.toml --output link.json`, then "
            "--network link.json"
        )
    with ProfileWriter(path, config.deployment, fresh=is_fresh) as writer:
        missing = _missing(config, writer.profile, path)
        known = known_calibrations(writer.profile, config.network)
        if calibration is not None:
            known[host_description()] = calibration
        run = _make_run(config, missing, progress, known, cluster, clock)
        begin_s = clock()
        with closing(run.blocks()) as blocks:  # no party outlives a failed write
            for records in blocks:
                writer.append(records)
        return SweepResult(
            profile=writer.profile,
            n_measured=len(missing) - len(run.left_out),
            n_resumed=len(config.cases) - len(missing),
            left_out=tuple(run.left_out),
            setup_s=run.setup_s,
            measuring_s=clock() - begin_s - run.setup_s,
            timed_s=run.timed_s,
        )


def _missing(
    config: SweepConfig, profile: Profile, path: str | os.PathLike[str]
) -> list[Case]:
    """Return the cases that are not on file.

    Raises:
        ProfileError: If one is, measured on another kind of network: keys are equal.
    """
    missing = []
    for case in config.cases:
        key, asked = config.key_of(case), config.recorded_emulation
        if key not in profile:
            missing.append(case)
        elif (found := profile.get(key).emulation) != asked:
            raise ProfileError(
                f"{os.fspath(path)!r} has {key} by emulation {found!r}, and this run "
                f"measures by {asked!r}: choose another file with --output, or start "
                "this one anew with --fresh"
            )
    return missing


def _make_run(
    config: SweepConfig,
    missing: list[Case],
    progress: Progress,
    known: dict[str, Calibration],
    cluster: str,
    clock: Callable[[], float],
) -> "CaseRun | ClusterRun":
    if cluster:
        from mpcprof.sweep.cluster import ClusterRun

        return ClusterRun(cluster, config, missing, progress, known)
    own = known.get(host_description())
    return CaseRun(config, missing, progress, own, clock)


def measure_once(
    config: SweepConfig,
    progress: Progress = SILENT,
    on_timing: Callable[[Timing], None] = lambda timing: None,
) -> tuple[Record, ...]:
    """Return the record of every case, and those of its scopes behind it; to no file.

    Args:
        on_timing: Called with the raw calls of each case.

    Raises:
        EngineError: If a case cannot be measured.
    """
    run = CaseRun(config, config.cases, progress, leaves_out=False, on_timing=on_timing)
    return tuple(record for block in run.blocks() for record in block)
