"""What stands in a report: how a profile was measured, what it says, how well."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from mpcprof.costmodel.fit import held_out_errors
from mpcprof.costmodel.model import CostModel
from mpcprof.costmodel.prediction import Prediction
from mpcprof.errors import MissingEntryError, ProfileError
from mpcprof.figures import FIGURES
from mpcprof.network import Network
from mpcprof.nn.architecture import get_model, uniform_architecture
from mpcprof.profile.io import read_profile
from mpcprof.profile.parts import misfit
from mpcprof.profile.record import Profile, Record
from mpcprof.report.document import (
    ReportDocument,
    ReportFigure,
    ReportSection,
    ReportTable,
)
from mpcprof.units import format_bandwidth, format_bytes, format_duration, format_hops

_ATTENTIONS: Final = ("softmax", "relu_softmax", "scale")
_WHAT: Final = ("model", "attention", "network")  # a prediction is of
_UNSTABLE: Final = 0.1  # of the median, from the quickest to the slowest repeat
_SHOWN: Final = 8  # unstable cases that are named
_CLEAR_HOPS: Final = 10  # from which on hops are most of what a call waits for
_CAPTIONS: Final = {
    "latency": "Seconds over heads, tokens and hidden width, a line for each workload.",
    "formula": "Emulated seconds against compute + hops x RTT/2 + bytes / bandwidth.",
    "predicted": "The cost model against latencies of sizes that it has not seen.",
    "shares": "Seconds by operation of whole models, softmax against its rivals.",
}
_duration = partial(format_duration, digits=3)
_bytes = partial(format_bytes, digits=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """What is reported.

    Attributes:
        profiles: Files of the profiles.
        models: Presets that are predicted from each.
        networks: Networks on which they are.
    """

    profiles: tuple[Path, ...]
    models: tuple[str, ...]
    networks: tuple[Network, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """A profile, its name in the report, and its cost model; None if it fits none."""

    name: str
    profile: Profile
    model: CostModel | None
    why_not: str

    def table(
        self,
        kind: str,
        caption: str,
        header: tuple[str, ...],
        rows: Iterable[tuple[str, ...]],
    ) -> ReportTable:
        """Return a table whose name says whose it is."""
        name = f"{self.name}-{kind}"
        return ReportTable(name=name, caption=caption, header=header, rows=tuple(rows))


def make_report(config: ReportConfig) -> ReportDocument:
    """Return the report of the profiles.

    Raises:
        ProfileError: If one cannot be read.
        UnknownNameError: If there is no such model.
    """
    subjects: list[_Subject] = []
    for path in config.profiles:
        subjects.append(_read(path, [one.name for one in subjects]))
    names = ", ".join(one.name for one in subjects)
    sections = [
        section
        for one in subjects
        for section in (
            _about(one),
            _measured(one),
            *_predicted(one, config),
            *_held_out(one),
            _figures(one),
        )
    ]
    return ReportDocument(
        title=f"What private inference costs: {names}",
        text=(
            "Measured by real parties of SecretFlow-SPU. latency = compute + hops x "
            "RTT/2 + bytes / bandwidth. A hop is a one-way message that another one "
            "had to wait for. MB is 10^6 bytes.",
        ),
        sections=(*_together(subjects, config), *sections),
    )


def _read(path: Path, taken: Sequence[str]) -> _Subject:
    """Return a profile under the name of its file, with a number if that is taken."""
    profile = read_profile(path)
    try:
        model, why_not = CostModel.from_profile(profile), ""
    except MissingEntryError as error:
        model, why_not = None, str(error)
    stem = re.sub(r"[^A-Za-z0-9-]+", "-", path.stem)
    names = (stem, *(f"{stem}-{n}" for n in range(2, len(taken) + 2)))
    name = next(name for name in names if name not in taken)
    return _Subject(name=name, profile=profile, model=model, why_not=why_not)


def _about(one: _Subject) -> ReportSection:
    """Return deployment, machine, and what to be careful about."""
    profile, deployment = one.profile, one.profile.deployment
    records = profile.records
    n_workloads = len({record.workload for record in records})
    ring = f"{deployment.field_bits} bits, {deployment.fraction_bits} of fraction"
    facts = [
        ("protocol", deployment.protocol),
        ("SPU build", deployment.runtime),
        ("parties", str(deployment.n_parties)),
        ("ring", ring),
        ("beaver triples", deployment.beaver),
        ("options", deployment.options),
        ("machine", "; ".join(profile.hosts)),
        ("records", f"{len(records)} of {n_workloads} workloads"),
    ]
    if records:
        dates = sorted(record.created_at[:10] for record in records)
        commits = {record.commit[:12] for record in records}
        setup_s = _duration(median(record.setup_s for record in records))
        setup_bytes = _bytes(median(record.setup_bytes for record in records))
        facts += [
            ("measured", f"{dates[0]} to {dates[-1]}"),
            ("commits of mpcprof", ", ".join(sorted(commits))),
            ("set-up, in no other number", f"{setup_s}, {setup_bytes} by all parties"),
        ]
    table = one.table("deployment", "How it was measured.", ("what", "value"), facts)
    return ReportSection(
        title=one.name, tables=(table, _network_table(one)), warnings=_warnings(one)
    )


def _network_table(one: _Subject) -> ReportTable:
    groups: dict[tuple[Network, str, str], list[Record]] = {}
    for record in one.profile:
        key = (record.network, record.mode, record.emulation)
        groups.setdefault(key, []).append(record)
    rows = [
        (
            format_bandwidth(network.bandwidth_bytes_per_s, digits=3),
            _duration(network.rtt_s),
            mode,
            emulation,
            str(len(group)),
            _seen_round_trip(group),
        )
        for (network, mode, emulation), group in groups.items()
        if not network.is_loopback
    ]
    caption = (
        "The network. Seen is the round trip that the seconds of emulated calls say "
        f"it was, for calls of {_CLEAR_HOPS} hops and more: median, 5th to 95th "
        "percentile."
    )
    header = ("bandwidth", "round trip", "mode", "by", "records", "seen")
    return one.table("network", caption, header, rows)


def _seen_round_trip(records: Sequence[Record]) -> str:
    """Return the round trip that is left of the seconds, without compute and bytes."""
    seen = sorted(
        2 * (record.latency_s - record.compute_s - transfer_s) / record.hops
        for record in records
        if record.mode == "emulated" and record.hops >= _CLEAR_HOPS
        for transfer_s in (record.wire_bytes / record.network.bandwidth_bytes_per_s,)
    )
    if not seen:
        return ""
    low, high = seen[len(seen) // 20], seen[-1 - len(seen) // 20]
    return f"{_duration(median(seen))}, {_duration(low)} to {_duration(high)}"


def _warnings(one: _Subject) -> tuple[str, ...]:
    """Return what to be careful about: trust, unstable cases, what does not fit."""
    profile = one.profile
    found = []
    if profile.deployment.beaver == "TrustedFirstParty":
        found.append(
            "Trusted dealer: the first party makes the beaver triples and could unmask "
            "what the others share; fit for measuring, not for deployment. What it "
            "would cost to do without it is in no number (mpcprof predict "
            "--with-offline)."
        )
    found += _unstable(profile)
    priced = sum(record.mode == "priced" for record in profile)
    if priced:
        found.append(
            f"Priced, not waited for: {priced} of {len(profile)} latencies are "
            "loopback calls plus the formula."
        )
    if len(profile.hosts) > 1:
        found.append(
            f"{len(profile.hosts)} machines: seconds of compute are not alike."
        )
    if line := misfit(profile.records, profile.deployment):
        found.append(f"{line[0].upper()}{line[1:]}.")
    if one.why_not:
        found.append(f"No cost model: {one.why_not}.")
    return tuple(found)


def _unstable(profile: Profile) -> Iterator[str]:
    spreads = [
        ((max(seconds) - min(seconds)) / record.latency_s, record)
        for record in profile
        for seconds in (record.latencies_s,)
    ]
    unstable = [one for one in spreads if one[0] > _UNSTABLE]
    unstable.sort(key=lambda one: one[0], reverse=True)
    if unstable:
        shown = "; ".join(
            f"{record.workload} [{record.dims}] {spread:.0%}"
            for spread, record in unstable[:_SHOWN]
        )
        more = len(unstable) - _SHOWN
        yield (
            f"Unstable: in {len(unstable)} of {len(profile)} cases the repeats are "
            f"over {_UNSTABLE:.0%} of their median apart: {shown}"
            f"{f'; and {more} more' if more > 0 else ''}."
        )


def _measured(one: _Subject) -> ReportSection:
    """Return a table with a row for each workload."""
    groups: dict[str, list[Record]] = {}
    for record in one.profile:
        groups.setdefault(record.workload, []).append(record)
    rows = [
        (
            name,
            str(len(group)),
            _range([one.profile.call_s(record) for record in group], _duration),
            _range([record.bytes_sent for record in group], _bytes),
            _range([record.hops for record in group], format_hops),
            f"{max(record.max_abs_error for record in group):.2g}",
        )
        for name, group in groups.items()
    ]
    caption = "Measured workloads, from the smallest to the largest of all sizes."
    header = ("workload", "sizes", "latency", "sent by rank 0", "hops", "max error")
    table = one.table("measured", caption, header, rows)
    return ReportSection(title=f"{one.name}: measured", level=3, tables=(table,))


def _range(values: Sequence[float], form: Callable[[float], str]) -> str:
    low, high = form(min(values)), form(max(values))
    return low if low == high else f"{low} to {high}"


def _predicted(one: _Subject, config: ReportConfig) -> Iterator[ReportSection]:
    """Yield whole models on each network, with the notes of the predictions."""
    if one.model is None:
        return
    rows, notes = [], dict[str, None]()
    for what, predicted in _predictions(one.model, config):
        notes.update(dict.fromkeys(predicted.notes))
        rows.append(
            (
                *what,
                _duration(predicted.latency_s),
                " to ".join(map(_duration, predicted.interval_s)),
                _bytes(predicted.total_bytes_sent),
                format_hops(predicted.hops),
                predicted.basis,
            )
        )
    caption = "Whole models predicted, heads one by one, one image; nothing was run."
    costs = ("latency", "interval", "sent by all parties", "hops", "basis")
    table = one.table("predicted", caption, (*_WHAT, *costs), rows)
    yield ReportSection(
        title=f"{one.name}: predicted",
        level=3,
        tables=(table,) if rows else (),
        warnings=tuple(notes),
        text=() if rows else ("The profile lacks operations of these models.",),
    )


def _predictions(
    model: CostModel, config: ReportConfig
) -> Iterator[tuple[tuple[str, ...], Prediction]]:
    """Yield each model that has a price, under the names of `_WHAT`."""
    for name in config.models:
        preset = get_model(name)
        for attention in _ATTENTIONS:
            network_of = uniform_architecture(preset, attention=attention)
            for network in config.networks:
                try:
                    predicted = model.predict(network_of, network)
                except MissingEntryError:
                    continue
                yield (preset.name, attention, str(network)), predicted


def _held_out(one: _Subject) -> Iterator[ReportSection]:
    """Yield the errors on sizes that each fit has not seen."""
    if one.model is None:
        return
    errors = held_out_errors(one.profile)
    rows = [
        (
            each.operation,
            str(each.n_records),
            *map(_percent, (each.median, each.percentile_95, each.largest)),
            *map(_percent, (each.max_bytes_error, each.max_hops_error)),
        )
        for each in errors
    ]
    caption = (
        "Errors on sizes that the fit has not seen, |predicted - measured| / measured; "
        "of bytes and hops the largest."
    )
    of_latency = ("median", "95th percentile", "largest")
    header = ("operation", "cases", *of_latency, "bytes", "hops")
    table = one.table("held-out", caption, header, rows)
    yield ReportSection(title=f"{one.name}: how good", level=3, tables=(table,))


def _percent(share: float | None) -> str:
    return "one size" if share is None else f"{share:.2%}"


def _figures(one: _Subject) -> ReportSection:
    """Return the figures of `mpcprof plot` that the profile has the records of."""
    drawn, lacking = [], []
    with TemporaryDirectory() as folder:
        for kind, draw in FIGURES.items():
            path = Path(folder, f"{one.name}-{kind}.svg")
            try:
                draw(one.profile, path)
            except (MissingEntryError, ProfileError) as error:
                lacking.append(f"No figure {kind}: {error}")
                continue
            drawn.append(
                ReportFigure(
                    path=f"figures/{path.name}",
                    svg=path.read_bytes(),
                    caption=f"{one.name}: {_CAPTIONS[kind]}",
                )
            )
    return ReportSection(
        title=f"{one.name}: figures",
        level=3,
        figures=tuple(drawn),
        warnings=tuple(lacking),
    )


def _together(
    subjects: Sequence[_Subject], config: ReportConfig
) -> Iterator[ReportSection]:
    """Yield the predictions of all profiles side by side, if there are several."""
    models = {one.name: one.model for one in subjects if one.model}
    if len(models) < 2:
        return
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for name, model in models.items():
        for what, predicted in _predictions(model, config):
            cells.setdefault(what, {})[name] = _duration(predicted.latency_s)
    table = ReportTable(
        name="together",
        caption="Predicted latency of one image under each profile.",
        header=(*_WHAT, *models),
        rows=tuple(
            (*what, *(row.get(name, "") for name in models))
            for what, row in cells.items()
        ),
    )
    yield ReportSection(title="Side by side", tables=(table,))
