"""Snapshots and differences of a database's catalogs -> state events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from lineage.events import (
    Event,
    Grant,
    KeyState,
    Mark,
    Origin,
    PublicationState,
    Quarantined,
    RoleState,
    Setting,
    Skipped,
    SlotState,
    State,
)  # fmt: skip
from lineage.sources import feed
from lineage.sources.feed import Item, JsonRefused, short
from lineage.sources.pgoutput import without_nul


class Snapshot(msgspec.Struct):
    """One item of the feed, as docs/collector-protocol.md has it."""

    mode: Literal["snapshot", "difference"]
    at: str
    system_identifier: str | None = None
    database: str | None = None
    server_version: str | None = None
    roles: tuple[RoleState, ...] = ()
    grants: tuple[Grant, ...] = ()
    settings: tuple[Setting, ...] = ()
    publications: tuple[str, ...] = ()
    slots: tuple[SlotState, ...] = ()
    keys: tuple[KeyState, ...] = ()
    published: tuple[PublicationState, ...] = ()
    marks: tuple[Mark, ...] = ()


def parse(body: bytes, **options: Any) -> Iterator[Event | Quarantined | Skipped]:
    """One state event for each snapshot of a feed, array or NDJSON. Options: `feed`. Never raises."""
    for item in feed.object_items(body, bool(options.get("feed"))):
        yield event(item) if isinstance(item, Item) else item


def event(item: Item) -> Event | Quarantined | Skipped:
    """The one output of one snapshot. Server version and system identifier stand among its settings."""
    try:
        members, sha256, flags = feed.json_item(item.raw)
        if "doubled_key" in flags:
            raise JsonRefused("doubled-key", "a key comes twice in one object")
        if b"\\u0000" in item.raw:
            members = without_nul(members)
        said = msgspec.convert(members, Snapshot)
        occurred_at, quality = feed.when(said.at)
    except JsonRefused as refusal:
        return item.quarantined(refusal.code, refusal.reason)
    except msgspec.ValidationError as error:
        return item.quarantined("pgstate", f"the item does not follow the protocol: {feed.safe(error)}")
    except ValueError:
        return item.quarantined("pgstate", "at is not an RFC 3339 time with a zone")
    extra = (("server_version", said.server_version), ("system_identifier", said.system_identifier))
    named = {setting.name for setting in said.settings}
    added = tuple(Setting(name=name, value=value) for name, value in extra if value and name not in named)
    return Event(
        kind="state",
        class_="state",
        op="snapshot",
        sequence=item.sequence,
        occurred_at=occurred_at,
        occurred_at_quality=quality,
        source_event_id=f"{said.system_identifier}/{said.database}/{occurred_at}/{said.mode}"[: feed.NAME_LIMIT],
        db_system="postgresql",
        database=short(said.database),
        state=State(
            mode=said.mode,
            roles=said.roles,
            grants=said.grants,
            settings=(*said.settings, *added),
            publications=tuple(name[: feed.NAME_LIMIT] for name in said.publications),
            slots=said.slots,
            keys=said.keys,
            published=said.published,
            marks=said.marks,
        ),
        flags=flags,
        origin=Origin(sha256=sha256, position=item.position),
    )
