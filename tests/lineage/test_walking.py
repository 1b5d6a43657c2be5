"""Lists are walked from the newest record on, in parts; their pages and totals are those of the whole."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage import checkpoints, queries, segments
from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries import Answer, Subject, Window, counts, paging, walking
from lineage.queries.ask import make_cursor
from tests import merges, story

NOW = dt.datetime(2026, 11, 22, 9, tzinfo=dt.UTC)
AUDITOR = Viewer("alice@audit.example", "auditor")
RANGES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 120))).map(
    lambda some: walking._together((start, start + length) for start, length in some)
)


@given(RANGES, st.booleans(), st.integers(0, 400))
def test_a_walk_passes_everything_once_in_order_in_parts_that_grow(
    some: list[walking.Range], is_up: bool, place: int
) -> None:
    every = [index for start, end in some for index in range(start, end)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walking, "FIRST", 3)
        parts = list(walking.steps(some, is_up))
        alone = list(walking.apart(some, first=3))
    passed = [[i for i in every if start <= i < end] for start, end in (parts if is_up else reversed(parts))]
    assert [index for part in passed for index in part] == every
    lengths = [len(part) for part in (passed if is_up else reversed(passed))]
    assert lengths[:-1] == [3 * walking.GROWTH**n for n in range(len(lengths) - 1)]
    assert [index for start, end in reversed(alone) for index in range(start, end)] == every
    for cut, kept in ((walking.below(some, place), [i for i in every if i < place]),
                      (walking.above(some, place), [i for i in every if i > place])):  # fmt: skip
        assert [index for start, end in cut for index in range(start, end)] == kept


@pytest.fixture
def told(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three days of it, of which the newest lies in the tail; looked at in steps of a few records."""
    monkeypatch.setattr(walking, "FIRST", 5)
    monkeypatch.setattr(walking, "GROWTH", 2)
    source = story.source()
    three = {"resources": [{"schema": "public", "relation": f"t{n}", "access": "read"} for n in range(3)]}
    for day in range(3):
        at = NOW + dt.timedelta(days=day)
        story.send(source, *(story.query(f"{day}-{n}", at, story.DANA, "select 1", "read", **three) for n in range(5)))
        if day == 1:
            checkpoints.checkpoint()
            monkeypatch.setattr(segments, "SEGMENT_MOST", 6)
            assert [segments.seal(), segments.seal()] == [6, 4]


LISTS: dict[str, Callable[..., Answer]] = {"activity": queries.events, "touches": queries.touches}
WINDOWS = [Window(), Window(NOW + dt.timedelta(hours=20), NOW + dt.timedelta(days=1, hours=1))]


def places(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["index"], row.get("relation"), row.get("key"), row.get("access")) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("relation", LISTS)
def test_pages_forwards_and_backwards_are_the_whole_list(told: None, relation: str) -> None:
    ask = LISTS[relation]
    for window in WINDOWS:
        whole = ask(AUDITOR, "", window, limit=100)
        assert whole.next is None
        pages, backs = [answer := ask(AUDITOR, "", window, limit=4)], []
        while answer.next:
            pages.append(answer := ask(AUDITOR, "", window, limit=4, cursor=answer.next))
        assert places([row for page in pages for row in page.items]) == places(whole.items)
        assert {page.total for page in pages} == {queries.Total(len(whole.items), exact=True)}
        while answer.previous:
            backs.append(answer := ask(AUDITOR, "", window, limit=4, cursor=answer.previous))
        assert [places(page.items) for page in reversed(backs)] == [places(page.items) for page in pages[:-1]]


def test_what_lies_outside_of_a_window_is_not_walked_and_nothing_else_is_left_out(told: None) -> None:
    def walked(window: Window) -> list[walking.Range]:
        with Question() as question:
            return walking.ranges(question, AUDITOR, window)

    assert walked(Window()) == [(0, 15)]
    assert walked(Window(until=NOW - dt.timedelta(days=9))) == [(10, 15)]
    for _ in range(2):
        assert walked(Window(until=NOW + dt.timedelta(hours=1))) == [(0, 5), (10, 15)]
        assert walked(Window(NOW + dt.timedelta(days=1))) == [(5, 15)]
        merges.everything()


def test_a_cursor_that_nobody_made_shows_no_more_than_the_list(told: None) -> None:
    for place in ([10**9, 10**6], [-5, 0], [8, 999_999]):
        for back in ("", paging.BACK):
            answer = queries.touches(AUDITOR, cursor=back + make_cursor(12, place))
            assert all(row["index"] < 12 for row in answer.items)


GROUPED: dict[str, Callable[..., Answer]] = {
    "relations": queries.relations,
    "tables touched": lambda viewer, **more: queries.touched(
        viewer, Subject(identity=story.DANA["id"]), "tables", **more
    ),
}


@pytest.mark.parametrize("name", GROUPED)
def test_every_page_of_grouped_rows_knows_how_many_there_are(told: None, name: str) -> None:
    ask = GROUPED[name]
    whole = ask(AUDITOR)
    assert len(whole.items) == 3
    pages = [ask(AUDITOR, limit=2)]
    pages.append(ask(AUDITOR, limit=2, cursor=pages[0].next))
    assert [row for page in pages for row in page.items] == whole.items
    assert [page.total.value for page in [whole, *pages]] == [3, 3, 3]
    assert ask(AUDITOR, limit=2, cursor=pages[1].previous).items == pages[0].items
    beyond = ask(AUDITOR, cursor=make_cursor(15, [0, "z", "z"] + (["z"] if name != "relations" else [])))
    assert (beyond.items, beyond.next, beyond.total.value) == ([], None, 3)


def test_facets_count_the_newest_matches_alone(told: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert queries.search_counts(AUDITOR)["datasource"] == [{"name": "orders-prod", "count": 15}]
    assert queries.search_counts(AUDITOR, by="touch")["relation"][0] == {"name": "public.t0", "count": 15}
    monkeypatch.setattr(counts, "FACET_MOST", 7)
    found = queries.search_counts(AUDITOR)
    assert found["datasource"] == [{"name": "orders-prod", "count": 7}]
    assert found["relation"] == [{"name": f"public.t{n}", "count": 7} for n in range(3)]
    assert found["ticket"] == []


def test_every_kind_is_counted_over_all_steps_until_there_is_much(told: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def values() -> dict[str, tuple[int, bool]]:
        return {kind: (n.value, n.exact) for kind, n in queries.kinds_counted(AUDITOR, "", Window()).items()}

    assert values() == {
        "event": (15, True),
        "touch": (45, True),
        "session": (1, True),
        "identity": (1, True),
        "relation": (3, True),
    }
    monkeypatch.setattr(counts, "COUNT_MOST", 2)
    assert values() == {
        "event": (2, False),
        "touch": (2, False),
        "session": (1, False),
        "identity": (1, False),
        "relation": (2, False),
    }
