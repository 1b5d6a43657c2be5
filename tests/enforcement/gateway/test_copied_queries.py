"""COPY of a query is masked as the query itself is: column by column, in every format, and its errors are its own."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import pytest

from enforcement.gateway.copies import CopyMasker
from enforcement.gateway.entries import Ended
from lineage.statements import CopyDetails
from tests.enforcement.gateway.stalls import Stall
from tests.enforcement.gateway.test_session_masks import ADDRESS, MASK
from tests.enforcement.gateway.test_session_rules import error, ready, rows
from tests.enforcement.gateway.wire_scripts import Q, S, bind, describe, execute, parse, run
from tests.enforcement.gateway.wired import Wired, split

pytestmark = pytest.mark.slow

EVERY = MASK.replace('["email"]', '["*"]')
QUERIES = [
    "select id, email from customers where id = 1",
    "select email as id, name as email, 1 as n from customers where id < 3 order by customers.id",
    "select upper(email), length(email), id, to_json(email) from customers where id = 1",
    "select who, shout from contacts where id = 1",
    "select c.email, o.note, o.id from customers c left join orders o on o.customer_id = c.id where c.id < 4 order by c.id",
    "with t as (select * from customers) select t.id, t.email || '', email from t where id = 2",
    "select null::text, '', email, '\\N', 'a,\"b\"', E'x\\ty' from customers where id = 1",
    "update customers set name = 'x' where id = 1 returning id, email, md5(email)",
]
FORMS = {
    "": CopyDetails("out"),
    "header, delimiter '|', null 'nil'": CopyDetails("out", header=True, delimiter="|", null="nil"),
    "format csv": CopyDetails("out", format="csv"),
    "format csv, header, quote '''', escape '\\', null 'nil', force_quote *": CopyDetails(
        "out", format="csv", header=True, quote="'", escape="\\", null="nil"
    ),
    "format binary": CopyDetails("out", format="binary"),
}
Row = tuple[bytes | None, ...]


class Seen:
    """A plan that masks nothing and keeps every row."""

    is_plain = False
    counts: dict[str, int] = {}
    columns = ()

    def __init__(self, width: int) -> None:
        self.places = tuple(range(width))
        self.rows: list[Row] = []

    def row(self, values: Sequence[bytes | None]) -> list[bytes | None]:
        self.rows.append(tuple(values))
        return list(values)


def copied(details: CopyDetails, data: bytes) -> list[Row]:
    """The rows of a COPY stream, by the gateway's own reading of the format."""
    plans: list[Seen] = []

    def planner(width: int) -> Seen:
        plans.append(Seen(width))
        return plans[-1]

    masker = CopyMasker(details, planner)
    for kind, body in split(data):
        if kind == "d":
            masker.feed(body)
    masker.finish()
    return plans[0].rows if plans else []


@pytest.fixture
def shop(stall: Stall) -> Stall:
    stall.run("create view contacts as select id, email as who, upper(email) as shout from customers")
    stall.run("insert into orders values (1, 1, 'x'), (2, 2, 'tell c9@shop.example')")
    return stall


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("extended", [False, True])
def test_a_copied_query_shows_what_the_query_shows(shop: Stall, form: str, extended: bool) -> None:
    wired = shop.wired(rules=EVERY)
    for query in QUERIES:
        binary = form == "format binary"
        wired.answers(Q("begin"), 1)
        asked = wired.answers(run(query) + S if not binary else _binary(query), 1)
        wired.answers(Q("rollback"), 1)
        as_selected = told(wired, query)
        text = f"copy ({query}) to stdout" + (f" with ({form})" if form else "")
        seen = wired.answers(run(text) + S if extended else Q(text), 1)
        assert wired.closed is None, wired.session.fault
        assert ADDRESS not in seen
        assert ADDRESS.upper() not in seen
        assert copied(FORMS[form], seen) == rows(asked), query
        ended = told(wired, text)
        assert (ended.masked, ended.masked_columns) == (as_selected.masked, as_selected.masked_columns), query
        assert ended.outcome == "committed"


def told(wired: Wired, text: str) -> Ended:
    """The entry of the end of a statement."""
    found: Ended = next(entry for entry in wired.told(Ended) if entry.began.statement == text)
    return found


def _binary(query: str) -> bytes:
    return parse(query) + bind((), results=(1,)) + describe() + execute() + S


def test_what_another_reader_of_csv_gets_is_the_masked_value(shop: Stall) -> None:
    wired = shop.wired(rules=EVERY)
    seen = wired.answers(
        Q("copy (select id, email, note from customers join orders using (id) order by id) to stdout csv header"), 1
    )
    text = b"".join(body for kind, body in split(seen) if kind == "d").decode()
    assert list(csv.reader(io.StringIO(text))) == [
        ["id", "email", "note"],
        ["1", "***@***.example", "••••"],
        ["2", "***@***.example", "••••"],
    ]


@pytest.mark.parametrize("in_block", [False, True])
@pytest.mark.parametrize("extended", [False, True])
def test_a_query_that_fails_fails_as_its_copy_would(shop: Stall, extended: bool, in_block: bool) -> None:
    wired = shop.wired(rules=EVERY)
    text = "copy (select nobody from orders) to stdout"
    plain = shop.direct().answers(run(text) + S if extended else Q(text), 1)
    if in_block:
        wired.answers(Q("begin"), 1)
    seen = wired.answers(run(text) + S if extended else Q(text), 1)
    assert {name: error(seen)[name] for name in "CMP"} == {name: error(plain)[name] for name in "CMP"}
    assert ready(seen) == ("E" if in_block else "I")
    wired.answers(Q("rollback"), 1)
    assert (told(wired, text).error_code, told(wired, text).outcome) == (
        "42703",
        None if in_block else "rolled_back",
    )
    assert rows(wired.answers(Q("select count(*) from orders"), 1)) == [(b"2",)]


def test_an_error_of_a_query_that_reads_protected_columns_holds_no_value(shop: Stall) -> None:
    wired = shop.wired(rules=EVERY)
    for text in (
        "copy (select email::int from customers) to stdout",
        "copy (select 'c1@shop.example'::int, email from customers) to stdout",
    ):
        for script in (Q(text), run(text) + S):
            seen = wired.answers(script, 1)
            assert error(seen)["C"] == "22P02"
            assert ADDRESS not in seen


def test_a_copy_behind_others_in_a_text_withholds_what_is_protected(shop: Stall) -> None:
    """What stands before it may change what its query means, so nobody is asked about its columns."""
    wired = shop.wired(rules=EVERY)
    seen = wired.answers(Q("select 1; copy (select id, email from customers where id = 1) to stdout"), 1)
    assert b"1\t\\N\n" in seen
    assert wired.told(Ended)[-1].masked == {"untraced": 1}


def test_the_describing_query_does_not_run_and_leaves_nothing(shop: Stall) -> None:
    shop.run(
        "create function counted() returns int language sql as 'insert into orders values (99, 1, null) returning 1'"
    )
    wired = shop.wired(rules=EVERY)
    wired.answers(Q("copy (insert into orders values (7, 1, 'y') returning id) to stdout"), 1)
    assert shop.run("select count(*) from orders where id = 7") == [(1,)]
    wired.answers(Q("copy (select counted()) to stdout"), 1)
    assert shop.run("select count(*) from orders where id = 99") == [(1,)]
    assert rows(wired.answers(Q("select count(*) from pg_prepared_statements"), 1)) == [(b"0",)]


def test_without_masking_nothing_is_asked_before_a_copy(shop: Stall) -> None:
    wired: Wired = shop.wired()
    wired.answers(Q("select 1"), 1)
    wired.sent.clear()
    wired.answers(Q("copy (select email from customers) to stdout"), 1)
    assert "".join(kind for sent in wired.sent for kind, _ in split(sent)) == "Q"
