"""What parties answer, as values: calls, set-up, and transfers of shares."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mpcprof.engine.child import Reply
from mpcprof.engine.emulation import clock
from mpcprof.engine.emulation.clock import Counters, LineCount
from mpcprof.engine.party.framing import Header
from mpcprof.engine.spulog import SpuRun, parse_spu_log
from mpcprof.errors import EngineError
from mpcprof.profile.record import Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One run of a loaded case.

    Attributes:
        latency_s: Seconds from the first party's begin until the last one's end.
        busy_s_by_rank: Processor seconds of each party's threads together.
        runs: What SPU printed, one per rank. Where a build prints no bytes, they are
            those that the relay saw on an emulated network, and None on loopback.
        counters: What the network between the parties counted, if it can.
        spans_s: Begin and end of each party, on the clock of the machine.
        driver_s: Seconds that the parties' drivers took for the call beside that, such
            as for compiling and sending the program; 0 where there are none.
    """

    latency_s: float
    busy_s_by_rank: tuple[float, ...]
    runs: tuple[SpuRun, ...]
    counters: Counters | None
    spans_s: tuple[tuple[float, float], ...] = ()
    driver_s: float = 0.0

    @property
    def total_bytes(self) -> int:
        """Bytes that all parties sent, as SPU counts them, or as the relay does."""
        counted = [run.bytes_sent for run in self.runs if run.bytes_sent is not None]
        if counted or self.counters is None:
            return sum(counted)
        return self.counters.carried_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What it took to have parties that can compute.

    Attributes:
        n_starts: How often parties were started; those that hung in their first
            program are in no other number.
        start_s: Seconds to start the processes and import SPU; not part of `setup_s`.
        setup_s: Seconds to connect and exchange keys (base OT in Cheetah) on loopback.
        setup_bytes: Bytes sent for that, summed over parties, as SPU counts them; where
            a build does not, as the relay does, framing included.
        versions: Package versions in the parties' Python.
    """

    n_starts: int
    start_s: float
    setup_s: float
    setup_bytes: int
    versions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """Inputs that one party has in a file of its own.

    Attributes:
        rank: The owner, the only party that is told the file.
        path: One array as .npy, or a safetensors file.
        shapes: Shape of each array; the controller knows no more of them.
        entries: Names in the safetensors file, in the order of the shapes, or none.
    """

    rank: int
    path: Path
    shapes: tuple[tuple[int, ...], ...]
    entries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Shares of inputs or outputs on their way to other parties.

    Attributes:
        latency_s: Seconds from the first party's begin until the last one's end.
        total_bytes_sent: Payload bytes, summed over parties.
    """

    latency_s: float
    total_bytes_sent: int


def to_call(replies: Sequence[Reply], counters: Counters | None) -> Call:
    """Make a call of the replies of all ranks to one `run` command.

    Raises:
        EngineError: If lines are missing in what SPU printed.
    """
    latency_s, driver_s = _elapsed_s(replies), 0.0
    if "called_s" in replies[0][0]:
        begun_s, called_s, done_s = (
            [reply[name] for reply, _ in replies]
            for name in ("begin_s", "called_s", "done_s")
        )
        # a driver has its party begin when the program has come: SPU's part of the call
        # begins with the last of them
        latency_s -= max(begun_s) - min(begun_s)
        driver_s = max(done_s) - min(called_s) - latency_s
    return Call(
        latency_s=latency_s,
        driver_s=driver_s,
        busy_s_by_rank=tuple(reply["busy_s"] for reply, _ in replies),
        runs=tuple(_read_run(rank, reply) for rank, (reply, _) in enumerate(replies)),
        counters=counters,
        spans_s=tuple((reply["begin_s"], reply["end_s"]) for reply, _ in replies),
    )


def counted_by_messages(replies: Sequence[Reply]) -> Counters:
    """Return what messages told of a call: chains to each party, and what it sent."""
    counted = [reply["counted"] for reply, _ in replies]
    lines = tuple(
        LineCount(
            sender=rank,
            receiver=peer,
            n_messages=n_messages,
            payload_bytes=n_bytes,
            n_waits=0,
        )
        for rank, own in enumerate(counted)
        for peer, n_messages, n_bytes in own["sent"]
    )
    heaviest = clock.Path(*max(own["heaviest"] for own in counted))
    return Counters(
        lower=heaviest,
        upper=heaviest,
        deepest=clock.Path(*max(own["deepest"] for own in counted)),
        carried_bytes=sum(line.payload_bytes for line in lines),
        lines=lines,
    )


def to_transfer(replies: Sequence[Reply]) -> Transfer:
    """Make a transfer of the replies of all ranks to one `hold` or `reveal` command."""
    return Transfer(
        latency_s=_elapsed_s(replies),
        total_bytes_sent=sum(reply["bytes_sent"] for reply, _ in replies),
    )


def split_outputs(
    n_chunks: Sequence[int], blobs: Sequence[bytes]
) -> list[Sequence[bytes]]:
    """Return the blobs (meta, chunks) of each output."""
    ends = [*itertools.accumulate(1 + n for n in n_chunks)]
    return [blobs[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def counted_at_relay(runs: Sequence[SpuRun], counters: Counters) -> tuple[SpuRun, ...]:
    """Return the runs of all ranks with the bytes and messages that the relay saw."""
    counted = []
    for rank, run in enumerate(runs):
        sent = [line for line in counters.lines if line.sender == rank]
        received = [line for line in counters.lines if line.receiver == rank]
        counted.append(
            replace(
                run,
                bytes_sent=sum(line.payload_bytes for line in sent),
                bytes_received=sum(line.payload_bytes for line in received),
                send_actions=sum(line.n_messages for line in sent),
                recv_actions=sum(line.n_messages for line in received),
            )
        )
    return tuple(counted)


def _elapsed_s(replies: Sequence[Reply]) -> float:
    ends_s = [reply["end_s"] for reply, _ in replies]
    return float(max(ends_s) - min(reply["begin_s"] for reply, _ in replies))


def _read_run(rank: int, reply: Header) -> SpuRun:
    """Return the profile of a run, which a party answers or SPU printed."""
    if "profile" in reply:
        profile = dict(reply["profile"])
        operations = [Operation(**one) for one in profile.pop("operations")]
        return SpuRun(input_s=0.0, output_s=0.0, operations=(*operations,), **profile)
    run = parse_spu_log(reply["log"])[-1]
    if run.problem:
        raise EngineError(f"party {rank} printed a profile with a gap: {run.problem}")
    return run
