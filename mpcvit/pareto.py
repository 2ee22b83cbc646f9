"""Accuracy of trained networks against seconds of their private inference.

Seconds by real parties are kept in `measured.json`, beside the checkpoint that ran.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from mpcprof.costmodel.model import CostModel, fit_cost_model
from mpcprof.costmodel.prediction import Prediction
from mpcprof.errors import UsageError
from mpcprof.files import read_json, replace_file
from mpcprof.money import Tariff
from mpcprof.network import Network
from mpcprof.nn.architecture import Architecture, Heads
from mpcprof.nn.catalogue import trace_model
from mpcprof.nn.plan import REWRITES, Plan, choose_plan
from mpcprof.profile.io import read_profile
from mpcvit.checkpoint import read_checkpoint
from mpcvit.checkpoint_header import read_header
from mpcvit.search.layers.result import FINALIST_NAME, FINALISTS
from mpcvit.secure.model_owner import check_made_for, checkpoint_digest
from mpcvit.train.folder import MODEL, deciding_settings
from mpcvit.train.run import OWN_TEACHER_FOLDER

MEASURED: Final = "measured.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredConditions:
    """What was run, how and where; seconds of other conditions say nothing.

    Attributes:
        architecture: The JSON object of `architecture.json`.
        deployment: The deployment in words.
        network: The network in words.
        plan: Digest of the plan; "" without one.
    """

    architecture: dict[str, Any]  # Any: JSON, only ever compared
    deployment: str
    network: str
    plan: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A private inference of one image, by real parties.

    Raises:
        UsageError: If the seconds are not above 0 and finite.
    """

    conditions: MeasuredConditions
    latency_s: float

    def __post_init__(self) -> None:
        if not 0 < self.latency_s < math.inf:  # refuses NaN too
            raise UsageError(
                f"latency_s={self.latency_s}: expected a finite time above 0"
            )


def write_measured(path: Path, measured: Measured) -> None:
    """Make the measurement the content of the file, at once.

    Raises:
        FileError: If the folder or the disk does not let us.
    """
    replace_file(path, json.dumps(asdict(measured)))


def read_measured(path: Path) -> Measured | None:
    """Read what `write_measured` wrote; None if there is no file.

    Raises:
        UsageError: If it cannot be read, or is not such a file; one line that says
            what is wrong.
    """
    if not path.exists():
        return None
    try:
        return read_json(path, Measured)
    except UsageError as error:
        raise UsageError(
            f"{error}; expected a file that `mpcvit pareto --measured` wrote: move it "
            "away, and that command measures anew"
        ) from None


_DECIMALS = 9  # of seconds: heads in another order add up to no other latency

# (checkpoint's file, heads, plan) to seconds of a private inference of one image
Measure = Callable[[Path, Heads | None, str | None], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One trained network.

    Attributes:
        group: Group in the legend: `searched`, `random`, ...
        name: Name of its folder.
        accuracy: Accuracy on the test images, in [0, 1].
        predicted_s: Predicted seconds of a private inference of one image.
        measured_s: Seconds of one by real parties; None if nobody measured it.
        dataset: Name of the data set that it was trained on.
        training: Digest of its architecture and of all that was asked of its training
            but the seed; "" if nobody knows.
        cost: Price of a private inference of one image; None without a tariff.
    """

    group: str
    name: str
    accuracy: float
    predicted_s: float
    measured_s: float | None = None
    dataset: str = ""
    training: str = ""
    cost: float | None = None

    @property
    def latency_s(self) -> float:
        """Measured seconds where there are any, else predicted ones."""
        return self.predicted_s if self.measured_s is None else self.measured_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoConfig:
    """The networks to compare, and where they would run.

    Attributes:
        runs: GROUP=FOLDER, or FOLDER as a group of its own name, with every checkpoint
            in and below it; or the file of one checkpoint.
        heads: How heads run; None as in each checkpoint.
        plan: `rewrites`, or a plan's file; a plan file of the same name beside a
            checkpoint is taken instead. None for the networks as they are.
        tariff: What machines and traffic cost; None for no money.
    """

    runs: tuple[str, ...]
    profile: Path
    network: Network
    heads: Heads | None = None
    plan: str | None = None
    tariff: Tariff | None = None


def gather(config: ParetoConfig, measure: Measure | None = None) -> tuple[Member, ...]:
    """Return every member, the fastest first.

    What was measured under the same conditions is on file beside its checkpoint and
    not measured again.

    Raises:
        UsageError: If a folder holds no checkpoint, one was never tested, or what was
            measured of one is damaged.
        ProfileError: If the profile cannot be read.
        MissingEntryError: If it lacks an operation.
    """
    model = fit_cost_model(read_profile(config.profile))
    members = [
        _member(config, model, group, path, measure)
        for group, folder in map(_parse_run, config.runs)
        for path in _checkpoints(folder)
    ]
    return tuple(sorted(members, key=lambda member: (member.latency_s, member.name)))


def _parse_run(text: str) -> tuple[str, Path]:
    if Path(text).exists():  # whatever its name has an = for
        return Path(text).name, Path(text)
    group, separator, folder = text.partition("=")
    return (group, Path(folder)) if separator else (Path(text).name, Path(text))


def _checkpoints(folder: Path) -> list[Path]:
    found = [folder]
    if not folder.is_file():
        below = sorted(folder.rglob(MODEL))
        found = [one for one in below if one.parent == folder or not _is_part(one)]
    if not found:
        raise UsageError(
            f"no {MODEL} in or below {str(folder)!r}: expected the folder of a "
            "finished `mpcvit train`, or one of several"
        )
    return found


def _is_part(path: Path) -> bool:
    """Return whether a run made this checkpoint for itself: its teacher, a finalist.

    The accuracy of a finalist is that of images held out, and not of test images. The
    search may have ended with others since, or not yet.
    """
    name, run = path.parent.name, path.parent.parent
    is_named = name == OWN_TEACHER_FOLDER or FINALIST_NAME.fullmatch(name)
    # of the run, which may be a copy, or unfinished
    files = (MODEL, "config.json", FINALISTS)
    return bool(is_named) and any((run / one).exists() for one in files)


def _member(
    config: ParetoConfig,
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
    architecture = replace(architecture, heads=config.heads or architecture.heads)
    asked = _plan_of(config.plan, path)
    plan = choose_plan(
        asked,
        architecture,
        deployment=model.deployment,
        network=config.network,
        heads=config.heads,
    )
    if plan:
        check_made_for(plan, path)
    steps = trace_model(architecture, 1, plan)
    predicted = model.predict(steps, config.network)
    member = Member(
        group=group,
        name=path.parent.name,
        accuracy=checkpoint.accuracy,
        predicted_s=round(predicted.latency_s, _DECIMALS),
        measured_s=_measured_s(config, model, path, architecture, plan, measure),
        dataset=checkpoint.dataset,
        training=_digest_training(architecture, path),
    )
    return replace(member, cost=_cost(config, model, member, predicted))


def _cost(
    config: ParetoConfig, model: CostModel, member: Member, predicted: Prediction
) -> float | None:
    """Return the price of the seconds that a member has and of the predicted bytes."""
    if config.tariff is None:
        return None
    bill = config.tariff.bill(
        n_parties=model.deployment.n_parties,
        latency_s=member.latency_s,
        total_bytes_sent=predicted.total_bytes_sent,
    )
    return bill.total.amount


def _digest_training(architecture: Architecture, path: Path) -> str:
    """Return what trainings share that differ in nothing but the seed.

    A teacher that was trained for one of them has its seed, too. Without the folder's
    settings, which a copied checkpoint has not, only the architecture tells them apart.
    """
    try:
        settings = read_json(path.with_name("config.json"), dict)
    except UsageError:
        settings = {}
    told = deciding_settings({**settings, "architecture": architecture.to_json()})
    told["recipe.seed"] = None
    teacher = path.parent / OWN_TEACHER_FOLDER / path.name
    taught_by = settings.get("teacher_sha256")
    if taught_by and teacher.is_file() and checkpoint_digest(teacher) == taught_by:
        own = read_header(teacher).transformer
        told["teacher_sha256"] = _digest_training(own, teacher)
    text = json.dumps(told, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plan_of(asked: str | None, checkpoint: Path) -> str | None:
    """Return the plan of that name beside the checkpoint if there is one."""
    if not asked or asked == REWRITES:
        return asked
    beside = checkpoint.with_name(Path(asked).name)
    return str(beside) if beside.exists() else asked


def predict_s(
    model: CostModel,
    architecture: Architecture,
    network: Network,
    plan: Plan | None = None,
) -> float:
    """Return the seconds of one image; the order of heads does not change them."""
    steps = trace_model(architecture, 1, plan)
    latency_s = model.predict(steps, network).latency_s
    return round(latency_s, _DECIMALS)


def _measured_s(
    config: ParetoConfig,
    model: CostModel,
    path: Path,
    architecture: Architecture,
    plan: Plan | None,
    measure: Measure | None,
) -> float | None:
    conditions = MeasuredConditions(
        architecture=json.loads(architecture.to_json()),
        deployment=str(model.deployment),
        network=str(config.network),
        plan=plan.digest if plan else "",
    )
    file = path.with_name(MEASURED)
    known = read_measured(file)
    if known and known.conditions == conditions:
        return known.latency_s
    if measure is None:
        return None
    latency_s = measure(path, config.heads, _plan_of(config.plan, path))
    write_measured(file, Measured(conditions=conditions, latency_s=latency_s))
    return latency_s
