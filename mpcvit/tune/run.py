"""Tuning: the plan of fewest predicted seconds under which labels stay the same."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mpcprof.errors import EngineError, TerminatedError, TuningError
from mpcprof.files import check_writable, new_folders_removed, replace_file
from mpcprof.nn.approximation import InverseBounds
from mpcprof.nn.plan import Plan, write_plan
from mpcprof.progress import SILENT, Progress
from mpcvit.data.image_set import choose_evenly
from mpcvit.tune.config import TuneConfig
from mpcvit.tune.judge import Judge
from mpcvit.tune.ladder import (
    Alternative,
    Choice,
    back_off,
    find_first,
    frontier,
    most_trials,
)
from mpcvit.tune.parties import classify_by_parties
from mpcvit.tune.places import (
    describe,
    leaving,
    name_place,
    share_damped,
    summarise,
    values_of,
    with_value,
)
from mpcvit.tune.ranges import Kind, Place
from mpcvit.tune.report import steps_json
from mpcvit.tune.result import Group, Leaving, PlaceChoice, TuneResult, TuneStep
from mpcvit.tune.subject import Subject, prepare
from mpcvit.tune.truncation import local_deployments

_N_JUDGED: Final = 16  # images by which the error of one place is judged
_GROUPS: Final[dict[Kind, Group]] = {  # in the order of the steps
    "activation": "activation",
    "scores": "softmax",
    "total": "softmax",
    "norm1": "norm",
    "norm2": "norm",
    "last_norm": "norm",
}


def tune(config: TuneConfig, progress: Progress = SILENT) -> TuneResult:
    """Choose rewrites and approximations for a trained network, and write its plan.

    Raises:
        UsageError: If the checkpoint, the data or a number cannot be used.
        ProfileError: If the profile cannot be read.
        MissingEntryError: If it lacks an operation of the network.
        TuningError: If even the exact rewrites do not agree as asked.
    """
    with new_folders_removed(config.output):
        check_writable(config.output)
        check_writable(config.steps_path)
        return _tune(prepare(config, progress), progress)


def _tune(subject: Subject, progress: Progress) -> TuneResult:
    config = subject.config
    progress.describe("emulating the untuned and the rewritten network")
    subject = _agreeing(subject)
    before = subject.outcome(subject.untuned)
    rewritten = subject.outcome(subject.rewritten)
    choices = back_off(_ladders(subject, progress))
    subject, chosen, n_emulated = _choose(subject, choices, progress)
    plan = subject.apply(chosen)
    subject.reporter.failures.clear()
    logits = subject.reporter.emulated(plan)
    architecture = subject.architecture
    result = TuneResult(
        config=config,
        plan=plan,
        model=f"{architecture.model.name}, {architecture.n_layers} layers",
        failures=_failures(subject.reporter),
        n_failed=_count_failed(subject, logits),
        expected_failures=subject.judge.expected_failures(plan),
        deployment=plan.deployment or subject.model.deployment,
        dataset=subject.dataset.name,
        n_calibrated=min(config.n_calibration, len(subject.dataset.train)),
        n_emulated=n_emulated,
        n_deciding=subject.judge.n_images,
        before=before,
        rewritten=rewritten,
        after=subject.judged(plan, logits),
        steps=tuple(_steps(subject, chosen)),
        choices=_place_choices(subject, chosen),
        leaving=_count_leaving(subject, chosen, logits),
    )
    write_plan(config.output, plan)
    replace_file(config.steps_path, steps_json(result))
    return _ask_parties(subject, result, logits, progress)


def _choose(
    subject: Subject, choices: Sequence[Choice], progress: Progress
) -> tuple[Subject, Choice, int]:
    """Return the network under the deployment that is taken, the choice, and trials.

    Local truncation is taken with the most fraction bits that hold what was asked for.
    """
    config, n_trials, failures = subject.config, 0, None
    profiled = subject.model.deployment
    for deployment in (*local_deployments(profiled, config.accept_failures), profiled):
        under = subject if deployment == profiled else subject.under(deployment)
        index, n_more = _search(under, choices, progress)
        n_trials += n_more
        if index is None:
            continue
        failures = under.judge.expected_failures(under.apply(choices[index]))
        if failures <= config.accept_failures:
            return under, choices[index], n_trials
    if failures is None:
        raise TuningError(
            f"no plan keeps {config.agreement:.2%} of {subject.judge.n_images} labels: "
            "lower --agreement, or take more images with --calibration"
        )
    raise TuningError(
        f"{profiled} fails {failures:.2g} times an inference: expected at most "
        f"{config.accept_failures:g}; accept more with --accept-failures, or take a "
        "profile without trunc_allow_msb_error or of fewer fraction bits"
    )


def _ask_parties(
    subject: Subject,
    result: TuneResult,
    logits: NDArray[np.float64],
    progress: Progress,
) -> TuneResult:
    """Add what real parties say of some of the reported images, if they are asked."""
    config = result.config
    if not config.n_by_parties:
        return result
    kept = choose_evenly(subject.reported.labels.numpy(), config.n_by_parties)
    images = subject.reported.images[kept]
    try:
        found = classify_by_parties(
            config, subject.checkpoint, result.plan, images, logits[kept], progress
        )
    except TerminatedError:
        raise
    except EngineError as error:  # all but this was found, and the plan is written
        return replace(result, parties_error=str(error))
    return replace(result, parties=found)


def _failures(judge: Judge) -> tuple[tuple[str, int], ...]:
    named = {f"{part}: {what}": n for (part, what), n in judge.failures.items()}
    return tuple(sorted(named.items()))


def _agreeing(subject: Subject) -> Subject:
    """Return the subject, whose exact rewrites keep the labels that were asked for.

    Where an image is so near a tie that they alone are expected to change more than
    half a label, plans are held to what `agreement` allows, though that be no label.

    Raises:
        TuningError: If they do not keep them.
    """
    config, judge = subject.config, subject.judge
    if judge.agrees(subject.rewritten, config.agreement):
        return subject
    logits = judge.emulated(subject.rewritten)
    agreement = float((logits.argmax(axis=1) == judge.plain.argmax(axis=1)).mean())
    n_expected = judge.expected_changes(logits)
    n_asked = (1 - config.agreement) * judge.n_images
    if agreement < config.agreement or not n_expected <= n_asked:
        raise TuningError(
            f"before any approximation {agreement:.2%} of {judge.n_images} labels are "
            f"those of the plain network, and {n_expected:.2g} are expected to change: "
            f"asked for {config.agreement:.2%}, which lets {n_asked:.2g} change; lower "
            "--agreement, or take a profile of more fraction bits"
        )
    return replace(subject, judge=judge.expecting(n_asked))


def _count_failed(subject: Subject, logits: NDArray[np.float64]) -> int:
    """Count images with a logit that is off by more than all logits are apart."""
    plain = subject.reporter.plain
    errors = np.abs(logits - plain).max(axis=1)
    return int((~(errors <= plain.max() - plain.min())).sum())


def _ladders(
    subject: Subject, progress: Progress
) -> dict[Place, tuple[Alternative, ...]]:
    """Price and judge what could be done at each place."""
    places = [place for place in subject.calibrated if place.kind in _GROUPS]
    progress.begin(len(places))
    ladders = {}
    for place in places:
        progress.describe(f"judging {name_place(place)}")
        ladders[place] = _ladder(subject, place)
        progress.advance()
    return ladders


def _ladder(subject: Subject, place: Place) -> tuple[Alternative, ...]:
    """Return the alternatives of a place that pay, with the error of each alone."""
    own_s = subject.predict(subject.rewritten).latency_s
    values = values_of(
        subject.architecture, subject.calibrated, place, subject.config.margin
    )
    priced = []
    for value, error in values:
        plan = with_value(subject.rewritten, place, value, subject.calibrated)
        latency_s = subject.predict(plan).latency_s
        if latency_s < own_s:
            priced.append(Alternative(value=value, latency_s=latency_s, error=error))
    damped = [one for one in priced if _is_damped(one)]
    exact = [one for one in priced if not _is_damped(one)]
    found = (*frontier(exact), *frontier(damped))
    judged = [_judged(subject, place, one) for one in found]
    own = Alternative(value=None, latency_s=own_s, error=0.0)
    return frontier([*judged, own])


def _is_damped(one: Alternative) -> bool:
    return isinstance(one.value, InverseBounds) and one.value.is_damped


def _judged(subject: Subject, place: Place, one: Alternative) -> Alternative:
    plan = with_value(subject.rewritten, place, one.value, subject.calibrated)
    return replace(one, error=subject.judge.exact_error(plan, _N_JUDGED))


def _search(
    subject: Subject, choices: Sequence[Choice], progress: Progress
) -> tuple[int | None, int]:
    """Return the position of the choice that holds, if one does, and the trials."""
    n_trials = 0

    def holds(choice: Choice) -> bool:
        nonlocal n_trials
        n_trials += 1
        progress.describe(f"emulating plan {n_trials}")
        plan, agreement = subject.apply(choice), subject.config.agreement
        is_so: bool = subject.judge.agrees(plan, agreement)
        progress.advance()
        return is_so

    progress.begin(most_trials(choices))
    return find_first(choices, holds), n_trials


# ---------------------------------------------------------------- what was chosen


def _rewrites(subject: Subject) -> Iterator[tuple[str, Plan]]:
    """Yield plans from the untuned one on, each with one rewrite more."""
    untuned, done = subject.untuned, subject.rewritten
    if untuned.heads != done.heads:
        yield "heads batched", replace(untuned, heads=done.heads)
    plain = [
        replace(layer, n_together=own.n_together)
        for layer, own in zip(untuned.layers, done.layers, strict=True)
    ]
    together = replace(untuned, heads=done.heads, layers=tuple(plain))
    if any(own.n_together > 1 for own in done.layers):
        yield "heads in one product", replace(together, deployment=done.deployment)
    yield "weights folded", replace(done, is_pruned=False)
    if done.is_pruned:
        yield "last layer of the class token alone", done


def _choice_groups(chosen: Choice) -> dict[tuple[Group, str], list[Place]]:
    """Return the places of each kind of choice but the checkpoint's own way."""
    groups: dict[tuple[Group, str], list[Place]] = {}
    for kind, group in _GROUPS.items():
        for place, one in chosen.items():
            if place.kind == kind and one.value:
                name = summarise(place, one.value)
                groups.setdefault((group, name), []).append(place)
    order = [*dict.fromkeys(_GROUPS.values())]
    return dict(sorted(groups.items(), key=lambda item: order.index(item[0][0])))


def _steps(subject: Subject, chosen: Choice) -> Iterator[TuneStep]:
    """Yield the steps from the untuned to the tuned network."""
    plans: list[tuple[str, Group, Plan]] = [
        (name, "rewrite", plan) for name, plan in _rewrites(subject)
    ]
    so_far: dict[Place, Alternative] = {}
    for (group, what), places in _choice_groups(chosen).items():
        so_far |= {place: chosen[place] for place in places}
        name = f"{what} ({_count(places)})"
        plans.append((name, group, subject.apply(so_far)))
    own, profiled = subject.rewritten.deployment, subject.model.deployment
    plans = [(n, group, replace(plan, deployment=profiled)) for n, group, plan in plans]
    if own != profiled:
        plans.append(
            ("truncation by each party alone", "option", subject.apply(chosen))
        )
    before_s = subject.predict(subject.untuned).latency_s
    for name, group, plan in plans:
        latency_s = subject.predict(plan).latency_s
        saved_s = before_s - latency_s
        yield TuneStep(name=name, group=group, latency_s=latency_s, saved_s=saved_s)
        before_s = latency_s


def _count(places: Sequence[Place]) -> str:
    return "1 place" if len(places) == 1 else f"{len(places)} places"


def _place_choices(subject: Subject, chosen: Choice) -> tuple[PlaceChoice, ...]:
    profiled = replace(subject.rewritten, deployment=subject.model.deployment)
    own_s = subject.predict(profiled).latency_s
    return tuple(
        PlaceChoice(
            place=place,
            what=_what(subject, place, one),
            saved_s=own_s - one.latency_s,
            logit_error=one.error,
            n_leaving=int(_leaving(subject, place, one).sum()),
        )
        for place, one in chosen.items()
    )


def _what(subject: Subject, place: Place, one: Alternative) -> str:
    share = share_damped(one.value, place, subject.calibrated[place])
    return describe(one.value) + (f", {share:.2%} damped" if share else "")


def _leaving(subject: Subject, place: Place, one: Alternative) -> NDArray[np.bool_]:
    return leaving(one.value, place, subject.calibrated, subject.met)


def _count_leaving(
    subject: Subject, chosen: Choice, logits: NDArray[np.float64]
) -> Leaving:
    found = [_leaving(subject, place, one) for place, one in chosen.items()]
    is_outside = np.any(found, axis=0) if found else np.zeros(len(logits), bool)
    is_other = logits.argmax(axis=1) != subject.reporter.plain.argmax(axis=1)
    return Leaving(
        n_images=int(is_outside.sum()), n_disagreeing=int((is_outside & is_other).sum())
    )
