"""The trained networks of a family: how accurate, and how many private seconds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mpcprof.blocks import Architecture, trace_model
from mpcprof.blocks.architecture import Heads
from mpcprof.costmodel import CostModel, load_cost_model
from mpcprof.errors import UsageError
from mpcprof.network import Network
from mpcprof.profile_io import read_profile
from mpcvit.checkpoint import read_checkpoint
from mpcvit.pareto.measured import (
    MEASURED,
    Measured,
    MeasuredConditions,
    read_measured,
    write_measured,
)

_CHECKPOINT = "model.safetensors"
_DECIMALS = 9  # of seconds: heads in another order add up to no other latency

# (checkpoint's file, heads) to seconds of a private inference of one image
Measure = Callable[[Path, Heads | None], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One trained network.

    Attributes:
        group: What it is drawn as: `searched`, `random`, ...
        name: Its folder.
        accuracy: On the test images, in [0, 1].
        predicted_s: A private inference of one image.
        measured_s: The same by real parties; None if nobody measured it.
    """

    group: str
    name: str
    accuracy: float
    predicted_s: float
    measured_s: float | None = None

    @property
    def latency_s(self) -> float:
        """Measured where it was, else predicted."""
        return self.predicted_s if self.measured_s is None else self.measured_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is compared.

    Attributes:
        runs: GROUP=FOLDER, or FOLDER as a group of its own name; every checkpoint in
            and below it. A checkpoint's file instead of a folder is that one alone.
        heads: As in each checkpoint if None.
    """

    runs: tuple[str, ...]
    profile: Path
    network: Network
    heads: Heads | None = None


def gather(request: Request, measure: Measure | None = None) -> tuple[Member, ...]:
    """Every member, the fastest first.

    What was measured under the same conditions is on file beside its checkpoint and
    not measured again.

    Raises:
        UsageError: If a folder holds no checkpoint, one was never tested, or what was
            measured of one is damaged.
        ProfileError: If the profile cannot be read.
        MissingEntryError: If it lacks an operation.
    """
    model = load_cost_model(read_profile(request.profile))
    members = [
        _member(request, model, group, path, measure)
        for group, folder in map(_parse_run, request.runs)
        for path in _checkpoints(folder)
    ]
    return tuple(sorted(members, key=lambda member: (member.latency_s, member.name)))


def _parse_run(text: str) -> tuple[str, Path]:
    if Path(text).exists():  # whatever its name has an = for
        return Path(text).name, Path(text)
    group, separator, folder = text.partition("=")
    return (group, Path(folder)) if separator else (Path(text).name, Path(text))


def _checkpoints(folder: Path) -> list[Path]:
    found = [folder] if folder.is_file() else sorted(folder.rglob(_CHECKPOINT))
    if not found:
        raise UsageError(
            f"no {_CHECKPOINT} in or below {str(folder)!r}: expected the folder of a "
            "finished `mpcvit train`, or one of several"
        )
    return found


def _member(
    request: Request,
    model: CostModel,
    group: str,
    path: Path,
    measure: Measure | None,
) -> Member:
    checkpoint = read_checkpoint(path)
    if checkpoint.accuracy is None:
        raise UsageError(
            f"{path} does not say its test accuracy: expected a checkpoint that "
            "`mpcvit train` wrote"
        )
    architecture = checkpoint.architecture
    architecture = replace(architecture, heads=request.heads or architecture.heads)
    return Member(
        group=group,
        name=path.parent.name,
        accuracy=checkpoint.accuracy,
        predicted_s=predict_s(model, architecture, request.network),
        measured_s=_measured_s(request, model, path, architecture, measure),
    )


def predict_s(model: CostModel, architecture: Architecture, network: Network) -> float:
    """Seconds of one image; equal for equal heads in whatever order."""
    latency_s = model.predict(trace_model(architecture), network).latency_s
    return round(latency_s, _DECIMALS)


def _measured_s(
    request: Request,
    model: CostModel,
    path: Path,
    architecture: Architecture,
    measure: Measure | None,
) -> float | None:
    conditions = MeasuredConditions(
        architecture=architecture.to_json(),
        deployment=str(model.deployment),
        network=str(request.network),
    )
    file = path.with_name(MEASURED)
    known = read_measured(file)
    if known and known.conditions == conditions:
        return known.latency_s
    if measure is None:
        return None
    latency_s = measure(path, request.heads)
    write_measured(file, Measured(conditions=conditions, latency_s=latency_s))
    return latency_s


def is_on_front(member: Member, members: Sequence[Member]) -> bool:
    """Whether no other is at least as accurate and quicker, or as quick and better."""
    return not any(
        other.accuracy >= member.accuracy
        and other.latency_s <= member.latency_s
        and (other.accuracy, other.latency_s) != (member.accuracy, member.latency_s)
        for other in members
    )
