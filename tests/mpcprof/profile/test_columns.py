"""One table of columns: the file, `Record`, the exports and the docs agree with it.

`python -m tests.mpcprof.profile.test_columns` writes the tables of the docs.
"""

import re
from collections.abc import Iterable
from dataclasses import fields

import pyarrow.parquet as pq

from mpcprof.profile.columns import COLUMNS, OPERATION_COLUMNS, STORED, Column
from mpcprof.profile.io import SCHEMA
from mpcprof.profile.record import Operation, Record
from tests import ROOT

DOCS = ROOT / "docs" / "profile-schema.md"
TABLES = {
    "stored": STORED,
    "operations": OPERATION_COLUMNS,
    "shown": [column for column in COLUMNS if not column.is_stored],
}


def to_markdown(columns: Iterable[Column]) -> str:
    lines = ["| column | type | unit | meaning |", "|---|---|---|---|"]
    lines += [f"| `{c.name}` | {c.type} | {c.unit} | {c.meaning} |" for c in columns]
    return "\n".join(lines)


def with_tables(text: str) -> str:
    for name, columns in TABLES.items():
        text = re.sub(
            rf"<!-- {name} -->\n(\|.*\n)*",
            lambda _, n=name, c=columns: f"<!-- {n} -->\n{to_markdown(c)}\n",
            text,
        )
    return text


def test_the_docs_show_the_table():
    text = DOCS.read_text(encoding="utf-8")

    assert text == with_tables(text), "python -m tests.mpcprof.profile.test_columns"


def test_every_field_has_a_column_and_every_column_a_field():
    of_record = [column.name for column in STORED if column.origin == "record"]
    of_operation = [column.name for column in OPERATION_COLUMNS]

    assert {*of_record} == {one.name for one in fields(Record)} - {"dims", "network"}
    assert of_operation == [one.name for one in fields(Operation)]


def test_a_committed_profile_has_the_schema_of_the_table():
    schema = pq.read_schema(ROOT / "profiles" / "semi2k.parquet")

    assert schema.remove_metadata() == SCHEMA


if __name__ == "__main__":
    DOCS.write_text(with_tables(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
