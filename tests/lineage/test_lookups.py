"""Look-ups over extracts: what they find and show is what the joined views say, however the records lie in files."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from lineage import checkpoints, engine, queries, segments
from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes, Making, codes, naming, narrowing, reading, storing, sums, terms
from lineage.extracts.chosen import Chosen
from lineage.extracts.filed import Filed
from lineage.extracts.looking import Held, Lookup, Seen
from lineage.extracts.meanings import Meanings
from lineage.extracts.postings import NOTHING
from lineage.models import Identity
from lineage.queries import Subject, Window, candidates, places, touching
from lineage.queries.touching import OneRow
from tests import extracts
from tests.lineage.test_queries import ALL, STRANGER
from tests.lineage.test_same_answers import CUSTOMERS, Told, Unproxied, plain

pytestmark = pytest.mark.slow
TIMES = ("occurred_at", "received_at")


@pytest.fixture
def told(store: str) -> Told:
    made = Told()
    logins_of("orders")
    return made


def logins_of(datasource: str) -> None:
    """Some that change hands in between."""
    for login, person, day in (("omar", "omar@x", 1), ("omar", "", 20), ("app", "bob", 20), ("bob", "lea", 20)):
        Identity.objects.create(
            datasource="orders",
            db_user=login,
            person_id=person,
            name=person or "-",
            type="human",
            as_of=f"2026-11-{day:02}T10:00:20Z",
        )


@pytest.fixture
def asked(told: Told) -> Iterator[Question]:
    with Question(seconds=600) as question:
        yield question


def over(question: Question, condition: str) -> None:
    """What a companion is made of: these records of the log."""
    question.cursor.execute(f"create or replace temp view made as select * from resolved where {condition}")
    question.cursor.execute(f"create or replace temp view made_touches as select * from raw_touches where {condition}")


def filed(question: Question, folder: Path, condition: str, *earlier: Path) -> Path:
    folder.mkdir()
    over(question, condition)
    records = folder / "records.parquet"
    pq.write_table(question.cursor.sql("from made order by index").to_arrow_table(), records)
    making = Making(folder, 0, 0, question.cursor, records, None, earlier=earlier)
    for companion in (terms, sums, codes):
        companion.write(making)
    return folder


def seen(file: Filed, hidden: Indexes = NOTHING) -> Seen:
    return Seen(file, hidden, file.contents)


def lies(question: Question, folder: Path) -> Iterator[Lookup]:
    """The same records in one file, in two and memory with some of them again in the later ones, and merged."""
    size = question.size
    third, most = size // 3, 2 * size // 3
    yield Lookup([seen(Filed(filed(question, folder / "whole", "true")))], size, Meanings())
    early = filed(question, folder / "early", f"index < {third}")
    late = filed(question, folder / "late", f"(index >= {third} and index < {most}) or index in (2, 5, 9)", early)
    last = f"index >= {most} or index in (5, 11, {third + 3})"
    newest = Held(question.cursor, f"from resolved where {last}", f"from raw_touches where {last}")
    held = Seen(newest, NOTHING, lambda indexes: newest.read(question.cursor, indexes))
    again, fresh = np.array([2, 5, 9]), np.array([5, 11, third + 3])
    yield Lookup([seen(Filed(early), np.union1d(again, fresh)), seen(Filed(late), fresh), held], size, Meanings())
    merged = folder / "merged"
    merged.mkdir()
    terms.merge(Making(merged, 0, 0, question.cursor, merged, None, (early, late), (again, NOTHING)))
    yield Lookup([seen(Filed(merged), fresh), held], size, Meanings())


def test_a_card_shows_every_column_as_the_joined_views_do(asked: Question, tmp_path: Path) -> None:
    logins = asked.snapshot.identities.to_pylist()
    conflicted = [3, 4]
    asked.cursor.execute("create or replace temp view conflicted as select unnest([3, 4])::bigint as index")
    expected = {
        "activity": asked.arrow("select * exclude (tags) from activity order by all"),
        "touches": asked.arrow("select * exclude (tags) from touches order by all"),
    }
    for lookup in lies(asked, tmp_path):
        names, people = expected["activity"].schema.names, asked.snapshot.people
        alone = narrowing.read(lookup, np.arange(asked.size), Chosen(names, people, conflicted))
        contents = lookup.contents(np.arange(asked.size))
        shown = dict(
            zip(("activity", "touches"), naming.tables(lookup.columns, contents, logins, conflicted), strict=True)
        )
        for name, table in shown.items():
            asked.cursor.register("shown", table.select(expected[name].schema.names))
            found = asked.cursor.sql("select * from shown order by all").to_arrow_table()
            assert found.schema.remove_metadata().types == expected[name].schema.types
            assert found.to_pylist() == expected[name].to_pylist()
        whole = Chosen(names, people, conflicted).whole(lookup.columns, contents)
        assert whole == asked.rows(f"select {', '.join(names)} from activity order by index")
        assert alone == {row["index"]: row for row in whole}
        # Where few columns are chosen, what others say is still known.
        lookup.read.clear()
        for name in ("event_id", "received_at", "statement", "relations", "flags", "who_id", "attribution"):
            few = narrowing.read(lookup, np.arange(asked.size), Chosen(("index", name), people, conflicted))
            assert [few[row["index"]][name] for row in whole] == [row[name] for row in whole]


LISTS = ("read", "uncertain", "refused")
LATER = Window(since=dt.datetime(2026, 11, 20, 10, 0, 10, tzinfo=dt.UTC))


def lists(life: touching.Life, keys: Sequence[str]) -> dict[str, Any]:
    changed = {key: life.changed(key) for key in keys}
    wider = {f"wider, {most}": life.could_have_read(most) for most in (0, touching.ROW_MOST)}
    every = {name: getattr(life, name)() for name in LISTS} | changed | wider
    told = {event["index"]: sorted(life.keys_of([event])[event["index"]]) for event in chain(*changed.values())}
    return every | {"keys": told}


def every_row(question: Question) -> list[OneRow]:
    """Each key that a touch tells of, beside some that none does, with and without its columns."""
    for name in ("activity", "touches"):
        question.cursor.execute(f"create or replace temp table {name} as from {name}")
    met = question.rows(
        "select distinct datasource, relation, key, key_columns, pairs from touches where datasource is not null order by all"
    )
    sought = {
        (one["datasource"], one["relation"], key, columns, pairs)
        for one in met
        for key in (one["key"] or "4711", "none")
        for columns, pairs in (((), ()), (("id",), ()), (tuple(one["key_columns"]), tuple(one["pairs"])))
    }
    return [
        OneRow(place, places.spellings(name), key, list(columns), list(pairs))
        for place, name, key, columns, pairs in sorted(sought)
    ]


def compared(question: Question, lookup: Lookup, one: OneRow, viewer: Viewer, window: Window) -> int:
    by_sql = lists(touching._Asked(question, viewer, window, one), [one.key])
    assert lists(touching._LookedUp(question, lookup, viewer, window, one), [one.key]) == by_sql, (one, viewer, window)
    return sum(map(len, by_sql.values()))


def test_every_list_of_every_row_is_looked_up_as_it_is_asked_in_sql(asked: Question, tmp_path: Path) -> None:
    lookup = next(lies(asked, tmp_path))
    rows = every_row(asked)
    asks = [(one, ALL, Window()) for one in rows]
    asks += [(one, viewer, window) for one in rows[::5] for viewer, window in ((ALL, LATER), (STRANGER, Window()))]
    assert sum(compared(asked, lookup, *each) for each in asks) > len(rows)


def test_of_lists_that_are_cut_short_the_newest_are_looked_up(
    asked: Question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(touching, "ROW_MOST", 2)
    lookup = next(lies(asked, tmp_path))
    for one in every_row(asked)[::3]:
        compared(asked, lookup, one, ALL, Window())
        fewer = touching._LookedUp(asked, lookup, ALL, Window(), one, wider=1).could_have_read(1)
        assert fewer[:2] == touching._Asked(asked, ALL, Window(), one).could_have_read(1)[:2]


def test_of_reads_that_no_list_shows_it_is_counted_without_reading_them_of_how_many_acts_they_tell(
    asked: Question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "UNREAD_LEAST", 1)
    rows, counted = every_row(asked), 0
    for lookup in lies(asked, tmp_path):
        for one in rows:
            found = touching._LookedUp(asked, lookup, ALL, Window(), one, wider=1)
            counted += found.counted is not None
            assert found.could_have_read(1) == touching._Asked(asked, ALL, Window(), one).could_have_read(1)
    assert counted > 10


QUESTIONS = {
    "row": lambda: [queries.row(ALL, *CUSTOMERS, key) for key in ("4711", "4712", "4713", "0")],
    "window": lambda: queries.row(ALL, *CUSTOMERS, "4711", Window(since=NOON, until=NOON + dt.timedelta(seconds=20))),
    "identities": lambda: [queries.touched(ALL, Subject(identity=who)) for who in PEOPLE],
    "run": lambda: queries.touched(ALL, Subject(run="run-7")),
    "pages": lambda: [
        list(pages(lambda cursor, one=who: queries.touched(ALL, Subject(identity=one), limit=2, cursor=cursor)))
        for who in ("bob", "report-bot")
    ],
    "stranger": lambda: queries.touched(STRANGER, Subject(identity="report-bot")),
    "sessions": lambda: [queries.session(ALL, one["session"]) for one in queries.sessions(ALL).items],
    "within a session": lambda: queries.session(ALL, "orders~s-omar", q="op:update", limit=1),
}  # fmt: skip
PEOPLE = ("omar@x", "omar", "bob", "bob@x", "report-bot", "dana@shop.example", "orders_api", "nobody")
NOON = dt.datetime(2026, 11, 20, 10, tzinfo=dt.UTC)


def pages(page: Any) -> Iterator[Any]:
    cursor = None
    while cursor or cursor is None:
        answer = page(cursor)
        yield plain(answer)
        cursor = answer.next or ""


def test_questions_about_a_row_a_person_and_a_session_are_answered_as_over_the_whole_log(
    asked: Question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {name: plain(ask()) for name, ask in QUESTIONS.items()}
    for lookup in lies(asked, tmp_path):
        monkeypatch.setattr(Question, "look", lambda _, found=lookup: Lookup(found.layers, found.size, found.meanings))
        for name, ask in QUESTIONS.items():
            assert plain(ask()) == expected[name], name


def test_questions_are_looked_up_over_extracts_overridden_merged_and_damaged(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Unproxied()
    logins_of("orders")
    expected = {name: plain(ask()) for name, ask in QUESTIONS.items()}
    checkpoints.checkpoint()
    for end in (*told.cuts[:-1], None):
        monkeypatch.setattr(segments, "SEGMENT_MOST", end - segments.sealed_to() if end else 1000)
        assert segments.seal()
        assert extracts.everything() == 1
        with Question() as question:
            assert question.look() is not None
        assert {name: plain(ask()) for name, ask in QUESTIONS.items()} == expected
    assert extracts.merged()
    assert {name: plain(ask()) for name, ask in QUESTIONS.items()} == expected
    (one,) = storing.manifest()
    for name in terms.FILES:
        file = reading.folder(one.folder) / name
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2])
        engine._here().forget(None)
        with Question() as question:
            assert question.look() is None
        file.write_bytes(data)
    cards = reading.folder(one.folder) / terms.CARDS
    cards.write_bytes(bytes(64) + cards.read_bytes()[64:])
    engine._here().forget(None)
    assert {name: plain(ask()) for name, ask in QUESTIONS.items()} == expected
