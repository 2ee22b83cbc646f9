"""A report as sections of text, tables and pictures; as HTML, Markdown and LaTeX."""

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from mpcprof.html import html_list, html_table


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTable:
    """A table of texts.

    Attributes:
        name: Label in LaTeX, unique in the report, of letters, digits and hyphens.
        caption: What it shows, in which units.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFigure:
    """A picture beside the report.

    Attributes:
        path: Path from the report's folder.
        svg: Content of the file.
        caption: What it shows, also for who does not see it.
    """

    path: str
    svg: bytes
    caption: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSection:
    """A heading, then text, tables, pictures and a list of warnings.

    Attributes:
        level: 2 for a section, 3 for one in it.
        warnings: Reasons for caution.
    """

    title: str
    level: int = 2
    text: tuple[str, ...] = ()
    tables: tuple[ReportTable, ...] = ()
    figures: tuple[ReportFigure, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDocument:
    """All of a report."""

    title: str
    text: tuple[str, ...]
    sections: tuple[ReportSection, ...]

    @property
    def tables(self) -> tuple[ReportTable, ...]:
        """Every table, in its order."""
        return tuple(table for one in self.sections for table in one.tables)

    @property
    def figures(self) -> tuple[ReportFigure, ...]:
        """Every picture, in its order."""
        return tuple(figure for one in self.sections for figure in one.figures)


_STYLE: Final = """
:root { color-scheme: light dark; --line: #bbb; --warn: #8a3c00;
  --page: #fff; --text: #111; }
@media (prefers-color-scheme: dark) { :root { --line: #555; --warn: #ffb380;
  --page: #121212; --text: #eee; } }
html { background: var(--page); color: var(--text); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto;
  padding: 1rem; }
h1, h2, h3 { line-height: 1.2; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.875rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.2rem 0.7rem 0.2rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); }
td { white-space: nowrap; }
td:nth-child(2):last-child { white-space: normal; }
figure { margin: 1.5rem 0; }
img { max-width: 100%; background: #fff; }
figcaption, .caption { font-size: 0.875rem; margin: 1rem 0 0.25rem; }
.warnings { color: var(--warn); }
"""


def to_html(document: ReportDocument) -> str:
    """Return one page that needs no other file."""
    sections = "\n".join(
        part for one in document.sections for part in _html_section(one)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(document.title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{escape(document.title)}</h1>\n"
        f"{_paragraphs(document.text)}\n{sections}\n</main>\n</body>\n</html>\n"
    )


def _paragraphs(text: Sequence[str]) -> str:
    return "\n".join(f"<p>{escape(one)}</p>" for one in text)


def _html_section(section: ReportSection) -> Iterator[str]:
    yield f"<h{section.level}>{escape(section.title)}</h{section.level}>"
    yield _paragraphs(section.text)
    if section.warnings:
        yield f'<div class="warnings">{html_list(section.warnings)}</div>'
    for table in section.tables:
        yield f'<p class="caption" id="{table.name}">{escape(table.caption)}</p>'
        yield (
            f'<div class="wide" tabindex="0" role="region" '
            f'aria-labelledby="{table.name}">{html_table(table.header, table.rows)}'
            "</div>"
        )
    for figure in section.figures:
        content = base64.b64encode(figure.svg).decode()
        yield (
            f'<figure><img alt="{escape(figure.caption)}" '
            f'src="data:image/svg+xml;base64,{content}">'
            f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
        )


def to_markdown(document: ReportDocument) -> str:
    """Return the report in Markdown; pictures are files beside it."""
    blocks = [f"# {document.title}", *document.text]
    for section in document.sections:
        blocks += [f"{'#' * section.level} {section.title}", *section.text]
        if section.warnings:
            blocks.append("\n".join(f"- {one}" for one in section.warnings))
        for table in section.tables:
            lines = [table.header, ("---",) * len(table.header), *table.rows]
            rows = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
            blocks += [table.caption, rows]
        blocks += [f"![{one.caption}]({one.path})" for one in section.figures]
    return "\n\n".join(blocks) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


_TEX: Final = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
}
_TEX_LETTER: Final = re.compile("|".join(map(re.escape, _TEX)))


def to_latex(document: ReportDocument) -> str:
    """Return all tables in LaTeX, for a paper that uses booktabs."""
    made = "\n\n".join(_latex_table(table) for table in document.tables)
    return f"% {document.title}: needs \\usepackage{{booktabs}}\n\n{made}\n"


def _latex_table(table: ReportTable) -> str:
    rows = "\n".join(_latex_row(row) for row in table.rows)
    columns = "l" * len(table.header)
    return (
        f"\\begin{{table}}\n\\centering\\small\n\\caption{{{_tex(table.caption)}}}\n"
        f"\\label{{tab:{table.name}}}\n\\begin{{tabular}}{{{columns}}}\n"
        f"\\toprule\n{_latex_row(table.header)}\n\\midrule\n{rows}\n\\bottomrule\n"
        "\\end{tabular}\n\\end{table}"
    )


def _latex_row(cells: Sequence[str]) -> str:
    return f"{' & '.join(map(_tex, cells))} \\\\"


def _tex(text: str) -> str:
    return _TEX_LETTER.sub(lambda found: _TEX[found[0]], text)
