"""Quarantined items: bytes that never became a record, and so have no index.

An item is read again beside `beside_decisions`, and an erasure is approved behind `before_decision`: what is read again is in the
log before the approval, or sees the approval.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from django.db import connection

from lineage.access import Viewer
from lineage.erasures import selection
from lineage.models import Source

LOCK = 7304


def beside_decisions() -> None:
    """Until the transaction ends no erasure is approved; others read items again meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock_shared(%s)", [LOCK])


def before_decision() -> None:
    """Waits for all who read an item again just now."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(%s)", [LOCK])


def matching(viewer: Viewer, wanted: selection.Wanted) -> list[int]:
    """Items of sources in the viewer's scope that are named, or whose bytes hold one of the texts."""
    texts = selection.sought(wanted)
    if not texts and not wanted.quarantine:
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "select id, body from ledger_quarantine where source_id = any(%s) and length(body) > 0 "
            "and (id = any(%s) or exists (select 1 from unnest(%s::bytea[]) as t(text) where position(t.text in body) > 0))",
            [_sources(viewer), list(wanted.quarantine), _forms(texts)],
        )
        rows = cursor.fetchall()
    return [number for number, body in rows if number in wanted.quarantine or _names_one(texts, bytes(body))]


def _sources(viewer: Viewer) -> list[int]:
    return [
        source.pk
        for source in Source.objects.all()
        if (not viewer.datasources or source.datasource in viewer.datasources)
        and (not viewer.environments or source.environment in viewer.environments)
    ]


def _forms(texts: Sequence[str]) -> list[bytes]:
    """Each text as it is and as JSON writes it."""
    return [form for text in texts for form in {text.encode(), msgspec.json.encode(text)[1:-1]}]


def _names_one(texts: Sequence[str], body: bytes) -> bool:
    read = body.decode("utf-8", "replace")
    return selection.names_one([form.decode() for form in _forms(texts)], read)


def forget(erasure: int, items: Sequence[int]) -> None:
    """The bodies go; position, number and code stay, so that the feed's numbers are still accounted for."""
    if items:
        with connection.cursor() as cursor:
            cursor.execute("select ledger_forget_quarantine(%s, %s)", [erasure, list(items)])
