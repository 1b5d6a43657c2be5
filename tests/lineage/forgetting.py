"""A small log with a secret in it, and two people who may erase, for the tests of erasure, holds and retention."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import connection

from lineage import access, keeper, ledger, packs
from lineage.access import Viewer
from lineage.models import Source
from tests import story

AT = dt.datetime(2026, 11, 20, 9, 0, tzinfo=dt.UTC)
CARLA, CLAUS = "carla@compliance.example", "claus@compliance.example"


def people() -> tuple[Viewer, Viewer]:
    """Two of compliance; the first asks, the second approves."""
    return access.viewer_of(story.person(CARLA, "compliance")), access.viewer_of(story.person(CLAUS, "compliance"))


def act_as(role: str) -> None:
    """From here on this connection has only the rights of a working role, as the product's processes do."""
    with connection.cursor() as cursor:
        cursor.execute(f"set role touchstone_{role}")


def rows(sql: str, *values: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


def send(secret: str, source: Source | None = None, key: str = "4711") -> list[int]:
    """Three records: a statement that names the secret, a change that holds it, and a statement of another row."""
    return story.send(source or story.source(), *items(secret, key))


def items(secret: str, key: str) -> list[dict[str, Any]]:
    """What `send` sends, as native events."""
    text = f"update customers set name = '{secret}' where id = {key}"
    change = {
        "kind": "change", "op": "update", "datasource": "orders-prod", "occurred_at": "2026-11-20T09:00:02.000000Z",
        "resources": [{"schema": "public", "relation": "customers"}], "key": [{"column": "id", "value": key}],
        "before": [{"column": "name", "value": "Jon"}], "after": [{"column": "name", "value": secret}],
    }  # fmt: skip
    return [
        story.query(f"q-{key}-1", AT, story.DANA, text, "update"),
        {**change, "source_event_id": f"c-{key}-1"},
        story.query(f"q-{key}-2", AT, story.OMAR, "select * from customers where id = 12", "read"),
    ]


def read(viewer: Viewer, q: str) -> int:
    """A read of evidence, recorded as a page records it; its index."""
    return ledger.record_decision("evidence_read", decided_by=viewer.email, subject="/search", purpose=f"q={q}").index


def locked(work: Any, *values: Any) -> Any:
    with keeper.lock():
        return work(*values)


def pack(viewer: Viewer, q: str) -> bytes:
    keeper.once()
    return packs.collect(viewer, q)


def decisions(kind: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(subject, transition, the whole decision) of the store's own decisions of one type, in order."""
    import msgspec

    from lineage.engine import Question

    with Question() as question:
        found = question.rows(f"select decision from raw_events where decision_type = '{kind}' order by index")
    decoded = [msgspec.json.decode(row["decision"]) for row in found]
    return [(d.get("subject", ""), d.get("transition", ""), d) for d in decoded]
