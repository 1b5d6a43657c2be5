"""Words in statements: the same records whether the statements of extracts are looked through or the whole log is asked."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from lineage import checkpoints, engine, queries, segments
from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import OVERRIDES, folded, reading, storing
from lineage.extracts.postings import Damaged
from lineage.queries import Window, worded
from tests import extracts
from tests.lineage.test_queries import ALL, STRANGER
from tests.lineage.test_same_answers import Unproxied, plain

LIMITED = Viewer("lea@x", "auditor", datasources=("orders",), from_at=dt.datetime(2026, 11, 20, 10, tzinfo=dt.UTC))
AT = dt.datetime(2026, 11, 20, 10, 30, tzinfo=dt.UTC)
SEARCHES = (
    "text:UPDATE",
    'text:"customers set"',
    "text:update text:customers",
    "text:SELECT",
    'text:"ÄHRE"',
    "text:no-such-word",
)
WINDOWS = (Window(), Window(AT, None), Window(None, AT), Window(environment="nowhere"))


def lists() -> list[Any]:
    found = []
    for viewer in (ALL, LIMITED, STRANGER):
        for q in SEARCHES:
            found += [plain(queries.events(viewer, q, window)) for window in WINDOWS]
            page = queries.events(viewer, q, limit=1)
            while page.next:
                found.append(plain(page))
                page = queries.events(viewer, q, limit=1, cursor=page.next)
    return found


def by_log(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    with monkeypatch.context() as patched:
        patched.setattr(Question, "look", lambda _: None)
        return lists()


def looked_through() -> bool:
    """Whether the words are looked for in the statements of extracts."""
    with Question() as question:
        look = question.look()
        of = worded.paging.Listed(question, "activity", "", [], [(0, question.size)])
        found = worded.listed(of, look, ALL, SEARCHES[0], Window()) if look is not None else None
        return found is not None and len(found._newest(0)) > 0


@pytest.mark.slow
def test_words_are_found_in_the_tail_in_extracts_overridden_and_merged(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Unproxied()
    told.feed.statement("select 'Ähre', 1 from customers", op="read")
    expected = lists()
    assert any(page["items"] for page in expected)
    assert not looked_through()
    checkpoints.checkpoint()
    for end in (told.cuts[1], None):
        monkeypatch.setattr(segments, "SEGMENT_MOST", end - segments.sealed_to() if end else 1000)
        assert segments.seal()
        assert extracts.everything() == 1
        assert looked_through()
        assert lists() == expected
    assert any(OVERRIDES in one.files for one in storing.manifest())
    assert extracts.merged()
    assert lists() == expected
    told.feed.statement("update customers set b = 'ähre'", op="update")
    assert looked_through()
    again = lists()
    assert again == by_log(monkeypatch) != expected
    few = [plain(queries.events(ALL, q)) for q in SEARCHES]
    (one,) = storing.manifest()
    file = reading.folder(one.folder) / folded.FILE
    file.write_bytes(file.read_bytes()[:-1])
    engine._here().forget(None)
    with pytest.raises(Damaged):
        looked_through()
    assert [plain(queries.events(ALL, q)) for q in SEARCHES] == few


@pytest.mark.parametrize("q", ["text:a or text:b", "-text:a", "text:a relation:customers", "text:*", "", "a"])
def test_a_search_for_more_than_words_is_asked_of_the_log(q: str) -> None:
    assert worded.read(q) is None
