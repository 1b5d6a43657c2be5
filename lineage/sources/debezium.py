"""Debezium change events, with or without schema, plain or as CloudEvents -> changes, claims, DDL (docs/sources/debezium.md).

Nothing of a body is refused as a whole: Debezium Server stops at every answer that is not 2xx.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lineage import events
from lineage.events import Actor, Event, Origin, Quarantined, Resource, Skipped, Statement, Value
from lineage.sources import debezium_record, debezium_types, feed, images, members, pgoutput
from lineage.sources.debezium_record import Record
from lineage.sources.debezium_types import Number, Types
from lineage.sources.feed import Item, JsonRefused, short
from lineage.sources.pgoutput import without_nul

OPS: dict[str, events.Op] = {"c": "insert", "u": "update", "d": "delete", "r": "snapshot", "t": "truncate"}


def parse(body: bytes, **options: Any) -> Iterator[Event | Quarantined | Skipped]:
    """One output for each record of a body: one object, an array, NDJSON or a feed. Never raises.

    Options: `feed`; `key`, a list of `schema.table:column,column` (the HTTP sink sends no keys); `unavailable`, the
    placeholder where it is not Debezium's own.
    """
    keys = dict(_declared(options.get("key") or ()))
    placeholder = str(options.get("unavailable") or debezium_types.PLACEHOLDER)
    from_collector = bool(options.get("feed"))
    for item in feed.object_items(body, from_collector):
        if isinstance(item, Item):
            yield event(item, keys, placeholder)
        elif isinstance(item, Quarantined) and item.code == "body-unreadable" and not from_collector:
            # Debezium's own sink stops for ever at an answer that is not 200.
            yield Item(0, item.body).quarantined("not-json", "the body is not JSON")
        else:
            yield item


def _declared(given: Any) -> Iterator[tuple[str, list[str]]]:
    for text in [given] if isinstance(given, str) else given if isinstance(given, list | tuple) else []:
        table, _, columns = str(text).rpartition(":")
        yield table, [column for column in columns.split(",") if column]


def event(item: Item, keys: Mapping[str, list[str]], placeholder: str) -> Event | Quarantined | Skipped:
    """The one output of one record."""
    try:
        said, _, flags = feed.json_item(item.raw)
        if said is None:
            return item.skipped("a tombstone")
        if not isinstance(said, dict):
            raise JsonRefused("debezium", "a record is a JSON object")
        if "doubled_key" in flags:
            raise JsonRefused("doubled-key", "a key comes twice in one object")
        text, more = events.clean_text(item.raw)
        said = debezium_types.decoded(text)
        if b"\\u0000" in item.raw:
            said, more = without_nul(said), (*more, "nul_removed")
        record = Record(said, keys, placeholder)
        if record.payload is None:
            return item.skipped("a tombstone")
        return _told(item, record, tuple(dict.fromkeys((*flags, *more))))
    except JsonRefused as refusal:
        return item.quarantined(refusal.code, refusal.reason)


def _told(item: Item, record: Record, flags: tuple[str, ...]) -> Event | Skipped:
    payload = record.place
    op = payload.get("op")
    if isinstance(payload.get("ddl"), str):
        return _schema_change(item, record, flags)
    if op == "m":
        return _message(item, record, flags)
    if isinstance(op, str) and op in OPS:
        return _change(item, record, OPS[op], flags)
    if payload.get("status") in ("BEGIN", "END"):
        return item.skipped("the beginning or end of a transaction")
    if set(payload) <= {*debezium_record.TIMES}:
        return item.skipped("a heartbeat of the connector")
    raise JsonRefused(
        "debezium", "a record has op and source, as Debezium's envelope does; flattened records have neither"
    )


# Envelope


def _envelope(item: Item, record: Record, op: str) -> dict[str, Any]:
    occurred_at, quality = debezium_record.when(record)
    connector = record.text("connector") or ""
    account = short(record.text("user_name"))
    return {
        "sequence": item.sequence,
        "source_event_id": debezium_record.identity(record, op),
        "occurred_at": occurred_at,
        "occurred_at_quality": quality,
        "actor": Actor(db_user=account) if account else None,
        "datasource": short(record.text("name")),
        "db_system": members.SYSTEMS.get(connector, short(connector)),
        "database": short(record.text("db")),
        "db_session_id": short(record.text("thread")),
        "transaction": debezium_record.transaction(record, op),
        "origin": Origin(
            sha256=debezium_record.hash(record), position=item.position or debezium_record.position(record)
        ),
    }


# Rows


def _change(item: Item, record: Record, op: events.Op, flags: tuple[str, ...]) -> Event:
    schema, table = record.relation
    if table is None:
        raise JsonRefused("debezium", "the source block names no table")
    before, after = (_image(record, name) for name in ("before", "after"))
    relation = _relation(record, before, after)
    key_only = op in ("update", "delete") and _is_key_only(record, before)
    old, new = (_values_of(record, relation, n, image) for n, image in (("before", before), ("after", after)))
    if old is not None and key_only:
        columns = zip(relation.columns, old, strict=True)
        old = [images.UNAVAILABLE if v is None and c.name not in relation.key else v for c, v in columns]
    was, cut_before = images.values(relation, old)
    now, cut_after = images.values(relation, new)
    key, old_key = images.keys(relation, was, now) if relation.key else ((), ())
    if record.key and not key:
        key = _said_key(record)
    changed = _changed(record, relation, old, new, key_only)
    access: Any = "read" if op == "snapshot" else "write"
    return Event(
        kind="change",
        class_=events.CLASS_OF_OP[op],
        op=op,
        command=op.upper(),
        verdict="allowed",
        resources=(
            Resource(database=short(record.text("db")), schema=schema, relation=table, kind="table", access=access),
        ),
        key=key,
        old_key=old_key,
        before=was,
        after=now,
        changed_columns=changed,
        statement=_statement(record),
        flags=(*flags, "truncated") if cut_before or cut_after else flags,
        **_envelope(item, record, op),
    )


def _statement(record: Record) -> Statement | None:
    """MySQL can write the statement beside its rows (`binlog_rows_query_log_events`)."""
    text = record.text("query")
    return events.bounded_statement(text, redaction="none") if text else None


def _image(record: Record, name: str) -> dict[str, Any] | None:
    """One image as an object; MongoDB writes the document as text."""
    image = record.place.get(name)
    if isinstance(image, str) and not isinstance(image, Number):
        try:
            value = feed.json_item(image.encode())[0]
            image = debezium_types.decoded(image) if isinstance(value, dict) else None
        except UnicodeError:
            raise JsonRefused("debezium", f"{name} is not a document") from None
    if image is not None and not isinstance(image, dict):
        raise JsonRefused("debezium", f"{name} is not an object")
    return image


def _relation(record: Record, before: dict[str, Any] | None, after: dict[str, Any] | None) -> images.Relation:
    types = record.types("after" if after is not None else "before")
    names = list(dict.fromkeys([*(before or ()), *(after or ())]))
    schema, table = record.relation
    there = set(names)
    key = record.columns_of_key or (["_id"] if record.text("connector") == "mongodb" else [])
    return images.Relation(
        schema or "", table or "", [types.column(n) for n in names], key if set(key) <= there else []
    )


def _values_of(
    record: Record, relation: images.Relation, name: str, image: dict[str, Any] | None
) -> images.Image | None:
    if image is None:
        return None
    types = record.types(name)
    return [types.value(c.name, image[c.name]) if c.name in image else images.UNAVAILABLE for c in relation.columns]


def _is_key_only(record: Record, before: dict[str, Any] | None) -> bool:
    """Whether the nulls of a row as it was may stand for what PostgreSQL did not send (replica identity default)."""
    if before is None or record.text("connector") not in ("postgresql", None):
        return False
    key = record.columns_of_key
    return not key or all(value is None for name, value in before.items() if name not in key)


def _said_key(record: Record) -> tuple[Value, ...]:
    types = Types(None, record.placeholder)
    relation = images.Relation("", "", [types.column(name) for name in record.key or ()])
    return images.values(relation, [types.value(name, value) for name, value in (record.key or {}).items()])[0]


def _changed(
    record: Record, relation: images.Relation, old: images.Image | None, new: images.Image | None, key_only: bool
) -> tuple[str, ...]:
    """The columns that changed, where both images are known whole, or MongoDB names them."""
    told = record.place.get("updateDescription")
    if isinstance(told, dict):
        return tuple(name[: feed.NAME_LIMIT] for name in _updated(told))
    if old is None or new is None or key_only:
        return ()
    pairs = zip(relation.columns, old, new, strict=True)
    return tuple(column.name[: feed.NAME_LIMIT] for column, was, now in pairs if images.differs(was, now))


def _updated(told: dict[str, Any]) -> Iterable[str]:
    fields, removed = told.get("updatedFields"), told.get("removedFields")
    if isinstance(fields, str):
        found = feed.json_item(fields.encode("utf-8", "replace"))[0]
        yield from found if isinstance(found, dict) else ()
    yield from (name for name in removed if isinstance(name, str)) if isinstance(removed, list) else ()


# What is no row


def _message(item: Item, record: Record, flags: tuple[str, ...]) -> Event | Skipped:
    message = record.place.get("message")
    prefix = message.get("prefix") if isinstance(message, dict) else None
    if not isinstance(message, dict) or prefix not in pgoutput.PREFIXES:
        return item.skipped("a logical message of another program")
    try:
        content = base64.b64decode(str(message.get("content")), validate=True)
    except (binascii.Error, ValueError):
        raise JsonRefused("debezium", "the message's content is not base64") from None
    envelope = _envelope(item, record, "message")
    del envelope["actor"]
    return pgoutput.told(str(prefix), content, envelope, flags)


def _schema_change(item: Item, record: Record, flags: tuple[str, ...]) -> Event:
    """A statement that changed the schema, with its text: MySQL, SQL Server and Oracle connectors tell of them."""
    payload = record.place
    read, more = members.statement(payload["ddl"])
    changes = payload.get("tableChanges")
    tables = [c.get("id") for c in changes if isinstance(c, dict)] if isinstance(changes, list) else []
    names = [
        [part.strip('"`') for part in str(table).split('"."' if '"' in str(table) else ".")]
        for table in tables
        if table
    ]
    resources = tuple(
        Resource(
            schema=short(name[-2]) if len(name) > 2 else None, relation=short(name[-1]), kind="table", access="ddl"
        )
        for name in names[: members.LIST_LIMIT]
    )
    envelope = _envelope(item, record, "ddl")
    database = payload.get("databaseName")
    envelope["database"] = short(database) if isinstance(database, str) else envelope["database"]
    return Event(
        kind="query", class_="ddl", op="ddl", command=read.get("command"), statement=read.get("statement"), verdict="allowed",
        resources=resources, flags=(*flags, *more), **envelope,
    )  # fmt: skip
