"""Tests of control whose items are no acts: hours of sources and checkpoints, each deviation and nothing else, and the real store's."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest
from django.db import connection

from lineage import checkpoints, engine, outside, queries
from lineage.models import Source
from lineage.queries import hours, signed
from reports import controls
from tests.reports import made
from tests.reports.test_issuing import AUDITOR, DAY, NEXT, STRANGER, Shop, shop

__all__ = ["shop"]


def hour(number: int, **more: Any) -> dict[str, Any]:
    """An hour in which a source told 3 records and 60 heartbeats."""
    at = made.START + dt.timedelta(hours=number)
    return {
        "source": "log", "format": "postgres-csvlog", "environment": "prod", "datasource": "orders", "from_at": at,
        "to_at": at + dt.timedelta(hours=1), "first_index": 5, "records": 3, "heartbeats": 60, "put_aside": 0,
        "clock_skew": 0, "beats": True, "state": "complete", "states": [], "detail": None,
    } | more  # fmt: skip


def checkpoint(size: int, **more: Any) -> dict[str, Any]:
    return {
        "size": size, "signed_at": made.START + dt.timedelta(seconds=size), "in_hour": 1, "root": "ab", "note": "",
        "previous_size": size - 1, "previous_root": "aa", "proof": [], "signature_holds": True, "extends": True,
        "held_by": ["witness w"], "held_at": made.START,
    } | more  # fmt: skip


def answered(test: str, **tables: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = engine.over(tables, controls.tests()[test].sql).to_pylist()
    return rows


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, []),
        ({"records": 0}, []),
        ({"records": 0, "heartbeats": 0}, ["silent"]),
        ({"records": 0, "heartbeats": 0, "beats": False}, ["silence cannot be told from quiet"]),
        ({"heartbeats": 0, "beats": False}, []),
        ({"states": ["silent"]}, ["silent"]),
        ({"states": ["gap", "weakened"]}, ["gap", "capture weakened"]),
        ({"put_aside": 1, "clock_skew": 2}, ["put aside unread", "clock wrong"]),
    ],
)
def test_an_hour_of_a_source_deviates_by_what_was_not_heard(fields: dict[str, Any], words: list[str]) -> None:
    found = answered("source-hours", hours=pa.Table.from_pylist([hour(0, **fields), hour(1)], schema=hours.HOURS))
    assert [item["deviations"] for item in found] == [words, []]
    assert [item["item"] for item in found] == ["log 2026-11-20T10:00", "log 2026-11-20T11:00"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, []),
        ({"extends": None, "previous_size": None}, []),
        ({"signature_holds": False}, ["signature wrong"]),
        ({"extends": False}, ["does not extend the one before"]),
        ({"held_by": [], "held_at": None}, ["nobody outside holds it"]),
    ],
)
def test_a_checkpoint_deviates_unsigned_apart_or_held_by_nobody(fields: dict[str, Any], words: list[str]) -> None:
    table = pa.Table.from_pylist([checkpoint(7, **fields)], schema=signed.CHECKPOINTS)
    assert [item["deviations"] for item in answered("checkpoints", checkpoints=table)] == [words]


def test_the_hours_of_a_day_hold_what_came_and_what_was_silent(shop: Shop) -> None:
    Source.objects.filter(name="log").update(created_at=DAY, revoked_at=DAY + dt.timedelta(hours=12))
    Source.objects.filter(name="wal").update(created_at=DAY)
    table = queries.source_hours(AUDITOR, DAY, NEXT, environment="prod")["hours"].to_pylist()
    own = {name: [row for row in table if row["source"] == name] for name in ("log", "wal")}
    assert len(own["log"]) == 12
    assert len(own["wal"]) == 24
    assert (own["log"][10]["records"], own["log"][11]["records"], own["log"][0]["beats"]) == (6, 0, True)
    assert own["wal"][10]["records"] == 4
    assert queries.source_hours(STRANGER, DAY, NEXT)["hours"].num_rows == 0


def test_every_checkpoint_is_checked_against_the_one_before_and_against_what_others_hold(shop: Shop) -> None:
    size = checkpoints.checkpoint()
    shop.statement("select 1 from customers", 20, "read")
    later = checkpoints.checkpoint()
    outside.hand(size, "pull", "audit@example.test")
    now = dt.datetime.now(dt.UTC)
    asked = (AUDITOR, now - dt.timedelta(hours=2), now + dt.timedelta(hours=1))
    last = queries.checkpoint_chain(*asked)["checkpoints"].to_pylist()[-1]
    assert (last["size"], last["signature_holds"], last["held_by"]) == (later, True, [])
    before = queries.checkpoint_chain(*asked, as_of=size)["checkpoints"].to_pylist()[-1]
    assert (before["size"], before["held_by"]) == (size, ["pull audit@example.test"])


def test_a_checkpoint_that_does_not_extend_the_one_before_is_told(shop: Shop) -> None:
    size = checkpoints.checkpoint()
    with connection.cursor() as cursor:
        cursor.execute("select root, note from ledger_checkpoint where size = %s", [size])
        root, note = cursor.fetchone()
    at = dt.datetime.now(dt.UTC)
    lines = [(size, at, 1, bytes(root), note), (size, at, 1, bytes(32), note)]
    good, bad = signed._checked(lines, (1, bytes(32)))
    assert (good["signature_holds"], good["extends"]) == (True, False)
    assert (bad["signature_holds"], bad["extends"], bad["proof"]) == (False, False, [])
