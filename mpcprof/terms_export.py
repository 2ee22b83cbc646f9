"""Lat(ATTN_ij) and Lat(Act_ij) as a table for other programs."""

import io
import json

import pandas as pd

from mpcprof.errors import UnknownNameError, did_you_mean
from mpcprof.profile_export import EXPORT_FORMATS
from mpcprof.terms import Term, Terms

_RATIO_ATTENTIONS = ("softmax", "relu_softmax", "scale")
_RATIO_ACTIVATION = "gelu_tanh"


def export_terms(terms: Terms, export_format: str) -> str | bytes:
    """One row per term: kind, layer, variant, seconds in both forms, bytes, hops.

    Raises:
        UnknownNameError: If the format is not known.
    """
    if export_format == "json":
        return json.dumps(_document(terms), indent=2) + "\n"
    frame = pd.DataFrame([_row(term) for term in terms.terms])
    if export_format == "csv":
        return str(frame.to_csv(index=False))
    if export_format == "md":
        return _markdown(frame)
    if export_format == "parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        return buffer.getvalue()
    hint = did_you_mean(export_format, list(EXPORT_FORMATS))
    raise UnknownNameError(f"no format {export_format!r}; {hint}")


def _row(term: Term) -> dict[str, object]:
    return {name: getattr(term, name) for name in term.__dataclass_fields__}


def _document(terms: Terms) -> dict[str, object]:
    return {
        "model": terms.model.name,
        "network": str(terms.network),
        "n_batch": terms.n_batch,
        "lambda_over_eta": {
            name: terms.lambda_over_eta(name, _RATIO_ACTIVATION)
            for name in _RATIO_ATTENTIONS
            if {name, _RATIO_ACTIVATION} <= {term.variant for term in terms.terms}
        },
        "left_out": list(terms.left_out),
        "terms": [_row(term) for term in terms.terms],
    }


def _markdown(frame: pd.DataFrame) -> str:
    lines = [
        f"| {' | '.join(frame.columns)} |",
        f"|{'---|' * len(frame.columns)}",
    ]
    for row in frame.itertuples(index=False):
        cells = (
            f"{cell:.6g}" if isinstance(cell, float) else str(cell) for cell in row
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
