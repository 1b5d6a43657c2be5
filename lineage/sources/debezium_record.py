"""One Debezium record out of its envelopes: payload, source block, types, and what tells it from all others. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from lineage.events import Quality, Transaction
from lineage.sources import feed, members
from lineage.sources.debezium_types import Types
from lineage.sources.feed import JsonRefused, short

CLOUD = "iodebezium"
TIMES = ("ts_ns", "ts_us", "ts_ms")
PROCESSED = frozenset({*TIMES, "time", f"{CLOUD}tsms", f"{CLOUD}tsus", f"{CLOUD}tsns"})
"""The connector's own clock, another at each delivery of one change: not part of what makes two deliveries the same."""
POSITIONS = (
    "lsn", "gtid", "file", "pos", "row", "change_lsn", "commit_lsn", "event_serial_no", "scn", "commit_scn", "ord", "wall_time",
)  # fmt: skip
"""Where a connector says that a change stands in its database's log."""


class Record:
    """One record, out of its envelopes: the payload, its source block, and the types of its columns."""

    def __init__(self, said: dict[str, Any], keys: Mapping[str, list[str]], placeholder: str) -> None:
        self.said, self.keys, self.placeholder = said, keys, placeholder
        self.key: dict[str, Any] | None = None
        if set(said) == {"key", "value"}:  # a record that somebody forwards from a topic, whole
            self.key = _payload(said["key"])[0]
            said = said["value"] if isinstance(said["value"], dict) else {"payload": None}
        if isinstance(said.get("specversion"), str):
            self.payload, self.schema = _cloud_event(said)
        else:
            self.payload, self.schema = _payload(said)
        self.place: dict[str, Any] = self.payload or {}
        source = self.place.get("source")
        self.source: dict[str, Any] = source if isinstance(source, dict) else {}

    def text(self, name: str) -> str | None:
        value = self.source.get(name)
        return value if isinstance(value, str) and value else None

    @property
    def relation(self) -> tuple[str | None, str | None]:
        return short(self.text("schema")), short(self.text("table") or self.text("collection"))

    @property
    def columns_of_key(self) -> list[str]:
        if isinstance(self.key, dict):
            return list(self.key)
        schema, table = self.relation
        names = (f"{schema}.{table}" if schema else None, f"{self.text('db')}.{table}", table)
        return next((self.keys[name] for name in names if name and name in self.keys), [])

    def types(self, image: str) -> Types:
        fields = self.schema.get("fields") if isinstance(self.schema, dict) else None
        known = fields if isinstance(fields, list) else []
        told = next((f for f in known if isinstance(f, dict) and f.get("field") == image), None)
        return Types(told, self.placeholder)


def _payload(said: Any) -> tuple[dict[str, Any] | None, Any]:
    """The payload and its schema: beside each other, or the payload alone."""
    if isinstance(said, dict) and "payload" in said and set(said) <= {"schema", "payload"}:
        inner, schema = said["payload"], said.get("schema")
    else:
        inner, schema = said, None
    if inner is not None and not isinstance(inner, dict):
        raise JsonRefused("debezium", "a payload is a JSON object")
    return inner, schema


def _cloud_event(said: dict[str, Any]) -> tuple[dict[str, Any] | None, Any]:
    """A CloudEvent's data with its attributes as the source block that they were made of."""
    data, schema = _payload(said.get("data"))
    if data is None:
        return None, None
    attributes = {name.removeprefix(CLOUD): value for name, value in said.items() if name.startswith(CLOUD)}
    spelt = {name.replace("_", ""): name for name in ("txId", *TIMES, *POSITIONS)}
    source = {spelt.get(name, "txId" if name == "txid" else name): value for name, value in attributes.items()}
    told = str(said.get("source", "")).strip("/").split("/")  # /debezium/postgresql/server
    source.setdefault("connector", told[1] if len(told) > 2 else None)
    return {"op": source.pop("op", None), "source": source, **data}, schema


def when(record: Record) -> tuple[str | None, Quality]:
    """When the database committed; else when the connector read it. Old connectors write 0 for unknown."""
    for holder, quality in ((record.source, "source"), (record.place, "processing_time")):
        for name in TIMES:
            number = holder.get(name)
            if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) <= 20:
                at = members.moment(int(number), PER_SECOND[min(len(number), 19)])
                if at is not None:
                    return at, quality  # type: ignore[return-value]
    return None, "unknown"


PER_SECOND = {n: 1 if n < 12 else 10**3 if n < 15 else 10**6 if n < 18 else 10**9 for n in range(20)}
"""Fractions of a second by the number of digits: published examples hold nanoseconds where milliseconds belong."""


def transaction(record: Record, op: str) -> Transaction | None:
    """The transaction as the database names it. A snapshot's is the reader's own, and nobody's change."""
    if op == "snapshot":
        return None
    about = record.place.get("transaction")
    names = [record.text(name) for name in ("txId", "gtid")]
    if record.text("connector") == "sqlserver":
        names.append(record.text("commit_lsn"))
    names.append(about.get("id") if isinstance(about, dict) and isinstance(about.get("id"), str) else None)
    found = next((name for name in names if name and name != "0"), None)
    return Transaction(id=short(found), position=position(record), outcome="committed" if found else "unknown")


def position(record: Record) -> str | None:
    """The place in the database's log; PostgreSQL's as PostgreSQL writes it."""
    lsn = record.text("lsn")
    if (
        lsn
        and lsn.isascii()
        and lsn.isdigit()
        and int(lsn[:20]) < 2**64
        and record.text("connector") in ("postgresql", None)
    ):
        return f"{int(lsn[:20]) >> 32:X}/{int(lsn[:20]) & 0xFFFFFFFF:X}"
    told = [record.text(name) for name in ("change_lsn", "file", "pos", "row", "scn", "lsn")]
    return short(":".join(part for part in told if part)) or None


def hash(record: Record) -> str:
    """The hash over the record without the connector's own clock."""
    payload = {k: v for k, v in record.place.items() if k not in TIMES}
    source = {k: v for k, v in record.source.items() if k != "sequence"}
    whole = [
        record.key,
        {**payload, "source": source},
        {k: v for k, v in record.said.items() if k not in PROCESSED | WRAPPED},
    ]
    return hashlib.sha256(_encode(whole)).hexdigest()


WRAPPED = frozenset(
    {"schema", "payload", "key", "value", "data", "op", "before", "after", "source", "transaction", "message"}
)
_encode = msgspec.json.Encoder(order="sorted", enc_hook=str).encode


def identity(record: Record, op: str) -> str:
    """Server, database and table, position, and a hash over the row: rows of one transaction share a position."""
    row = hashlib.sha256(_encode([record.key, *(record.place.get(n) for n in ("before", "after", "message", "ddl"))]))
    about = record.place.get("transaction")
    order = about.get("total_order") if isinstance(about, dict) and op != "snapshot" else None
    schema, table = record.relation
    parts = [record.text("name"), record.text("db"), schema, table, op, record.text("txId")]
    parts += [record.text(name) for name in POSITIONS]
    parts += [record.text("ts_ms") if op == "snapshot" or not any(parts[5:]) else None, order, row.hexdigest()[:24]]
    identity = "/".join(str(part) for part in parts if part)
    return identity if len(identity) <= feed.NAME_LIMIT else hashlib.sha256(identity.encode()).hexdigest()
