"""COPY streams are masked row by row, however they are cut, and what is not masked keeps its bytes."""

from __future__ import annotations

import csv
import io
import secrets
from collections.abc import Iterator, Sequence
from itertools import pairwise

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from demo.monitored import Monitored
from enforcement.gateway.copies import CopyBroken, CopyMasker
from lineage.statements import CopyDetails

Connection = psycopg.Connection[tuple[object, ...]]
Row = tuple[int, str | None, str | None]


class Plan:
    """Masks the second column."""

    places = (1,)
    counts: dict[str, int] = {}
    columns = ("b",)

    def __init__(self, shown: bytes | None) -> None:
        self.shown = shown
        self.seen: list[bytes | None] = []

    def row(self, values: Sequence[bytes | None]) -> list[bytes | None]:
        self.seen.append(values[1])
        return [self.shown if place == 1 and value else value for place, value in enumerate(values)]


def masked(details: CopyDetails, stream: bytes, cuts: list[int], plan: Plan) -> bytes:
    masker = CopyMasker(details, lambda width: plan)
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    parts = [masker.feed(stream[start:end]) for start, end in pairwise(edges)]
    return b"".join(parts) + masker.finish()


def read(details: CopyDetails, stream: bytes) -> list[bytes | None]:
    plan = Plan(b"-")
    masked(details, stream, [], plan)
    return plan.seen


TEXTS = st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["", "\\N", "a\tb", "a\nb", '"', '""', "\\", "\\.", ",", "'", "|", "\r\n", "nil", " x "])  # fmt: skip
ROWS = st.lists(st.tuples(st.integers(-9, 99), TEXTS, TEXTS), min_size=1, max_size=5)
FORMS: dict[str, CopyDetails] = {
    "": CopyDetails("out"),
    "delimiter '|', null 'nil'": CopyDetails("out", delimiter="|", null="nil"),
    "header": CopyDetails("out", header=True),
    "format csv": CopyDetails("out", format="csv"),
    "format csv, header, quote '''', escape '\\', delimiter ';', null 'nil'": CopyDetails(
        "out", format="csv", header=True, quote="'", escape="\\", delimiter=";", null="nil"
    ),
    "format csv, force_quote *": CopyDetails("out", format="csv"),
    "format binary": CopyDetails("out", format="binary"),
}


@pytest.fixture(scope="module")
def table(monitored: Monitored) -> Iterator[Connection]:
    name = f"copies{secrets.token_hex(4)}"
    with monitored.connect() as admin:
        admin.execute(f'create database "{name}"')  # type: ignore[arg-type]
        with psycopg.connect(monitored.dsn(dbname=name), autocommit=True) as db:
            db.execute("create table t (a int, b text, c text)")
            yield db
        admin.execute(f'drop database "{name}" with (force)')  # type: ignore[arg-type]


def copied(db: Connection, form: str, rows: Sequence[tuple[object, ...]]) -> bytes:
    with db.transaction(force_rollback=True), db.cursor() as cursor:
        cursor.executemany("insert into t values (%s, %s, %s)", rows)
        with cursor.copy(f"copy t to stdout with ({form})" if form else "copy t to stdout") as stream:  # type: ignore[arg-type]
            return b"".join(bytes(part) for part in stream)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=ROWS,
    cuts=st.lists(st.integers(0, 10_000), max_size=6),
    shown=st.sampled_from([None, b"", b"x", b"m\"\\\n'|\t;,nil", b"nil"]),
)
def test_a_masked_copy_is_what_postgresql_would_have_written(
    table: Connection,
    form: str,
    rows: list[Row],
    cuts: list[int],
    shown: bytes | None,
) -> None:
    # In the text format PostgreSQL writes a value that is like the null string as it is: nobody can tell the two apart.
    assume("csv" in form or not any("nil" in row for row in rows))
    plan = Plan(shown)
    stream = copied(table, form, rows)
    after = masked(FORMS[form], stream, cuts, plan)
    assert plan.seen == [None if b is None else b.encode() for _, b, _ in rows]
    text = None if shown is None else shown.decode()
    expected = copied(table, form, [(a, text if b else b, c) for a, b, c in rows])
    assert read(FORMS[form], after) == read(FORMS[form], expected)
    if "csv" not in form:
        # In CSV a value that was quoted stays quoted, be it needed or not.
        assert after == expected


def test_csv_without_masked_values_keeps_every_byte() -> None:
    stream = b'1,"a ""b""\nc",\n2,,""\n'
    assert masked(FORMS["format csv"], stream, [3, 9], Plan(None)) == b'1,,\n2,,""\n'
    assert CopyMasker(FORMS["format csv"], None).feed(stream) == stream
    assert next(csv.reader(io.StringIO(stream.decode())))[1] == 'a "b"\nc'


@pytest.mark.parametrize(("details", "stream"), [
    (CopyDetails("out"), b"1\t2"), (CopyDetails("out", format="csv"), b'1,"2\n'),
    (CopyDetails("out", format="binary"), b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\3\0"),
])  # fmt: skip
def test_a_stream_that_ends_within_a_row_is_an_error(details: CopyDetails, stream: bytes) -> None:
    masker = CopyMasker(details, lambda width: Plan(None))
    assert b"2" not in masker.feed(stream)
    with pytest.raises(CopyBroken):
        masker.finish()


def test_a_binary_stream_that_is_none_is_an_error() -> None:
    with pytest.raises(CopyBroken):
        CopyMasker(CopyDetails("out", format="binary"), lambda width: Plan(None)).feed(b"x" * 40)
