"""What the gateway saw itself: native events of sessions and statements, and what it says of its own feed.

It needs no asserts: it signed the person in, decided, and forwarded the statement. What it cannot have seen it may not
say: decisions are made in the store, rows come from change capture, rights from the catalogs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lineage.events import Event, Quarantined, Skipped
from lineage.sources import events, feed
from lineage.sources.feed import Item

KINDS = frozenset({"session", "query", "custody"})


def parse(body: bytes, **options: Any) -> Iterator[Event | Quarantined | Skipped]:
    """One output for each item, as of the format `events`. Options: `feed`. Never raises."""
    for item in feed.object_items(body, bool(options.get("feed"))):
        yield _seen(item) if isinstance(item, Item) else item


def _seen(item: Item) -> Event | Quarantined:
    told = events.event(item, events.straight(item.raw))
    if isinstance(told, Event) and told.kind not in KINDS:
        return item.quarantined("not-seen", f"a gateway tells of sessions and statements, not of a {told.kind}")
    return told
