"""Codes: what an identity did, who read a column, and lists of all are told out of them as over records, however the log is cut."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from lineage import checkpoints, engine, errors, ledger, queries, segments
from lineage.access import Viewer
from lineage.engine import Question
from lineage.events import Custody, Event
from lineage.extracts import codes, codified, coding, reading, storing
from lineage.extracts.looking import Held
from lineage.queries import (
    Answer,
    Subject,
    Window,
    beside,
    databases,
    deeds,
    doings,
    everyone,
    handled,
    met,
    readers,
    usage,
)
from tests import extracts
from tests.lineage.test_lookups import logins_of
from tests.lineage.test_queries import ALL, STRANGER
from tests.lineage.test_same_answers import CUSTOMERS, plain
from tests.lineage.test_sums import Called, at

LIMITED = Viewer("lea@x", "auditor", datasources=("orders",), from_at=dt.datetime(2026, 11, 20, 9, 45, tzinfo=dt.UTC))
PEOPLE = ("report-bot", "bob@x", "dana@shop.example", "omar", "mallory", "orders_api", "nobody")
ASKED = (
    (ALL, Window(), PEOPLE, ("id", "total")),
    (ALL, Window(at("09:30:30"), at("10:30:00")), ("report-bot", "omar"), ("id",)),
    (LIMITED, Window(None, at("10:00:30")), ("bob@x", "omar"), ("id",)),
    (STRANGER, Window(), ("omar",), ("id",)),
)


SEARCHES = (
    "",
    "op:update",
    "not op:read type:human",
    "(actor:b* or for:dana@shop.example) datasource:orders",
    "verdict:u* db_user:*",
    "relation:customers (op:update or op:read)",
    "relation:public.cust* relation:customers datasource:orders",
)
LISTS = {"everyone": queries.identities, "tables": queries.relations}
SUBJECTS = (Subject(identity="bob@x"), Subject(run="run-7"), Subject(identity="nobody"))


def pages(ask: Callable[..., Answer], viewer: Viewer, window: Window, q: str) -> list[Any]:
    """Two rows on each page, to the end and back."""
    found = [ask(viewer, q, window, 2)]
    while found[-1].next:
        found.append(ask(viewer, q, window, 2, found[-1].next))
    while found[-1].previous:
        found.append(ask(viewer, q, window, 2, found[-1].previous))
    return [plain(one) for one in found]


def told() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, (viewer, window, people, columns) in enumerate(ASKED):
        if number in (0, 2):
            found[f"databases {number}"] = plain(queries.datasources(viewer))
        for name, ask in LISTS.items():
            for q in SEARCHES[1:] if number == 1 else SEARCHES[:1]:
                found[f"{name} of {q} {number}"] = (
                    pages(ask, viewer, window, q) if number == 0 else plain(ask(viewer, q, window))
                )
        for q, by in itertools.product(SEARCHES if number == 0 else SEARCHES[-1:], ("event", "touch")):
            found[f"values of {q} by {by} {number}"] = queries.search_counts(viewer, q, window, by)
        for who in people:
            try:
                found[f"{who} {number}"] = plain(queries.identity(viewer, who, window))
                found[f"conduct of {who} {number}"] = plain(queries.conduct(viewer, who, window))
            except errors.NotFound as error:
                found[f"{who} {number}"] = error.code
        try:
            found[f"table {number}"] = plain(queries.relation(viewer, *CUSTOMERS, window))
        except errors.NotFound as error:
            found[f"table {number}"] = error.code
        found[f"columns {number}"] = queries.columns(viewer, *CUSTOMERS)
        for subject, by in itertools.product(SUBJECTS if number == 0 else SUBJECTS[:1], ("rows", "tables")):
            found[f"{by} of {subject.name} {number}"] = pages(_touched(subject, by), viewer, window, "")
        for column in columns:
            found[f"{column} {number}"] = plain(queries.column(viewer, *CUSTOMERS, column, window))
    return found


def _touched(subject: Subject, by: Any) -> Callable[..., Answer]:
    return lambda viewer, _, window, limit, cursor=None: queries.touched(viewer, subject, by, window, limit, cursor)


def by_records(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    with monkeypatch.context() as patched:
        patched.setattr(Question, "look", lambda _: None)
        return told()


def differing(expected: dict[str, Any]) -> dict[str, Any]:
    return {name: (answer, expected[name]) for name, answer in told().items() if answer != expected[name]}


def used() -> set[bool]:
    """Whether an identity's summary, a column's readers, and the lists of identities and tables are told out of codes."""
    with Question() as question:
        told: list[Any] = [
            deeds.summary(question, ALL, "bob@x", Window()),
            doings.taken(question, ALL, "bob@x", Window()),
            readers.found(question, ALL, *CUSTOMERS[:1], CUSTOMERS[1:], "id", Window()),
            *(one.page(question, ALL, "op:update", Window(), None, False, 2) for one in (everyone, met)),
            databases.rows(question, ALL),
            handled.page(question, ALL, SUBJECTS[0], True, Window(), None, False, 2),
            usage.told(question, ALL, *CUSTOMERS[:1], CUSTOMERS[1:], Window()),
        ]
        return {one is not None for one in told}


def valued() -> set[bool]:
    """Whether the values beside searches are."""
    with Question() as question:
        return {beside.values(question, ALL, q, Window(), False, 9) is not None for q in SEARCHES}


def told_twice() -> list[list[Any]]:
    """What is said of each record by SQL and in Python, as values instead of numbers."""
    with Question() as question:
        held = Held(question.cursor, "from resolved", "from raw_touches")
        indexes, by_sql = codified.told(question.cursor)
        contents = held.read(question.cursor, indexes)
        in_python = codified.together([*codified.each(held.columns, [contents[index] for index in indexes.tolist()])])
    found = []
    for each in (by_sql, in_python):
        actors, manners, shapes, picked = (
            [json.loads(texts[number]) for number in numbers.tolist()]
            for numbers, texts in zip(each.numbers, each.texts, strict=True)
        )
        touched = [(relations, sorted(map(str, map(json.loads, touches)))) for relations, touches in shapes]
        picked = [sorted(some) for some in picked]
        found.append([actors, manners, touched, picked, *(each[place].tolist() for place in (2, 3, 5))])
    return found


@pytest.mark.slow
def test_what_an_identity_did_who_read_a_column_and_lists_of_all_are_told_out_of_codes_as_over_records(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Called()
    expected = told()
    assert sum(answer != "not-found" for answer in expected.values()) > len(expected) // 2
    assert used() == {False}
    by_sql, in_python = told_twice()
    assert by_sql == in_python
    checkpoints.checkpoint()
    for end in (log.cuts[1], None):
        monkeypatch.setattr(segments, "SEGMENT_MOST", end - segments.sealed_to() if end else 1000)
        assert segments.seal()
        assert extracts.everything() == 1
        assert used() == {True}
        assert differing(expected) == {}
    logins_of("orders")
    expected = by_records(monkeypatch)
    assert differing(expected) == {}
    assert extracts.merged()
    for module in (doings, usage):
        monkeypatch.setattr(module, "CARDS_MOST", 1)
    assert differing(expected) == {}
    log.lines("b", "10:00:41")
    log.lines("e", "10:00:42")
    log.feed.change("85", key="4799")
    ledger.record(
        Event(kind="custody", environment="prod", datasource="orders", custody=Custody(type="gap", subject="x"))
    )
    expected = by_records(monkeypatch)
    assert used() == valued() == {True}
    assert differing(expected) == {}
    (one,) = storing.manifest()
    file = reading.folder(one.folder) / codes.FILE
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    engine._here().forget(None)
    assert used() == {False}
    file.write_bytes(data)
    monkeypatch.setattr(coding, "ROWS_MOST", 1)
    assert used() == {False}
