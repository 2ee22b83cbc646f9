"""HTML of results, for notebooks and reports: tables, and bars as SVG, no library."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType
from typing import Final

# Okabe and Ito's colours, told apart by colour-blind readers; see `figures.canvas`
_COLORS: Final = MappingProxyType(
    {
        "embedding": "#009E73",
        "attention": "#882255",
        "mlp": "#CC79A7",
        "norm": "#56B4E9",
        "head": "#E69F00",
        "compute": "#0072B2",
        "network": "#D55E00",
    }
)
_OTHERS: Final = ("#E69F00", "#0072B2", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
_WIDTH: Final = 720
_ROW: Final = 22
_LABEL: Final = 170  # pixels left of the bars
_VALUE: Final = 90  # pixels right of them
_LEGEND: Final = 26
_CHARACTER: Final = 7.2  # pixels of a letter of the legend, about


@dataclass(frozen=True, slots=True, kw_only=True)
class BarRow:
    """One bar: its label, its parts by name from the left, and a text behind it."""

    label: str
    parts: tuple[tuple[str, float], ...]
    text: str

    @property
    def length(self) -> float:
        """Sum of the parts."""
        return sum(value for _, value in self.parts)


def part_color(name: str) -> str:
    """Return the colour of a part of a bar; other names get one from a checksum."""
    return _COLORS.get(name, _OTHERS[zlib.crc32(name.encode()) % len(_OTHERS)])


def draw_bars(title: str, rows: Sequence[BarRow]) -> str:
    """Return horizontal bars as one SVG element, readable in light and in dark."""
    longest = max((row.length for row in rows), default=0.0) or 1.0
    scale = (_WIDTH - _LABEL - _VALUE) / longest
    names = [*dict.fromkeys(name for row in rows for name, _ in row.parts)]
    legend = _legend(names) if len(names) > 1 else []
    top = _LEGEND if legend else 4
    height = top + _ROW * len(rows) + 4
    told = "; ".join(f"{row.label} {row.text}" for row in rows)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'role="img" aria-label="{escape(f"{title}: {told}")}" '
        f'style="width:100%;max-width:{_WIDTH}px" font-family="sans-serif" '
        'font-size="12" fill="currentColor">',
        *legend,
    ]
    for number, row in enumerate(rows):
        lines += _bar(row, top + number * _ROW, scale)
    return "\n".join([*lines, "</svg>"])


def _legend(names: Sequence[str]) -> list[str]:
    lines, x = [], float(_LABEL)
    for name in names:
        lines.append(
            f'<rect x="{x:.1f}" y="5" width="11" height="11" '
            f'fill="{part_color(name)}"/><text x="{x + 15:.1f}" y="15">'
            f"{escape(name)}</text>"
        )
        x += 30 + _CHARACTER * len(name)
    return lines


def _bar(row: BarRow, y: float, scale: float) -> list[str]:
    middle, x = y + _ROW * 0.68, float(_LABEL)
    lines = [
        f'<text x="{_LABEL - 8}" y="{middle:.1f}" text-anchor="end">'
        f"{escape(row.label)}</text>"
    ]
    for name, value in row.parts:
        width = value * scale
        lines.append(
            f'<rect x="{x:.2f}" y="{y + 3}" width="{max(width, 0.0):.2f}" '
            f'height="{_ROW - 6}" fill="{part_color(name)}">'
            f"<title>{escape(f'{row.label}, {name}')}</title></rect>"
        )
        x += width
    lines.append(f'<text x="{x + 6:.1f}" y="{middle:.1f}">{escape(row.text)}</text>')
    return lines


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; cells are text."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>"


def html_list(items: Sequence[str]) -> str:
    """Return a list of texts; "" for none."""
    if not items:
        return ""
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
