"""The files of a report: a page, Markdown with its pictures, tables for a paper."""

from pathlib import Path

from mpcprof.files import replace_file
from mpcprof.report.document import ReportDocument, to_html, to_latex, to_markdown


def write_report(document: ReportDocument, folder: Path) -> tuple[Path, ...]:
    """Write report.html, report.md, tables.tex and the figures; return their paths.

    Raises:
        FileError: If the folder cannot be made or a file not written.
    """
    contents: dict[str, str | bytes] = {
        "report.html": to_html(document),
        "report.md": to_markdown(document),
        "tables.tex": to_latex(document),
        **{figure.path: figure.svg for figure in document.figures},
    }
    for name, content in contents.items():
        replace_file(folder / name, content)
    return tuple(folder / name for name in contents)
