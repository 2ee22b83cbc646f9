"""A tuning, for people and for programs."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Final

from mpcprof.costmodel.prediction import Prediction
from mpcprof.units import format_bytes, format_duration, format_hops
from mpcvit.tune.places import name_place
from mpcvit.tune.result import TuneOutcome, TuneResult

_duration = partial(format_duration, digits=4)
_STEPS_VERSION = 1  # of what `mpcprof plot` draws
_OUTSIDE: Final = "out of range"  # as the emulation counts it
_FAILURES: Final = {  # of the ring, by kind: what they are, and what helps
    "overflow": "products left the ring: take fewer fraction bits or a wider ring",
    _OUTSIDE: "values were outside of what the plan says: widen with --margin",
    "rsqrt": "inverse roots were taken of what SPU's cannot take",
    "division": "divisors were 0 or too large for SPU's division",
    "exp": "arguments of exp were too small for SPU's",
    "lost wrap": "truncations came out wrong, as those of each party alone may",
}


def steps_json(result: TuneResult) -> str:
    """Return the document of PLAN.steps.json, which `mpcprof plot` draws."""
    config = result.config
    return json.dumps(
        {
            "schema_version": _STEPS_VERSION,
            "title": f"{result.model}; {result.deployment}\n{config.network}, batch "
            f"{config.n_batch}",
            "untuned_s": result.before.prediction.latency_s,
            "steps": [
                {"name": step.name, "group": step.group, "saved_s": step.saved_s}
                for step in result.steps
            ],
        },
        indent=1,
    )


def tune_json(result: TuneResult) -> str:
    """Return the document of `mpcvit tune --json`."""
    config = result.config
    document = {
        "plan": str(config.output),
        "steps_file": str(config.steps_path),
        "model": result.model,
        "deployment": str(result.deployment),
        "network": str(config.network),
        "n_batch": config.n_batch,
        "dataset": result.dataset,
        "agreement": config.agreement,
        "margin": config.margin,
        "n_calibrated": result.n_calibrated,
        "n_deciding": result.n_deciding,
        "n_emulated": result.n_emulated,
        "before": _outcome_json(result.before),
        "rewritten": _outcome_json(result.rewritten),
        "after": _outcome_json(result.after),
        "steps": [asdict(step) for step in result.steps],
        "choices": [asdict(choice) for choice in result.choices],
        "leaving": asdict(result.leaving) | {"n_values": _count(result, _OUTSIDE)},
        "expected_failures": result.expected_failures,
        "n_failed": result.n_failed,
        "parties": asdict(result.parties) if result.parties else None,
        "failures": dict(result.failures),
        "notes": list(_notes(result)),
    }
    return json.dumps(_or_null(document), allow_nan=False)


def _or_null(value: object) -> object:
    """Return a document with None for numbers that JSON has no word for."""
    match value:
        case dict():
            return {key: _or_null(one) for key, one in value.items()}
        case list() | tuple():
            return [_or_null(one) for one in value]
        case float() if not math.isfinite(value):
            return None
    return value


def _outcome_json(outcome: TuneOutcome) -> dict[str, object]:
    prediction = outcome.prediction
    return {
        "latency_s": prediction.latency_s,
        "interval_s": list(prediction.interval_s),
        "bytes_sent": prediction.bytes_sent,
        "total_bytes_sent": prediction.total_bytes_sent,
        "hops": prediction.hops,
        **asdict(outcome.logits),
    }


def tune_lines(result: TuneResult) -> list[str]:
    """Return before and after, each choice with what it saved, and what to know."""
    config = result.config
    return [
        f"{result.model}; {result.deployment}; {config.network}, batch "
        f"{config.n_batch}, as {config.profile} predicts",
        *_table(result),
        f"logits against the plain network's: {result.after.logits.n_images} images "
        f"of {result.dataset} that decided nothing, emulated on the ring; chosen on "
        f"{result.n_deciding} others",
        "what saved it, one after the other:",
        *_step_lines(result),
        "what is done where:",
        *_choice_lines(result),
        _leaving_line(result),
        *_parties_lines(result),
        *(f"note: {note}" for note in _notes(result)),
        f"{config.output}: the plan; {config.steps_path}: for `mpcprof plot "
        f"{config.steps_path} waterfall`",
    ]


def _table(result: TuneResult) -> Iterator[str]:
    yield (
        f"{'':12}{'seconds':>10}{'hops':>8}{'sent by all':>13}{'same label':>12}"
        f"{'largest error':>15}{'median':>10}"
    )
    for name, outcome in (
        ("untuned", result.before),
        ("rewritten", result.rewritten),
        ("tuned", result.after),
    ):
        prediction, logits = outcome.prediction, outcome.logits
        yield (
            f"{name:12}{_duration(prediction.latency_s):>10}{format_hops(prediction.hops):>8}"
            f"{format_bytes(prediction.total_bytes_sent, digits=4):>13}"
            f"{logits.agreement:>12.2%}{logits.max_logit_error:>15.2g}"
            f"{logits.median_logit_error:>10.2g}"
        )


def _step_lines(result: TuneResult) -> Iterator[str]:
    width = max(len(step.name) for step in result.steps)
    for step in result.steps:
        share = step.saved_s / result.before.prediction.latency_s
        yield (
            f"  {step.name:{width}} {-step.saved_s:+8.3f} s {-share:+6.1%}  "
            f"{_duration(step.latency_s):>9}"
        )


def _choice_lines(result: TuneResult) -> Iterator[str]:
    if not result.choices:
        yield "  nothing to choose: no function is left that has an approximation"
        return
    width = max(len(choice.what) for choice in result.choices)
    yield (
        f"  {'place':24} {'choice':{width}} {'saved':>9} {'logits off':>11} "
        f"{'images outside':>15}"
    )
    for choice in result.choices:
        yield (
            f"  {name_place(choice.place):24} {choice.what:{width}} "
            f"{choice.saved_s:7.3f} s {choice.logit_error:11.2g} "
            f"{choice.n_leaving:15}"
        )


def _leaving_line(result: TuneResult) -> str:
    found, n_images = result.leaving, result.after.logits.n_images
    text = f"{found.n_images} of {n_images} images leave a range as rewritten"
    if found.n_images:
        text += f"; {found.n_disagreeing} of these get another label"
    n_values = _count(result, _OUTSIDE)
    return f"{text}; as tuned, {n_values} values are out of range"


def _count(result: TuneResult, kind: str) -> int:
    """Count failures of a kind in the emulation of the tuned network."""
    return sum(n for what, n in result.failures if what.endswith(f": {kind}"))


def _parties_lines(result: TuneResult) -> Iterator[str]:
    found = result.parties
    if found is None:
        return
    prediction = result.after.prediction
    off = prediction.latency_s / found.latency_s - 1
    hops = (
        "hops not counted" if found.hops is None else f"{format_hops(found.hops)} hops"
    )
    yield (
        f"real parties: {found.n_as_emulated} of {found.n_images} images have the "
        f"emulation's label, logits within {found.max_error:.2g} of it; measured "
        f"{_duration(found.latency_s)} a call (predicted {off:+.1%}), "
        f"{format_bytes(found.total_bytes_sent, digits=4)}, {hops}"
    )


def _notes(result: TuneResult) -> Iterator[str]:
    predictions: tuple[Prediction, ...] = (
        result.before.prediction,
        result.after.prediction,
    )
    yield from dict.fromkeys(note for one in predictions for note in one.notes)
    if result.expected_failures:
        n_images = result.after.logits.n_images
        yield (
            f"each party truncates for itself: {result.expected_failures:.2g} failures "
            f"an inference are expected ({result.config.accept_failures:g} accepted); "
            f"of {n_images} emulated inferences, {result.n_failed} had a failure"
        )
    logits = result.after.logits
    if logits.agreement < result.config.agreement:
        yield (
            f"{logits.agreement:.2%} of the reported labels stay, where "
            f"{result.config.agreement:.2%} of those that decided do: decide on more "
            "with --images, where there are more"
        )
    for kind, text in _FAILURES.items():
        if n := _count(result, kind):
            yield f"in the emulation of the tuned network {n} {text}"
    if result.parties_error:
        yield f"real parties said nothing: {result.parties_error}"
