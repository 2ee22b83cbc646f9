"""One layer of every system on real parties, held against its prediction."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mpcprof.costmodel.model import fit_cost_model
from mpcprof.deployment import Deployment
from mpcprof.errors import UsageError
from mpcprof.network import Network
from mpcprof.nn.architecture import Heads
from mpcprof.nn.preset import ModelPreset
from mpcprof.profile.record import Profile
from mpcprof.progress import Progress
from mpcprof.units import format_duration
from mpcprof.verify.draw import Drawn, model_case
from mpcprof.verify.report import CaseResult, VerifyResult
from mpcprof.verify.run import VerifyConfig, verify
from mpcprof.zoo.systems import SYSTEMS, get_system

_NEEDS_WEIGHTS: Final = (
    "its plan has the ranges of trained weights, which zoo measure has not; measure "
    "trained weights by mpcvit pareto NAME=CHECKPOINT --plan plan.json --measured"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooMeasurement:
    """Systems measured, in the order asked for.

    Attributes:
        names: Name of the system of each case of `verified`.
    """

    names: tuple[str, ...]
    verified: VerifyResult

    def to_json(self) -> str:
        """Return the document of `zoo measure --json`."""
        document = json.loads(self.verified.to_json())
        for name, case in zip(self.names, document["cases"], strict=True):
            case["system"] = name
        return json.dumps(document, indent=1)

    def lines(self) -> list[str]:
        """Return a line for each system, what was left out, and a summary."""
        verified = self.verified
        pairs = zip(self.names, verified.results, strict=True)
        left_out = [f"left out: {reason}" for reason in verified.left_out]
        is_elsewhere = verified.hosts != verified.profile_hosts
        return [
            f"{verified.deployment}, one layer",
            *(_line(*pair) for pair in pairs),
            *left_out,
            *([f"note: {verified.machines()}"] if is_elsewhere else ()),
            str(verified.summary),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemProgress:
    """Shows the name of a system where that of its case would stand, which is a digest.

    Attributes:
        names: Name of the system of each case, by how the case is shown.
    """

    watcher: Progress
    names: Mapping[str, str]

    def begin(self, n_steps: int, *, n_done: int = 0) -> None:
        """Pass on how many steps there are."""
        self.watcher.begin(n_steps, n_done=n_done)

    def advance(self, n_steps: int = 1) -> None:
        """Pass on how many steps are done."""
        self.watcher.advance(n_steps)

    def describe(self, text: str) -> None:
        """Pass on what is under way."""
        self.watcher.describe(self.named(text))

    def say(self, line: str) -> None:
        """Pass on a line that stays."""
        self.watcher.say(self.named(line))

    def named(self, text: str) -> str:
        """Return a text with systems by their names."""
        for shown, name in self.names.items():
            text = text.replace(shown, name)
        return text


def _line(name: str, result: CaseResult) -> str:
    return (
        f"{name:20} {format_duration(result.predicted_s, digits=4):>8} predicted, "
        f"{format_duration(result.measured_s, digits=4):>8} measured on "
        f"{result.network} ({result.error:+.1%}); bytes {result.bytes_error:+.3%}, "
        f"hops {result.hops_error:+.2%}"
    )


def one_layer(
    name: str, sizes: ModelPreset, heads: Heads, deployment: Deployment
) -> Drawn:
    """Return the first layer of a system as a case, between embedding and classifier.

    Of a plan, the first layer's ranges hold there, and those behind the last layer.
    """
    system = get_system(name)
    whole = system.build(sizes, heads)
    plan = system.plan_of(whole, deployment)
    layer = replace(
        whole,
        model=replace(whole.model, n_layers=1),
        **{
            key: getattr(whole, key)[:1]
            for key in ("attention", "activation", "norm", "mlp_ratio")
        },
    )
    own = plan and replace(plan, layers=plan.layers[:1], architecture="")
    return model_case(layer, 1, own)


def measure_systems(
    profile: Profile,
    sizes: ModelPreset,
    networks: Sequence[Network],
    path: str | os.PathLike[str],
    progress: Progress,
    *,
    names: Sequence[str] = (),
    heads: Heads = "batched",
    emulation: str = "auto",
    repeats: int = 3,
    warmups: int = 1,
    seed: int = 0,
    is_fresh: bool = False,
) -> ZooMeasurement:
    """Measure one layer of these sizes, embedding and classifier included, by system.

    What is on file at `path` is not measured again.

    Args:
        names: Systems; none for all, where those that are no networks of these sizes,
            or have a plan, are left out with the reason.

    Raises:
        UnknownNameError: If there is no such system.
        UsageError: If a named system is another model's, or has a plan.
        MissingEntryError: If the profile lacks an operation.
        EngineError: If nothing could be measured; it says why.
    """
    cases: dict[Drawn, str] = {}
    left_out: list[str] = []
    chosen = {name: get_system(name) for name in names or SYSTEMS}
    for name, system in chosen.items():
        try:
            if system.plan:
                raise UsageError(_NEEDS_WEIGHTS)
            cases[one_layer(name, sizes, heads, profile.deployment)] = name
        except UsageError as error:
            if names:
                raise UsageError(f"{name}: {error}") from None
            left_out.append(f"{name}: {error}")
    config = VerifyConfig(
        profile=profile,
        model=fit_cost_model(profile),
        cases=tuple(cases),
        networks=tuple(networks),
        emulation=emulation,
        repeats=repeats,
        warmups=warmups,
        seed=seed,
    )
    by_workload = {case.name: name for case, name in cases.items()}
    shown = SystemProgress(
        watcher=progress, names={f"{n} [n_batch=1]": s for n, s in by_workload.items()}
    )
    result = verify(config, path, shown, is_fresh=is_fresh)
    found = tuple(by_workload[one.workload] for one in result.results)
    refused = map(shown.named, result.left_out)
    result = replace(result, left_out=(*left_out, *refused))
    return ZooMeasurement(names=found, verified=result)
