"""Sums over hours: the first page counts out of them what it counts over records, however the log is cut."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest

from lineage import checkpoints, engine, segments
from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import firsts, reading, storing, summing, sums
from lineage.extracts.looking import Unable, Wanted
from lineage.queries import Window, arrivals, glance, walking
from lineage.queries import summing as summing_of
from lineage.queries.ask import ACCESSES, scoped
from tests import extracts
from tests.lineage.test_lookups import logins_of
from tests.lineage.test_queries import ALL, STRANGER, Feed, emit
from tests.lineage.test_same_answers import Unproxied

LIMITED = Viewer("lea@x", "auditor", datasources=("orders",), from_at=dt.datetime(2026, 11, 20, 9, 45, tzinfo=dt.UTC))


class Called(Unproxied):
    """The same with statements of which several records tell: of two hours, in two extracts, or both."""

    def lines(self, call: str, *times: str, verdict: str = "allowed") -> None:
        for time in times:
            self.feed.send(
                self.feed.log, kind="query", op="update", verdict=verdict, actor={"db_user": "omar"}, db_session_id="s-9",
                correlation_id=call, occurred_at=f"2026-11-20T{time}.000000Z",
                statement={"text": "update customers set a = 1", "state": "whole"}, **{"class": "write"},
            )  # fmt: skip

    def first_sides(self) -> None:
        super().first_sides()
        for xid in ("300", "301", "302"):
            self.feed.statement("update payments set a = 1 where id = 5", user="orders_api", xid=xid)
        self.lines("a", "09:59:59", "10:00:01", "10:00:10")
        self.lines("b", "10:00:30")
        self.lines("c", "09:30:00", "09:31:00")

    def second_sides(self) -> None:
        super().second_sides()
        # The first two are told anew: whose first access the third is, no file says.
        for xid in ("300", "301"):
            self.feed.claim(xid, "dana@shop.example")
            self.feed.statement(emit("dana@shop.example"), user="orders_api", op="read", xid=xid)
        self.lines("c", "10:30:00")
        self.lines("b", "10:00:40", verdict="blocked")

    def other_sides(self) -> None:
        super().other_sides()
        self.lines("b", "11:00:00")
        self.lines("d", "08:00:00")

    def rest(self) -> None:
        super().rest()
        self.lines("c", "09:32:00")
        self.lines("a", "12:00:00")


def at(time: str) -> dt.datetime:
    return dt.datetime.fromisoformat(f"2026-11-20T{time}+00:00")


WINDOWS = (
    Window(), Window(environment="prod"), Window(environment="nowhere"), Window(at("09:00:00"), at("11:00:00")),
    Window(at("10:00:02.5"), at("10:00:35")), Window(None, at("10:00:30")), Window(at("10:00:05"), None),
    Window(at("09:30:30"), at("10:30:00")), Window(at("13:00:00"), at("14:00:00")),
)  # fmt: skip


def counts() -> list[Any]:
    return [
        counted(viewer, window)
        for viewer, windows in ((ALL, WINDOWS), (LIMITED, WINDOWS[:1]), (STRANGER, WINDOWS[4:5]))
        for window in windows
    ]


def counted(viewer: Viewer, window: Window) -> tuple[Any, list[int], int, list[Any]]:
    came = [
        (one["index"], one["who_id"], one["relation"], one["accesses"]) for one in arrivals.firsts(viewer, window).items
    ]
    with Question() as question:
        return (
            glance.counted(question, viewer, window),
            newest(question, viewer, window),
            arrivals.first_accesses(question, viewer, window),
            came,
        )


def newest(question: Question, viewer: Viewer, window: Window) -> list[int]:
    """The newest accesses, by marks or, where there are none, by records."""
    where = walking.ranges(question, viewer, window)
    found = summing_of.newest(question, viewer, window, where, 7)
    if found is None:
        condition, values = scoped(viewer, window)
        real = f"{condition} and environment <> 'touchstone' and {ACCESSES}"
        found = [row["index"] for row in walking.rows(question, "index", "activity", real, values, where, 7)]
    return found


def used() -> tuple[bool, bool]:
    """Whether there are sums, and first accesses."""
    with Question() as question:
        look = question.look()
        found = (look.totals(Wanted()), look.first_accesses()) if look is not None else (None, None)
        return found[0] is not None, found[1] is not None


def by_records(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    with monkeypatch.context() as patched:
        patched.setattr(Question, "look", lambda _: None)
        return counts()


@pytest.mark.slow
def test_the_first_page_counts_out_of_sums_what_it_counts_over_records(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Called()
    expected = counts()
    assert used() == (False, False)
    checkpoints.checkpoint()
    for end in (*told.cuts[:-1], None):
        monkeypatch.setattr(segments, "SEGMENT_MOST", end - segments.sealed_to() if end else 1000)
        assert segments.seal()
        assert extracts.everything() == 1
        assert used() == (True, True)
        assert counts() == expected
    logins_of("orders")
    expected = by_records(monkeypatch)
    assert used()[0]
    assert counts() == expected
    assert extracts.merged()
    assert used()[0]
    assert counts() == expected
    told.lines("b", "10:00:41")
    told.lines("e", "10:00:42")
    expected = by_records(monkeypatch)
    assert counts() == expected
    (one,) = storing.manifest()
    for name in (*sums.FILES, firsts.FILE):
        file = reading.folder(one.folder) / name
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2])
        engine._here().forget(None)
        assert used()[0] == (name == firsts.FILE)
        assert counts() == expected
        file.write_bytes(data)


def test_accesses_of_more_than_five_days_are_told_by_day_in_both_ways(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed()
    for day, hour in ((11, 23), (11, 22), (15, 1), (16, 9), (16, 9), (16, 10)):
        feed.statement("select 1 from customers", op="read", occurred_at=f"2026-11-{day}T{hour:02}:30:00.000000Z")
    checkpoints.checkpoint()
    assert segments.seal()
    assert extracts.everything() == 1
    days = Window(dt.datetime(2026, 11, 11, 22, 10, tzinfo=dt.UTC), None)
    hours = Window(dt.datetime(2026, 11, 12, tzinfo=dt.UTC), None)
    bars = {}
    for window in (days, hours):
        bars[window] = [(row["hour"], row["count"]) for row in counted(ALL, window)[0]["bars"]]
        with monkeypatch.context() as patched:
            expected = counted(ALL, window)
            patched.setattr(Question, "look", lambda _: None)
            assert counted(ALL, window) == expected
    assert used()[0]
    assert [(hour.day, hour.hour, count) for hour, count in bars[days]] == [(11, 0, 2), (15, 0, 1), (16, 0, 3)]
    assert [(hour.day, hour.hour, count) for hour, count in bars[hours]] == [(15, 1, 1), (16, 9, 2), (16, 10, 1)]


def test_a_window_is_whole_hours_and_what_its_ends_and_changing_logins_cut() -> None:
    hour = summing.HOUR
    assert summing.divided(None, None, []) == [
        summing.Part(None, None, is_timeless=True), summing.Part(None, None),
    ]  # fmt: skip
    assert summing.divided(5, 3 * hour + 7, []) == [
        summing.Part(5, hour, is_whole=False), summing.Part(hour, 3 * hour), summing.Part(3 * hour, 3 * hour + 7, is_whole=False),
    ]  # fmt: skip
    assert summing.divided(5, 9, [7, 9]) == [summing.Part(5, 7, is_whole=False), summing.Part(7, 9, is_whole=False)]
    assert summing.divided(-5, hour, []) == [summing.Part(-5, 0, is_whole=False), summing.Part(0, hour)]
    assert [one.hours for one in summing.divided(None, 2 * hour, [hour])] == [(sums.NO_HOUR + 1, 1), (1, 2)]
    with pytest.raises(Unable):
        summing.divided(0, 1000, list(range(1, 100)))
    assert np.isin(sums.NO_HOUR, summing.divided(None, None, [])[0].hours)
