"""Erasure: two people, what goes, what stays, what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from lineage import erasures, errors, fsck, keeper, notes, queries, rights, segments
from lineage.access import Viewer
from tests.lineage import forgetting

SECRET = "Zebedee-Q7"
ALL = ["actor", "action", "statement", "change"]


@pytest.fixture
def pair(store: str, settings: Any) -> tuple[Viewer, Viewer]:
    settings.GRACE_SECONDS = -settings.QUERY_SECONDS
    return forgetting.people()


def ask(viewer: Viewer, query: str = "key:4711", groups: list[str] = ALL, **more: Any) -> erasures.Asked:
    given = {"reason": "asked by the person", "ground": "GDPR art. 17"} | more
    return erasures.request(viewer, query, groups, **given)


def erased(pair: tuple[Viewer, Viewer], query: str = "key:4711", groups: list[str] = ALL, **more: Any) -> int:
    number = ask(pair[0], query, groups, **more).number
    erasures.approve(pair[1], number)
    forgetting.locked(erasures.execute, number)
    return number


def groups_of(index: int) -> dict[str, bytes | None]:
    (record,) = segments.records([index])
    return record.groups


def test_an_approved_erasure_takes_values_and_salts_and_leaves_the_leaf(pair: tuple[Viewer, Viewer]) -> None:
    statement, change, other = forgetting.send(SECRET)
    keeper.once()
    before = dict(segments.leaves(0, 3))
    number = erased(pair)
    assert erasures.one(number).state == "pending"
    assert set(groups_of(statement).values()) == set(groups_of(change).values()) == {None}
    assert None not in groups_of(other).values()
    (record,) = segments.records([change])
    assert set(record.salts.values()) == {None}
    assert dict(segments.leaves(0, 3)) == before
    assert list(fsck.check()) == []


def test_what_is_asked_afterwards_no_longer_knows_the_value(pair: tuple[Viewer, Viewer]) -> None:
    forgetting.send(SECRET)
    assert queries.events(pair[0], SECRET).total.value == 1
    erased(pair)
    assert queries.events(pair[0], SECRET).items == []
    assert queries.events(pair[0], f'after.name:"{SECRET}"').items == []
    assert queries.touches(pair[0], "key:4711").items == []
    assert queries.events(pair[0], "key:12").total.value == 1
