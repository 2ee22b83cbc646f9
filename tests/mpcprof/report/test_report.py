"""What `mpcprof report` writes: one content as a page, as Markdown and as LaTeX."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from mpcprof.cli import main
from mpcprof.costmodel.fit import held_out_errors
from mpcprof.figures import FIGURES
from mpcprof.network import NETWORKS
from mpcprof.profile.io import read_profile, write_profile
from mpcprof.report.contents import ReportConfig, make_report
from mpcprof.report.document import (
    ReportDocument,
    ReportFigure,
    ReportSection,
    ReportTable,
    to_html,
    to_latex,
    to_markdown,
)
from tests.committed import small_profile

DOCUMENT = ReportDocument(
    title="50 % & more",
    text=("a < b",),
    sections=(
        ReportSection(
            title="One",
            tables=(
                ReportTable(
                    name="one-t",
                    caption="Cost in $ of x_1",
                    header=("a", "b"),
                    rows=(("1 %", "p|q"), ("#2", r"\x{y}")),
                ),
            ),
            figures=(ReportFigure(path="figures/f.svg", svg=b"<svg/>", caption="F"),),
            warnings=("be <careful>",),
        ),
    ),
)


class Checker(HTMLParser):
    """Notes tags that are not closed, ids, and what is fetched from elsewhere."""

    VOID = ("meta", "img")

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.fetched = [], [], []

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        self.ids += [named["id"]] if "id" in named else []
        self.fetched += [named[key] for key in ("src", "href") if key in named]
        assert tag != "img" or named["alt"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert len(checker.ids) == len({*checker.ids})
    assert all(one.startswith("data:image/svg+xml;base64,") for one in checker.fetched)
    return checker


@pytest.fixture(scope="module")
def document():
    config = ReportConfig(
        profiles=(small_profile(),),
        models=("digits",),
        networks=(NETWORKS["wan"], NETWORKS["lan"]),
    )
    return make_report(config)


def table(document, name):
    return next(one for one in document.tables if one.name == name)


def test_a_page_needs_no_other_file_and_closes_what_it_opens():
    page = to_html(DOCUMENT)

    assert len(checked(page).fetched) == 1
    assert "<h1>50 % &amp; more</h1>" in page
    assert "<li>be &lt;careful&gt;</li>" in page
    assert '<th scope="col">a</th>' in page


def test_markdown_has_the_same_tables_and_names_the_pictures():
    text = to_markdown(DOCUMENT)

    assert "| a | b |\n| --- | --- |\n| 1 % | p\\|q |\n| #2 | \\x{y} |" in text
    assert "![F](figures/f.svg)" in text
    assert "- be <careful>" in text


def test_latex_escapes_what_it_reads_as_commands():
    text = to_latex(DOCUMENT)

    assert r"\caption{Cost in \$ of x\_1}" in text
    assert r"1 \% & p$|$q \\" in text
    assert r"\#2 & \textbackslash{}x\{y\} \\" in text
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    body = text.split("\n", 1)[1]
    assert not re.search(r"(?<!\\)[%$#_](?![|<>])(?<![|<>]\$)", body)


def test_every_row_has_a_cell_for_every_heading(document):
    assert len(document.tables) == 5
    for one in document.tables:
        assert {len(row) for row in one.rows} == {len(one.header)}
    checked(to_html(document))


def test_the_deployment_the_machine_and_the_network_are_those_of_the_profile(document):
    profile = read_profile(small_profile())

    facts = dict(table(document, "semi2k-deployment").rows)
    ((bandwidth, rtt, *_, n_records, seen),) = table(document, "semi2k-network").rows

    assert facts["protocol"] == "semi2k"
    assert facts["machine"] == profile.hosts[0]
    assert (bandwidth, rtt) == ("44 MBps", "40 ms")
    assert n_records == str(len(profile))
    assert 38 < float(seen.split(" ms,")[0]) < 42


def test_errors_are_those_of_sizes_left_out(document):
    errors = {
        one.operation: one for one in held_out_errors(read_profile(small_profile()))
    }

    rows = table(document, "semi2k-held-out").rows

    assert [row[0] for row in rows] == [*errors]
    for operation, n_records, shown, *_ in rows:
        assert n_records == str(errors[operation].n_records)
        own = errors[operation].median
        assert shown == ("one size" if own is None else f"{own:.2%}")


def test_models_are_predicted_on_each_network(document):
    rows = table(document, "semi2k-predicted").rows

    assert {row[0] for row in rows} == {"digits"}
    assert [row[1] for row in rows[::2]] == ["softmax", "relu_softmax", "scale"]
    assert {row[2] for row in rows} == {"44MBps,40ms", "384MBps,300us"}


def test_a_trusted_dealer_unstable_cases_and_doubts_are_warned_of(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("mpcprof.report.contents.FIGURES", {})
    profile = read_profile(small_profile())
    shaken = replace(profile.records[0], latencies_s=(1.0, 2.0, 3.0))
    path = tmp_path / "shaken.parquet"
    write_profile(path, replace(profile, records=(shaken, *profile.records[1:])))
    networks = (NETWORKS["lan"],)

    made = make_report(
        ReportConfig(profiles=(path,), models=("digits",), networks=networks)
    )

    warnings = "\n".join(line for one in made.sections for line in one.warnings)
    assert "Trusted dealer: the first party makes the beaver triples" in warnings
    assert "cases the repeats are over 10% of their median apart" in warnings
    assert f"{shaken.workload} [{shaken.dims}] 100%" in warnings
    assert "nobody has checked predictions for so short a round trip" in warnings


def test_the_command_writes_all_and_names_it(tmp_path, monkeypatch):
    shares = {"shares": FIGURES["shares"]}
    monkeypatch.setattr("mpcprof.report.contents.FIGURES", shares)
    profile, out = str(small_profile()), tmp_path / "out"
    arguments = ["report", profile, profile, "-o", str(out), "--model", "digits"]

    done = CliRunner().invoke(main, [*arguments, "--json"])

    told = json.loads(done.stdout)
    page = checked((out / "report.html").read_text(encoding="utf-8"))
    assert {"together", "semi2k-predicted", "semi2k-2-predicted"} <= {*page.ids}
    assert all((out / name).is_file() for name in told["files"])
    assert {"report.html", "report.md", "tables.tex", "figures"} == {
        path.name for path in out.iterdir()
    }
    assert any("Trusted dealer" in line for line in told["warnings"])
