"""The page of `mpcprof explore`: the data of the cost models, and one HTML file."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from mpcprof.builds import PAPER_BUILD
from mpcprof.costmodel.features import POLYNOMIAL_DEGREE, Feature
from mpcprof.costmodel.ferret import PRIMED_THREADS, THREAD_ENTRIES, TRANSFER_ROUND
from mpcprof.costmodel.fit import Exact, OperationFit, SizeFunction
from mpcprof.costmodel.model import CostModel, checked_rtt_s, fit_cost_model
from mpcprof.costmodel.refills import THREAD_BYTES, THREAD_HOPS
from mpcprof.errors import MissingEntryError, UsageError
from mpcprof.explore.templates import (
    FAMILIES,
    Family,
    SlotSteps,
    Template,
    attention_templates,
    end_templates,
    form_templates,
    head_templates,
    mixer_names,
    mixer_templates,
    mlp_template,
    mode_names,
    norm_template,
    slot_order,
)
from mpcprof.files import check_ending, check_writable, replace_file
from mpcprof.network import NETWORKS, Network
from mpcprof.nn.activation import ACTIVATIONS
from mpcprof.nn.attention import ATTENTIONS, LINFORMER_RATIO
from mpcprof.nn.mixing import MIXERS, SHIFT_PARTS
from mpcprof.nn.norm import NORMS
from mpcprof.nn.preset import MODELS, ModelPreset
from mpcprof.nn.rewrite import product_price
from mpcprof.pricing import Costs
from mpcprof.profile.io import packaged_names, read_profile

Json = dict[str, Any]  # Any: JSON, made here and read by the page alone
_QUANTITIES: Final = (
    *("bytes_sent", "total_bytes_sent", "wire_bytes", "hops"),
    *("exposed_s", "loopback_s"),
)
# in this order: each needs what stands before it
SCRIPTS: Final = ("units.js", "costs.js", "network.js", "config.js")
_PAGE_SCRIPTS: Final = (
    *("charts.js", "controls.js", "figures.js", "layers.js", "export.js"),
    *("setup.js", "page.js"),
)
_DIGITS: Final = 12  # of a number on the page; prices are equal to 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PageReport:
    """A page that was written.

    Attributes:
        profiles: Deployment of each profile in it, by the name of its file.
        left_out: Why a profile is not in it, by the name of its file.
    """

    path: Path
    n_bytes: int
    profiles: Mapping[str, str]
    left_out: Mapping[str, str]

    def to_json(self) -> str:
        """Return the document of `explore --json`."""
        return json.dumps(asdict(self) | {"path": str(self.path)})

    def lines(self) -> list[str]:
        """Return what is printed: the page, and what is in it."""
        lines = [f"{self.path}: {self.n_bytes / 1e3:.0f} kB, open it in a browser"]
        lines += [f"  {name}: {text}" for name, text in self.profiles.items()]
        lines += [f"left out {name}: {why}" for name, why in self.left_out.items()]
        return lines


def write_page(profiles: Sequence[Path], output: Path) -> PageReport:
    """Fit each profile and write the page, whole or not at all.

    A profile without primitives is left out and named.

    Raises:
        UsageError: If two profiles have one name, or the page's does not end in .html.
        MissingEntryError: If no profile has a record of a primitive.
        FileError: If the page cannot be written.
    """
    check_ending(output, (".html",))
    check_writable(output)
    models: dict[str, CostModel] = {}
    left_out: dict[str, str] = {}
    for path in profiles:
        name = path.name.removesuffix(".parquet")
        if name in (*models, *left_out):
            raise UsageError(
                f"{path}: a profile of the name {name!r} is given already; give each "
                "once, or rename a file"
            )
        try:
            models[name] = fit_cost_model(read_profile(path))
        except MissingEntryError as error:
            left_out[name] = str(error)
    if not models:
        raise MissingEntryError("; ".join(f"{n}: {e}" for n, e in left_out.items()))
    page = render_page(models)
    replace_file(output, page)
    return PageReport(
        path=output,
        n_bytes=len(page.encode()),
        profiles={name: str(model.deployment) for name, model in models.items()},
        left_out=left_out,
    )


def render_page(models: Mapping[str, CostModel]) -> str:
    """Return the HTML of a page that asks nothing of the network."""
    data = json.dumps(page_data(models), separators=(",", ":")).replace("<", "\\u003c")
    return (
        _text("page.html")
        .replace("/*page.css*/", _text("page.css"))
        .replace("/*data*/", data)
        .replace("/*page.js*/", script(*SCRIPTS, *_PAGE_SCRIPTS))
    )


def script(*names: str) -> str:
    """Return scripts of the page one after another."""
    return "\n".join(map(_text, names))


def _text(name: str) -> str:
    return files("mpcprof.explore").joinpath(name).read_text(encoding="utf-8")


def page_data(models: Mapping[str, CostModel]) -> Json:
    """Return what the page's scripts price from: cost models, and networks' steps."""
    store = _Store()
    return {
        "profiles": {name: _profile(name, model) for name, model in models.items()},
        "families": {family: _family(family, store) for family in FAMILIES},
        "attention": {name: _attention(name, store) for name in ATTENTIONS},
        "around_heads": _around_heads(store),
        "forms": [store.number(one) for one in form_templates()],
        "mlp": {
            mode: {n: store.place(mlp_template(mode, n)) for n in ACTIVATIONS}
            for mode in mode_names("class_token")
        },
        "mixers": {
            name: {"takes_scale": one.takes_scale, "source": one.source}
            for name, one in MIXERS.items()
        },
        "activations": {
            name: {
                **{"source": one.source, "approximates": one.approximates},
                **{"max_error": one.max_error, "is_linear": one.is_linear},
            }
            for name, one in ACTIVATIONS.items()
        },
        "norms": {
            name: {"is_folded": one.is_folded, "source": one.source}
            for name, one in NORMS.items()
        },
        "models": {name: _model(model) for name, model in MODELS.items()},
        "networks": {name: _network(one) for name, one in NETWORKS.items()},
        "linformer_ratio": LINFORMER_RATIO,
        "shift_parts": SHIFT_PARTS,
        "polynomial_degree": POLYNOMIAL_DEGREE,
        "pauses": [PAPER_BUILD.chunk_bytes, PAPER_BUILD.chunks_at_once],
        "transfer_round": [
            TRANSFER_ROUND.n_usable,
            TRANSFER_ROUND.bytes_sent,
            TRANSFER_ROUND.hops,
        ],
        "threads": [THREAD_ENTRIES, PRIMED_THREADS, THREAD_BYTES, THREAD_HOPS],
        "templates": store.texts,
    }


class _Store:
    """Templates as texts, each once; a place is the numbers of its two.

    Attributes:
        texts: Steps of each template: operation, part, axes, and how many there are.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, template: Template) -> int:
        """Return the number of a template."""
        text = ";".join(
            f"{s.operation} {s.part} {','.join(s.axes)} {s.number}" for s in template
        )
        if text not in self._numbers:
            self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return self._numbers[text]

    def place(self, place: SlotSteps) -> list[int]:
        """Return the numbers of a slot: in any layer, in the last one."""
        return [self.number(place.inner), self.number(place.last)]


def _family(family: Family, store: _Store) -> Json:
    model = FAMILIES[family]
    modes: Json = {}
    for mode in mode_names(family):
        keeps_stream = bool(model.stream_norms) or mode == "centred"
        of_norm: Json = {}
        for name, norm in NORMS.items():
            if norm.is_folded and keeps_stream:
                continue
            norm1, norm2 = norm_template(family, mode, name)
            embedding, head = end_templates(family, mode, name)
            of_norm[name] = {
                "embedding": store.number(embedding),
                "norm1": store.place(norm1),
                "norm2": store.place(norm2),
                "head": store.number(head),
            }
        modes[mode] = of_norm
    return {
        "order": slot_order(family),
        "is_post_norm": model.is_post_norm,
        "reads_one_token": model.reads_one_token,
        "has_qkv_bias": model.has_qkv_bias,
        "modes": modes,
        "mixers": {
            name: [
                [*map(store.place, mixer_templates(family, name, is_folded=is_folded))]
                for is_folded in (False, True)
            ]
            for name in mixer_names(family)
        },
    }


def _attention(name: str, store: _Store) -> Json:
    plain, folded = (
        [*map(store.place, attention_templates(name, is_folded=is_folded))]
        for is_folded in (False, True)
    )
    return {"plain": plain, "folded": folded, "source": ATTENTIONS[name].source}


def _around_heads(store: _Store) -> Json:
    steps = head_templates()
    return {f.name: store.place(getattr(steps, f.name)) for f in fields(steps)}


def _model(model: ModelPreset) -> Json:
    keys = (
        *("n_layers", "n_heads", "width", "n_classes", "image_size", "patch"),
        *("n_channels", "n_embeddings", "n_words", "n_types", "mlp_ratio"),
    )
    family = model.embedding if model.n_words else model.pooling
    return {key: getattr(model, key) for key in keys} | {"family": family}


def _network(network: Network) -> list[float]:
    return [network.bandwidth_bytes_per_s, network.rtt_s]


def _profile(name: str, model: CostModel) -> Json:
    deployment = model.deployment
    measured: dict[str, dict[str, list[float]]] = {}
    for seen in model.observations:
        sizes = measured.setdefault(seen.operation, {})
        key = ",".join(map(str, seen.size))
        sizes[key] = _costs(model.costs(seen.operation, seen.size))
    return {
        "name": name,
        "argument": name if name in packaged_names() else f"{name}.parquet",
        "deployment": str(deployment),
        "protocol": deployment.protocol,
        "runtime": deployment.runtime,
        "n_parties": deployment.n_parties,
        "hosts": model.hosts,
        "sweep_command": deployment.sweep_command,
        "per_call_s": _short(model.per_call_s),
        "reference": _network(model.reference),
        "checked_rtt_s": checked_rtt_s(deployment.protocol),
        "product_price": list(product_price(deployment.protocol)),
        "refills": {
            "appetites": {
                name: [*map(_short, one.transfers), one.takes_transfers]
                for name, one in model.refills.appetites.items()
            },
            "exposed_s": _short(model.refills.exposed_s),
            "n_processors": model.refills.n_processors,
        },
        "fits": {
            one.operation: _fit(one, model.start_of(one.operation))
            for one in model.fits
        },
        "measured": measured,
    }


def _costs(costs: Costs) -> list[float]:
    numbers = (
        *(costs.bytes_sent, costs.total_bytes_sent, costs.wire_bytes, costs.hops),
        *(costs.exposed_s, costs.hidden_s),
    )
    return [*map(_short, numbers)]


def _fit(fit: OperationFit, start: Costs) -> Json:
    return {
        "n_sizes": fit.n_sizes,
        "relative_error": _short(fit.relative_error),
        "limits": [[_feature(axis), largest] for axis, largest in fit.limits],
        "start": [start.bytes_sent, start.total_bytes_sent, start.hops],
        **{name: _function(getattr(fit, name)) for name in _QUANTITIES},
    }


def _function(function: SizeFunction) -> list[Any]:  # Any: JSON
    """Return the denominator, then feature and coefficient of each used term."""
    numbers: Iterable[float]
    if isinstance(function, Exact):
        numbers, denominator = function.numerators, function.denominator
    else:
        numbers, denominator = function.coefficients, 1
    pairs = zip(function.features, numbers, strict=True)
    return [denominator, *([_feature(f), _short(n)] for f, n in pairs if n)]


def _feature(feature: Feature) -> str:
    return f"{feature.name}:{feature.knot}" if feature.knot else feature.name


def _short(number: float) -> float:
    """Return the number with as many digits as the page takes; a whole one as int."""
    short = float(f"{number:.{_DIGITS}g}")
    return int(short) if short.is_integer() else short
