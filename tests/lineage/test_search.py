"""What a search finds, what it refuses, and that user text never becomes SQL."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import duckdb  # noqa: TID251 - runs the conditions as the engine will
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lineage import search
from lineage.errors import QueryInvalid

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
TEXTS = (
    "kind class op command environment source datasource database who_id who_name who_email who_type on_behalf_of agent_id "
    "agent_name agent_run db_user attribution session transaction_id outcome verdict ticket purpose client_app client_ip "
    "error_code error_message statement fingerprint approval_state"
).split()
LISTS = "roles policies relations columns keys flags masked_columns before_values after_values tags".split()
NUMBERS = "index rows_returned rows_affected duration_us".split()
TIMES = "occurred_at received_at".split()

SUPPORT: dict[str, Any] = {
    "index": 1, "kind": "query", "class": "read", "op": "read", "command": "SELECT", "environment": "production",
    "source": "orders-log", "datasource": "orders-prod", "database": "shop", "who_id": "p-17", "who_name": "Dana Köhler",
    "who_email": "dana@shop.example", "who_type": "human", "db_user": "support", "roles": ["support_ro", "Readers"],
    "attribution": "context_message", "session": "orders-prod~6540.12", "transaction_id": "742", "outcome": "committed",
    "verdict": "allowed", "policies": ["pii/read-one"], "ticket": "OPS-42", "purpose": "Refund for a late parcel",
    "client_app": "psql", "client_ip": "10.0.0.7", "relations": ["public.customers"], "columns": ["email", "name"],
    "keys": ["4711"], "rows_returned": 1, "duration_us": 1_500, "statement": "SELECT * FROM customers WHERE id = 4711",
    "fingerprint": "ab12", "approval_state": "approved", "masked_columns": ["email"], "tags": ["personal"],
    "occurred_at": NOW - dt.timedelta(hours=1), "received_at": NOW - dt.timedelta(minutes=59),
}  # fmt: skip
AGENT: dict[str, Any] = {
    "index": 2, "kind": "change", "class": "write", "op": "delete", "environment": "production", "who_type": "agent",
    "who_name": "report-bot", "on_behalf_of": "lee@shop.example", "agent_id": "a-1", "agent_name": "report-bot",
    "agent_run": "run-9", "relations": ["public.notes", "audit.customers"], "keys": ["7,a\\,b", "14711"],
    "rows_affected": 5000, "before_values": ["email=X@shop.example", "note=a b"], "after_values": [],
    "flags": ["suspected_forgery"], "error_code": "42501", "error_message": "permission denied for table notes",
    "verdict": "blocked", "duration_us": 2_000_000, "datasource": "orders-prod",
    "occurred_at": NOW - dt.timedelta(days=3), "received_at": NOW - dt.timedelta(days=3),
}  # fmt: skip
UNKNOWN: dict[str, Any] = {"index": 3, "kind": "query", "op": "other", "occurred_at": None, "received_at": NOW}


def columns(by: str) -> dict[str, str]:
    types = {name: "VARCHAR" for name in TEXTS} | {name: "VARCHAR[]" for name in LISTS}
    types |= {name: "BIGINT" for name in NUMBERS} | {name: "TIMESTAMPTZ" for name in TIMES}
    touch = {"relation": "VARCHAR", "key": "VARCHAR", "key_columns": "VARCHAR[]", "access": "VARCHAR"}
    return types | (touch if by == "touch" else {})


@pytest.fixture(scope="module")
def records() -> duckdb.DuckDBPyConnection:
    return database()


def database() -> duckdb.DuckDBPyConnection:
    """`activity` with the three records above, `touches` with one row for each relation and key of the first two."""
    store = duckdb.connect()
    store.execute("set TimeZone='UTC'")
    for by, table in (("event", "activity"), ("touch", "touches")):
        defined = ", ".join(f'"{name}" {kind}' for name, kind in columns(by).items())
        store.execute(f"create table {table} ({defined})")
    for row in (SUPPORT, AGENT, UNKNOWN):
        insert(store, "activity", row)
    insert(store, "touches", SUPPORT | {"relation": "public.customers", "key": "4711"})
    insert(store, "touches", AGENT | {"relation": "public.notes", "key": "7,a\\,b"})
    insert(store, "touches", AGENT | {"relation": "audit.customers", "key": "14711"})
    return store


def insert(store: duckdb.DuckDBPyConnection, table: str, row: dict[str, Any]) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    store.execute(f"insert into {table} ({names}) values ({', '.join('?' * len(row))})", list(row.values()))


def found(store: duckdb.DuckDBPyConnection, text: str, by: Any = "event") -> list[int]:
    condition, values = search.to_sql(search.parse(text), by, NOW)
    table = "touches" if by == "touch" else "activity"
    return [r[0] for r in store.execute(f'select "index" from {table} where {condition} order by 1', values).fetchall()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [1, 2, 3]),
        ("actor:dana", [1]),
        ("actor:DANA@shop.example", [1]),
        ("actor:p-17", [1]),
        ('actor:"dana köhler"', [1]),
        ("actor:dan", []),
        ("actor:dan*", [1]),
        ("for:lee", [2]),
        ("for:lee@shop.example", [2]),
        ("-for:*", [1, 3]),
        ("agent:report-bot", [2]),
        ("agent:a-1", [2]),
        ("run:run-9", [2]),
        ("type:human", [1]),
        ("type:unknown", [3]),
        ("role:readers", [1]),
        ("relation:customers", [1, 2]),
        ("relation:public.customers", [1]),
        ("relation:custom*", [1, 2]),
        ("relation:audit.*", [2]),
        ("column:EMAIL", [1]),
        ("key:4711", [1]),
        ("key:471*", [1]),
        ("key:7,a\\,b", [2]),
        ('key:"7,a\\,b"', [2]),
        ("verdict:blocked", [2]),
        ("verdict:unknown", [3]),
        ("verdict:b*", [2]),
        ("outcome:committed", [1]),
        ("attribution:none", [2, 3]),
        ("op:DELETE", [2]),
        ("kind:change or kind:query", [1, 2, 3]),
        ("class:write", [2]),
        ("command:select", [1]),
        ("db_user:support", [1]),
        ("session:orders-prod~6540.12", [1]),
        ("session:6540.12", [1]),
        ("transaction:742", [1]),
        ("source:orders-log datasource:orders-prod database:shop environment:production", [1]),
        ("masked:email", [1]),
        ("-masked:*", [2, 3]),
        ("approval:approved", [1]),
        ("policy:pii", [1]),
        ("policy:pii/read-one", [1]),
        ("policy:read-one", []),
        ("ticket:ops-42", [1]),
        ("-ticket:*", [2, 3]),
        ("purpose:parcel", [1]),
        ("app:psql ip:10.0.*", [1]),
        ("error:42501", [2]),
        ('error:"permission denied"', [2]),
        ("flag:suspected_forgery", [2]),
        ("tag:personal", [1]),
        ("rows:>100", [2]),
        ("rows>100", [2]),
        ("rows:<=1", [1]),
        ("rows:5000", [2]),
        ("duration:>1s", [2]),
        ("duration:<1.6ms", [1]),
        ("duration:>=1500us", [1, 2]),
        ("index:>1", [2, 3]),
        ("fingerprint:ab12", [1]),
        ("since:24h", [1]),
        ("until:24h", [2]),
        ("since:2w until:2026-11-18", [2]),
        ("since:2026-11-21", [1]),
        ("since:2026-11-21T12:00:00+01:00", [1]),
        ("until:2026-11-20", [2]),
        ("received:2026-11-21", [1, 3]),
        ("received:>2026-11-18", [1, 3]),
        ("received:<=2026-11-18", [2]),
        ("received:<2026-11-18", []),
        ("received:>2026-11-21T11:30:00Z", [3]),
        ("text:FROM", [1]),
        ("before.email:X@shop.example", [2]),
        ("before.email:x@shop.example", []),
        ('before.note:"a b"', [2]),
        ("before.note:*", [2]),
        ("after.email:*", []),
        ("4711", [1]),
        ("customers", [1, 2]),
        ("köhler", [1]),
        ("ops-42", [1]),
        ("denied", [2]),
        ('"permission denied"', [2]),
        ("relation:customers key:4711", [1]),
        ("relation:customers and key:4711", [1]),
        ("actor:dana or for:lee", [1, 2]),
        ("actor:dana or for:lee verdict:blocked", [1, 2]),
        ("(actor:dana or for:lee) verdict:blocked", [2]),
        ("-(actor:dana or for:lee)", [3]),
        ("not actor:dana", [2, 3]),
        ("--actor:dana", [1]),
        ("ACTOR:dana OR kind:change", [1, 2]),
    ],
)
def test_search_finds_by_event(records: duckdb.DuckDBPyConnection, text: str, expected: list[int]) -> None:
    assert found(records, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("relation:customers", [1, 2]),
        ("relation:notes key:14711", []),
        ("relation:customers key:14711", [2]),
        ("key:7*", [2]),
        ("notes", [2, 2]),
        ("verdict:blocked", [2, 2]),
    ],
)
def test_search_by_touch_asks_relation_and_key_of_the_same_touch(
    records: duckdb.DuckDBPyConnection, text: str, expected: list[int]
) -> None:
    # The statement and the message of the refused delete name notes too, so both its touches answer to the bare word.
    assert found(records, text, "touch") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("verdit:blocked", "There is no field verdit (at character 1); the nearest is verdict."),
        ("a actr:dana", "There is no field actr (at character 3); the nearest is actor."),
        ("http://x", "no field http"),
        ("verdict:denied", "verdict has no value denied; it is one of allowed, masked"),
        ("before:x", "Write before.COLUMN:value (at character 1)"),
        ("actor.email:x", "Write actor:value"),
        ("actor:", "A value is missing (at character 7)"),
        ('""', "A value is missing (at character 1)"),
        ('actor:"dana', "The quote is never closed (at character 7)"),
        ('a"b"', "Put a space between"),
        ("(a or b", "The parenthesis is never closed; quote a text that contains one (at character 1)"),
        ("a)", "no opening one (at character 2)"),
        ("()", "Something to search for is missing (at character 2)"),
        ("a or", "Something to search for is missing"),
        ("or a", "Something to search for is missing (at character 1)"),
        ("a and or b", "Something to search for is missing"),
        ("-", "Something to search for is missing"),
        ("*", "A star alone asks for nothing"),
        ("a*b", "A star may stand only at the end"),
        ("rows:many", "Write a whole number"),
        ("rows:>", "A value is missing"),
        ("rows:-1", "Write a whole number"),
        ("rows:99999999999999999999", "Write a whole number"),
        ("rows:1*", "rows takes no star"),
        ("duration:>1000", "Write a length of time with its unit"),
        ("since:yesterday", "Write a time such as 24h"),
        ("since:2026-02-30", "Write a time such as 24h"),
        ("since:2026-11-01T10:00:00", "Write a time such as 24h"),
        ("until:9999-12-31", "out of range"),
        ("since:0001-01-01T00:00:00+10:00", "(at character 1)"),
        ("since:>24h", "Only rows, duration, index, received can be compared"),
        ("actor:>dana", "Only rows, duration, index, received can be compared"),
        ("nul\0", "cannot occur in a record"),
        ("\ud800", "cannot occur in a record"),
        ("a" * 4_001, "longer than 4000 characters"),
        ("a " * 101, "more than 100 conditions"),
        ("(" * 40 + "a" + ")" * 40, "More than 30 levels"),
        ("-" * 2_000 + "a", "More than 30 levels"),
    ],
)
def test_search_refuses_and_names_field_or_place(text: str, message: str) -> None:
    with pytest.raises(QueryInvalid) as refused:
        search.parse(text)
    assert message in refused.value.message


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
NAMES = st.sampled_from([label.replace("COLUMN", "email") for label, _ in search.fields()])
VALUES = st.one_of(
    WORDS,
    st.sampled_from(
        ["5", ">5", "<=2s", "1.5ms", "24h", "7d", "2026-11-01", "2026-11-01T09:30:00Z", "human", "read", "*"]
    ),
)
CONDITIONS = st.one_of(WORDS, st.builds("{}:{}".format, NAMES, VALUES), st.builds('"{}"'.format, WORDS))
GLUE = st.sampled_from([" ", " or ", " -", " and not ", " (", ") ", '"', "*", ":", "."])
SEARCHES = st.lists(st.one_of(CONDITIONS, GLUE), max_size=12).map(lambda parts: " ".join(parts))


@pytest.mark.slow
@settings(max_examples=600, deadline=None)
@given(st.one_of(st.text(max_size=60), SEARCHES))
@example('-"or" "and"* (not -x)')
@example("actor:a or (b c) -(d or e) -(f g)")
@example("İ:x")
def test_any_text_is_refused_or_becomes_a_condition_that_runs(text: str) -> None:
    try:
        query = search.parse(text)
    except QueryInvalid:
        return
    assert search.parse(query.text()) == query
    assert search.parse(query.text()).text() == query.text()
    for by, table in (("event", "activity"), ("touch", "touches")):
        condition, values = search.to_sql(query, by, NOW)  # type: ignore[arg-type]
        STORE.execute(f"select count(*) from {table} where {condition}", values).fetchall()


STORE = database()


def leaves(names: st.SearchStrategy[search.Node]) -> st.SearchStrategy[search.Node]:
    many = st.lists(names, min_size=2, max_size=3).map(tuple)
    return st.one_of(st.builds(search.Not, names), st.builds(search.And, many), st.builds(search.Or, many))


TERMS = st.one_of(
    st.builds(search.Term, st.just(""), WORDS, prefix=st.booleans()),
    st.builds(search.Term, st.sampled_from(["actor", "key", "text"]), WORDS, prefix=st.booleans()),
    st.just(search.Term("actor", "", prefix=True)),
    st.just(search.Term("rows", "100", ">=")),
)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.recursive(TERMS, leaves, max_leaves=8))
def test_the_text_of_any_tree_reads_back_with_the_same_meaning(root: search.Node) -> None:
    query = search.parse(search.Query(root).text())
    assert search.parse(query.text()) == query
    assert rows(query) == rows(search.Query(root))


def rows(query: search.Query) -> list[Any]:
    condition, values = search.to_sql(query, "event", NOW)
    return STORE.execute(f'select "index" from activity where {condition} order by 1', values).fetchall()


def test_user_text_reaches_sql_only_as_a_parameter() -> None:
    hostile = "x'); drop table activity; --"
    for label, _ in search.fields():
        name = label.replace("COLUMN", "'||version()||'")
        try:
            query = search.parse(f'{name}:"{hostile}"')
        except QueryInvalid:
            continue
        condition, values = search.to_sql(query, "event", NOW)
        assert "drop" not in condition
        assert "version" not in condition
        assert any(hostile in value for value in values)


def test_a_negation_answers_for_what_is_not_known(records: duckdb.DuckDBPyConnection) -> None:
    for label, _ in search.fields():
        text = f"{label.replace('COLUMN', 'email')}:{SAMPLE.get(label, 'zzz')}"
        assert sorted(found(records, text) + found(records, "-" + text)) == [1, 2, 3], text


SAMPLE = {
    "kind": "query", "class": "read", "type": "human", "outcome": "committed", "op": "read", "verdict": "allowed",
    "rows": ">1", "duration": ">1s", "index": "2", "received": "24h", "since": "24h", "until": "24h",
}  # fmt: skip


def test_every_field_of_the_contract_is_known() -> None:
    contract = (
        "kind actor type role for agent run attribution db_user session transaction outcome source environment datasource "
        "database relation column key op verdict masked approval policy ticket purpose app ip error flag tag rows duration "
        "fingerprint received since until text before.COLUMN after.COLUMN"
    )
    assert set(contract.split()) <= {label for label, _ in search.fields()}
    assert all(description for _, description in search.fields())


def test_a_hundred_conditions_still_run(records: duckdb.DuckDBPyConnection) -> None:
    assert found(records, " or ".join(["-" * 20 + "customers"] * 100)) == [1, 2]


def test_chips_say_each_condition_and_what_is_left_without_it() -> None:
    parts = search.chips(search.parse('relation:customers (actor:dana or actor:lee) -"two words" rows>5'))
    assert [part.text for part in parts] == [
        "relation:customers",
        "(actor:dana or actor:lee)",
        '-"two words"',
        "rows:>5",
    ]
    assert parts[1].without == 'relation:customers -"two words" rows:>5'
    assert search.chips(search.parse("")) == []
    assert [part.without for part in search.chips(search.parse("a or b"))] == [""]


def test_names_tells_which_fields_a_search_mentions() -> None:
    assert search.names(search.parse("x -kind:custody (before.email:a or rows>5)")) == {"kind", "before", "rows"}


def test_the_page_lists_every_field_with_its_description() -> None:
    page = (Path(__file__).parents[2] / "docs" / "search.md").read_text()
    assert [f"| `{label}` | {description} |" for label, description in search.fields()] == [
        line for line in page[page.index("## Fields") :].splitlines() if line.startswith("| `")
    ]
