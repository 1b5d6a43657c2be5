"""What a process keeps of the unsealed log: the same rows however it came to them, and no more than is unsealed."""

from __future__ import annotations

import datetime as dt

import psycopg
import pyarrow as pa
import pytest
from django.db import connection, transaction

from lineage import segments, tail, tree
from lineage.tail import Tail
from tests import story

NOW = dt.datetime(2026, 11, 22, 9, tzinfo=dt.UTC)


def looked(kept: Tail) -> tuple[pa.Table, pa.Table]:
    """Its rows after a look; of those that are sealed meanwhile none."""
    sealed_to = segments.sealed_to()
    with transaction.atomic():
        connection.ensure_connection()
        kept.look(psycopg.Cursor(connection.connection), sealed_to, tree.head())
    events, touches = (tail._unsealed(table, sealed_to) for table in kept.tables())
    return events, touches


def test_a_tail_has_the_same_rows_read_at_once_or_in_small_parts_or_as_they_come(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grown = Tail()
    looked(grown)
    monkeypatch.setattr(tail, "PARTS_MOST", 3)
    monkeypatch.setattr(segments, "SEGMENT_MOST", 40)
    story.tell(NOW)
    looked(grown)
    source = story.source("more", datasource="other")
    for n in range(5):
        story.send(source, story.query(f"more-{n}", NOW, story.DANA, "select 1 from customers", "read"))
        if n == 2:
            segments.seal()
        looked(grown)
    assert len(grown.parts) <= 3
    whole = looked(Tail())
    monkeypatch.setattr(tail, "READ_MOST", 7)
    for made in (looked(grown), looked(Tail())):
        assert all(a.equals(b) for a, b in zip(made, whole, strict=True))
    assert whole[0]["index"].to_pylist() == list(range(40, tree.head()))


def test_a_tail_that_is_wholly_sealed_keeps_nothing(store: str) -> None:
    story.tell(NOW)
    kept = Tail()
    assert looked(kept)[0].num_rows == tree.head()
    segments.seal()
    assert [table.num_rows for table in looked(kept)] == [0, 0]
    assert kept.parts == []
