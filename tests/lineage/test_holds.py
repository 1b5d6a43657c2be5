"""Holds: one person places, two release; what is held is neither erased nor does it expire."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError

from lineage import erasures, errors, holds, rights, segments
from lineage.access import Viewer
from tests import story
from tests.lineage import forgetting

pytestmark = pytest.mark.slow

WORDS = {"reason": "asked by the person", "ground": "GDPR art. 17"}


@pytest.fixture
def pair(store: str) -> tuple[Viewer, Viewer]:
    return forgetting.people()


def intact() -> bool:
    return all(None not in record.groups.values() for record in segments.records(range(3)))


def last_refusal(kind: str) -> tuple[str, str]:
    (row,) = forgetting.rows("select kind, code from ledger_refusal order by id desc limit 1")
    assert forgetting.decisions(kind)[-1][1] == "refused"
    return row


def test_a_hold_refuses_request_approval_and_execution(pair: tuple[Viewer, Viewer]) -> None:
    forgetting.send("Zebedee-Q7")
    first = erasures.request(pair[0], "key:4711", ["change"], **WORDS).number
    second = erasures.request(pair[0], "key:4711", ["change"], **WORDS).number
    erasures.approve(pair[1], second)
    holds.add(pair[0], "key:4711", "court case 7")
    for deed in (
        lambda: erasures.request(pair[0], "key:4711", ["change"], **WORDS),
        lambda: erasures.approve(pair[1], first),
        lambda: forgetting.locked(erasures.execute, second),
    ):
        with pytest.raises(errors.Held, match="hold 1"):
            deed()
        assert last_refusal("erasure") == ("erasure", "held")
    assert intact()
    assert [e.state for e in erasures.listing()] == ["refused", "requested"]
    assert forgetting.locked(erasures.run_due) == 0


def test_a_hold_covers_what_comes_later_and_only_what_it_names(pair: tuple[Viewer, Viewer]) -> None:
    source = story.source()
    holds.add(pair[0], "key:4711", "court case 7")
    forgetting.send("Zebedee-Q7", source)
    assert [h.records for h in holds.listing()] == [0]
    assert holds.among([1, 2, 3]) == {1: {1, 2}}
    assert erasures.request(pair[0], "key:12", ["change"], **WORDS).records == 1


def test_a_range_is_held_by_its_indexes_even_when_the_search_no_longer_finds_it(pair: tuple[Viewer, Viewer]) -> None:
    forgetting.send("Zebedee-Q7")
    holds.add(pair[0], "", "court case 7", 1, 2)
    holds.add(pair[0], "key:4711", "court case 8", 0, 0)
    assert holds.among(range(5)) == {1: {1, 2}, 2: {0, 1}}


def test_the_release_needs_two_people_and_every_step_is_a_record(pair: tuple[Viewer, Viewer]) -> None:
    forgetting.send("Zebedee-Q7")
    number = holds.add(pair[0], "key:4711", "court case 7")
    assert holds.release(pair[0], number) is False
    with pytest.raises(errors.AccessDenied, match="another person"):
        holds.release(pair[0], number)
    assert last_refusal("hold") == ("hold", "access-denied")
    assert holds.among([0]) == {number: {0}}
    with pytest.raises(DatabaseError, match="another person"):
        rights.call("select ledger_release_hold(%s, %s)", number, pair[0].email.upper())
    assert holds.release(pair[1], number) is True
    assert holds.among([0]) == {}
    assert [hold.query for hold in holds.listing()] == [None]
    with pytest.raises(errors.NotFound):
        holds.release(pair[1], number)
    said = [transition for _, transition, _ in forgetting.decisions("hold")]
    assert said == ["placed", "release requested", "refused", "released", "refused"]
    assert forgetting.decisions("hold")[3][2]["requested_by"] == pair[0].email


def test_others_may_not_hold_and_an_empty_hold_says_nothing(pair: tuple[Viewer, Viewer]) -> None:
    forgetting.send("Zebedee-Q7")
    bad: list[tuple[Viewer, tuple[Any, ...], type[Exception]]] = [
        (Viewer("olaf@operations.example", "operator"), ("key:4711", "why"), errors.AccessDenied),
        (pair[0], ("", "why"), errors.QueryInvalid),
        (pair[0], ("key:4711", ""), errors.QueryInvalid),
        (pair[0], ("", "why", 3), errors.QueryInvalid),
    ]
    for who, given, error in bad:
        with pytest.raises(error):
            holds.add(who, *given)
    assert holds.listing() == []
    assert rights.refusals() == 4
