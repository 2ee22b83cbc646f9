"""What one function costs: seconds, bytes, hops, and the operations they go to."""

import json
from dataclasses import dataclass
from typing import Any

from mpcprof.profile.export import profile_to_json_rows
from mpcprof.profile.record import Operation, Profile, Record
from mpcprof.progress import Progress
from mpcprof.sweep.config import make_config
from mpcprof.sweep.grid import get_preset, make_cases
from mpcprof.sweep.run import measure_once
from mpcprof.units import format_bytes, format_duration
from mpcprof.workloads.registry import Workload

_LEVELS = ("pphlo",)  # HAL and MPC lines repeat their time one and two levels down


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionReport:
    """The record of a function, for people and programs."""

    profile: Profile

    @property
    def record(self) -> Record:
        """The only one."""
        return self.profile.records[0]

    def headline(self) -> str:
        """Seconds, bytes and hops in one line."""
        record = self.record
        return (
            f"{record.workload}: {format_duration(record.latency_s, digits=4)} "
            f"({record.mode}, {self.profile.deployment.protocol}, {record.network}), "
            f"{format_bytes(record.bytes_sent, digits=4)} sent by rank 0, "
            f"{record.hops:g} hops ({record.hops_basis})"
        )

    def details(self) -> list[str]:
        """What the latency is made of, and what is not in it."""
        record = self.record
        network_s = record.hops * record.network.one_way_s
        transfer_s = record.wire_bytes / record.network.bandwidth_bytes_per_s
        parts = {
            "compute": record.compute_s,
            "hops": network_s,
            "transfer": transfer_s,
        }
        apart = {
            "compile": record.compile_s,
            "first call": record.first_call_s,
            "set-up": record.setup_s,
        }
        return [
            f"made of: {_durations(parts)}",
            f"not in it: {_durations(apart)}",
            f"largest error against the reference: {record.max_abs_error:.3g}",
        ]

    def operations(self) -> list[Operation]:
        """Whole operations of the program, slowest first."""
        whole = [o for o in self.record.operations if o.level in _LEVELS]
        return sorted(whole, key=lambda operation: -operation.duration_s)

    def operation_lines(self, n_lines: int) -> list[str]:
        """One line per operation; no bytes and messages where SPU prints none."""
        return [
            f"  {o.name:32} {o.count:5} x {format_duration(o.duration_s, digits=3):>9}"
            + _traffic(o)
            for o in self.operations()[:n_lines]
        ]

    def to_json(self) -> dict[str, object]:
        """The record as `table export` gives it, with the deployment."""
        row = profile_to_json_rows(self.profile)[0]
        return {"deployment": json.loads(self.profile.deployment.to_json()), **row}


def profile_function(
    workload: Workload,
    progress: Progress,
    **asked: Any,  # see make_config, which checks each
) -> FunctionReport:
    """Measure one function; see `mpcprof profile --help`.

    Raises:
        UsageError: If something asked for is not acceptable.
        EngineError: If it cannot be measured.
    """
    cases = make_cases((workload,), get_preset("quick"))
    config = make_config(cases=cases, **asked)
    records = measure_once(config, progress)
    return FunctionReport(
        profile=Profile(deployment=config.deployment, records=records)
    )


def _traffic(operation: Operation) -> str:
    if operation.bytes_sent is None:
        return ""
    return (
        f" {format_bytes(operation.bytes_sent, digits=3):>9} "
        f"{operation.send_actions or 0:5} messages"
    )


def _durations(parts: dict[str, float]) -> str:
    return ", ".join(
        f"{name} {format_duration(part_s, digits=3)}" for name, part_s in parts.items()
    )
