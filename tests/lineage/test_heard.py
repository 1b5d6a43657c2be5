"""Who was heard when, kept beside the segments: the same as from the records, however the log lies, and gone with what is erased."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pyarrow.parquet as pq
import pytest

from lineage import checkpoints, engine, erasures, fsck, heard, listened, listening, segments
from lineage.access import Viewer
from lineage.engine import Question
from lineage.erasures import execution
from lineage.listened import Places
from lineage.models import Source
from lineage.queries import Window, walking
from lineage.queries.ask import OWN, scoped
from lineage.queries.extent import extents
from tests import merges
from tests.lineage import forgetting
from tests.lineage.test_queries import ALL, Feed

pytestmark = pytest.mark.slow

TIMES = (
    "1969-12-31T23:30:00.000000Z", "1970-01-01T00:20:00.000000Z", "2026-11-18T23:59:59.999999Z",
    "2026-11-20T00:00:00.000000Z", "2026-11-20T00:10:00.000000Z", "2026-11-20T10:05:00.000001Z", "2026-11-20T10:05:00.000002Z",
    "2026-11-20T23:59:59.999999Z", "2026-11-21T00:00:00.000000Z", "2026-11-21T12:00:00.000000Z",
)  # fmt: skip


def windows() -> list[Window]:
    """Whose ends are at records and just behind them, on one day, on two, and open."""
    (before, after), (dawn, late), (noon, past) = (
        (at, at + dt.timedelta(microseconds=1)) for at in map(dt.datetime.fromisoformat, (TIMES[2], TIMES[5], TIMES[9]))
    )
    ends = [(None, None), (before, None), (after, past), (dawn, late), (late, noon), (None, late), (past, None)]
    return [*(Window(*both) for both in ends), Window(dawn, noon, "prod")]


VIEWERS = (
    ALL,
    Viewer("a@x", "auditor", ("orders",), (), dt.datetime(2026, 11, 20, 10, 5, 0, 2, dt.UTC)),
    Viewer("a@x", "auditor", (), ("test",), None, dt.datetime(2026, 11, 20, 10, tzinfo=dt.UTC)),
    Viewer("a@x", "auditor", ("elsewhere",)),
    Viewer("a@x", "witness"),
)


def of_records(question: Question, viewer: Viewer, window: Window) -> dict[str, tuple[Any, Any]]:
    condition, values = scoped(viewer, window)
    rows = question.rows(
        "select source, min(occurred_at) as from_at, max(occurred_at) as to_at from raw_events "
        f"where {condition} and source <> '{OWN}' group by source",
        values,
    )
    return {row["source"]: (row["from_at"], row["to_at"]) for row in rows}


def check(size: int | None) -> None:
    """What is kept says what the records say, of every window and viewer."""
    with Question(as_of=size, joined=False) as question:
        for viewer, window in itertools.chain(
            itertools.product(VIEWERS[:1], windows()), zip(VIEWERS[1:], windows()[2:], strict=False)
        ):
            assert extents(question, viewer, window) == of_records(question, viewer, window), (viewer, window)
        question.cursor.execute(f"create temp table again as {heard.made_of('raw_events')}")
        again = Places()
        made = listened.together([listened.rows(question.arrow("select * from again"), again, 0)])
        near = question.hear()
        assert sorted(near.ever, key=repr) == sorted(made.ever, key=repr)
        assert near.told == made.told
        assert size is not None or len(near.told) == 2


@pytest.mark.parametrize(
    ("busy", "kept"), [(heard.BUSY, listening.LOOKED_MOST), (3, 6), (3, 1)], ids=["days", "hours", "hours-not-kept"]
)
def test_first_and_last_are_those_of_the_records_in_every_window_however_the_log_lies(
    store: str, monkeypatch: pytest.MonkeyPatch, busy: int, kept: int
) -> None:
    monkeypatch.setattr(heard, "BUSY", busy)
    monkeypatch.setattr(listening, "LOOKED_MOST", kept)
    feed = Feed()
    other = Source.objects.create(name="other", format="events", environment="test", datasource="sales")
    for number, at in enumerate((*TIMES, *reversed(TIMES[3:7]))):
        feed.statement("select 1", op="read", occurred_at=at)
        feed.send(other if number % 3 else feed.wal, kind="query", op="read", occurred_at=at)
        if number in (4, 9):
            feed.statement("set pgaudit.log = 'none'", op="other", occurred_at=at)
    with Question(joined=False) as question:
        size = question.size
    check(None)
    check(size - 5)
    checkpoints.checkpoint()
    for most in (9, 1_000):
        monkeypatch.setattr(segments, "SEGMENT_MOST", most)
        assert segments.seal()
        check(None)
    check(size - 5)
    assert merges.everything()
    check(None)


def test_the_day_of_a_time_is_the_one_that_it_lies_in_also_before_1970(store: str) -> None:
    with Question(joined=False) as question:
        for at in TIMES:
            moment = dt.datetime.fromisoformat(at)
            (row,) = question.rows(f"select {heard.DAY.format('?::timestamptz')} as day", [moment])
            assert row["day"] == (moment - walking.EPOCH) // walking.DAY, at


def kept(folder: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(segments.storage().path(folder, "heard")).to_pylist()
    return found


def remembered() -> str:
    """What this process keeps after a question."""
    with Question(joined=False) as question:
        question.hear()
    kept = engine._here().listening.kept
    return str([kept.parts, kept.together, kept.tail and kept.tail[2], kept.newest])


def test_what_an_erasure_takes_of_a_record_is_no_longer_told_of_its_source(store: str, settings: Any) -> None:
    settings.GRACE_SECONDS, settings.WAL_HOURS = -settings.QUERY_SECONDS, 0
    pair, feed = forgetting.people(), Feed()
    feed.statement("select 1", op="read")
    index = feed.statement("set pgaudit.log = 'none'", op="ddl")
    forgetting.locked(execution.seal_everything)
    (folder,) = [folder for _, _, folder, _ in segments.manifest()]
    assert "pgaudit" in str(kept(folder))
    assert "pgaudit" in remembered()
    asked = erasures.request(pair[0], f"index:{index}", ["statement"], reason="asked", ground="GDPR art. 17")
    erasures.approve(pair[1], asked.number)
    forgetting.locked(erasures.run_due)
    folders = [folder for _, _, folder, _ in segments.manifest()]
    assert "pgaudit" not in str([kept(folder) for folder in folders])
    assert "pgaudit" not in remembered()
    assert not list((segments.storage().root / folder).glob("*"))
    check(1)
    assert list(fsck.check()) == []
