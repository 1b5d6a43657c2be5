"""What one record says that others are joined with: `lineage.facts` and its keys once more, for few records. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from lineage.extracts.postings import hash_of

Row = Mapping[str, Any]
"""A record as it was reported, by the columns of `projections.EVENTS`; times in microseconds."""
MEMBER = re.compile(r"[.][0-9]+\Z")
FIRST = re.compile(r"[.]1\Z")
UNDO = re.compile(r"[\t\n\f\r ]*(ROLLBACK|ABORT)([\t\n\f\r ]+(WORK|TRANSACTION))?[\t\n\f\r ]*;?[\t\n\f\r ]*")
UNAUTHORISED = "unauthorised_assertion"
READING = frozenset({"read", "other", "session"})
PROXIES = frozenset({"teleport", "events"})
EVEN = (1 << 64) - 2


class Proxied(Exception):
    """A proxy names sessions of the server: what it told twice is counted over whole sessions."""


class Said(NamedTuple):
    """Whom and what for a record names."""

    actor_id: str | None
    actor_name: str | None
    actor_email: str | None
    actor_type: str | None
    on_behalf_of: str | None
    agent_id: str | None
    agent_name: str | None
    agent_run: str | None
    purpose: str | None
    ticket: str | None


class Line(NamedTuple):
    environment: str | None
    datasource: str | None
    xid: str | None
    db_session_id: str
    vid: str | None
    db_user: str | None
    client_app: str | None
    client_ip: str | None
    undone: bool


class Emission(NamedTuple):
    environment: str | None
    datasource: str | None
    xid: str | None
    db_session_id: str
    vid: str | None
    db_user: str | None
    said: str | None
    source: str | None
    call: str | None
    nested: bool


class Nested(NamedTuple):
    source: str | None
    call: str | None


class Change(NamedTuple):
    environment: str | None
    datasource: str | None
    xid: str


class Gateway(NamedTuple):
    """Of a transaction; one of a session has neither outcome nor mark of writing."""

    environment: str | None
    datasource: str | None
    key: str
    session_id: str | None
    said: Said
    outcome: str | None
    writes: bool
    is_session: bool


class Claim(NamedTuple):
    environment: str | None
    datasource: str | None
    xid: str
    message: str | None
    said: Said
    record: int


Fact = Line | Emission | Nested | Change | Gateway | Claim


def key(kind: str, *parts: str | None) -> int | None:
    """As `keys._key`: the term of a key; None where what names no database, or has no such id, is joined with nothing."""
    return None if None in parts else hash_of(kind, *parts) & EVEN


class Keys(NamedTuple):
    """Of a fact or a record; as `keys.OF_FACTS` and `keys.REPORTED` have them."""

    tx: int | None = None
    vid: int | None = None
    session: int | None = None
    call: int | None = None

    def all(self) -> Iterator[int]:
        return (one for one in self if one is not None)


def keys_of(fact: Fact) -> Keys:
    match fact:
        case Nested():
            return Keys(call=key("call", fact.source, fact.call))
        case Gateway(environment, datasource, name) if fact.is_session:
            return Keys(session=key("session", environment, datasource, name))
        case Gateway(environment, datasource, name):
            return Keys(key("tx", environment, datasource, name))
        case Line() | Emission():
            place = fact.environment, fact.datasource
            tx, vid = key("tx", *place, fact.xid), key("vid", *place, fact.db_session_id, fact.vid)
            if isinstance(fact, Line):
                return Keys(tx, vid, key("session", *place, fact.db_session_id))
            return Keys(tx, vid, call=key("call", fact.source, fact.call))
        case _:
            return Keys(key("tx", fact.environment, fact.datasource, fact.xid))


def xid_of(row: Row) -> str | None:
    return None if row["xid"] == "0" else row["xid"]


def is_authorised(row: Row) -> bool:
    return UNAUTHORISED not in row["flags"]


def call_of(row: Row) -> str | None:
    said = row["correlation_id"]
    return None if said is None else MEMBER.sub("", said)


def is_inner(row: Row) -> bool:
    said = row["correlation_id"]
    return said is not None and MEMBER.search(said) is not None and FIRST.search(said) is None


def reported(row: Row) -> Keys:
    """By which keys a record is joined, as it was reported."""
    if not is_authorised(row):
        return Keys()
    place, xid = (row["environment"], row["datasource"]), xid_of(row)
    vid = key("vid", *place, row["db_session_id"], row["vid"]) if xid is None else None
    return Keys(key("tx", *place, xid), vid, key("session", *place, row["db_session_id"]))


def led_to(row: Row) -> Keys:
    """The keys of a record that tells facts, as `keys.LED_TO`."""
    place, session = (row["environment"], row["datasource"]), row["db_session_id"]
    return Keys(
        key("tx", *place, xid_of(row)),
        key("vid", *place, session, row["vid"]),
        key("session", *place, session),
        key("call", row["source"], call_of(row)),
    )


def facts_of(row: Row) -> Iterator[Fact]:
    """What this record says. Raises Proxied."""
    place, xid, kind = (row["environment"], row["datasource"]), xid_of(row), row["kind"]
    may = is_authorised(row)
    if kind == "query":
        yield from _of_statement(row, place, xid, may)
    if kind == "change" and xid is not None and may:
        yield Change(*place, xid)
    if row["source_format"] == "gateway" and kind in ("session", "query"):
        yield from _of_gateway(row, place, xid)
    if may and xid is not None and "claim" in row["flags"]:
        yield Claim(*place, xid, row["said"], _said(row), row["index"])
    is_named = row["actor_id"] is not None and row["session_id"] is not None and row["db_session_id"] is not None
    if kind == "session" and row["source_format"] in PROXIES and row["session_phase"] == "start" and may and is_named:
        raise Proxied


def _of_statement(row: Row, place: tuple[str | None, str | None], xid: str | None, may: bool) -> Iterator[Fact]:
    session, vid = row["db_session_id"], row["vid"]
    if session is not None and may and (xid is not None or vid is not None):
        of = (*place, xid, session, vid, row["db_user"])
        yield Line(*of, row["client_app"], row["client_ip"], _is_undone(row))
        if row["emitted"] is not None:
            yield Emission(*of, row["said"], row["source"], call_of(row), is_inner(row))
    if is_inner(row):
        yield Nested(row["source"], call_of(row))


def _of_gateway(row: Row, place: tuple[str | None, str | None], xid: str | None) -> Iterator[Fact]:
    said, op = _said(row), row["op"]
    if xid is not None:
        yield Gateway(
            *place, xid, row["session_id"], said, row["outcome"], op is not None and op not in READING, is_session=False
        )
    if row["db_session_id"] is not None:
        yield Gateway(*place, row["db_session_id"], row["session_id"], said, None, False, is_session=True)


def _is_undone(row: Row) -> bool:
    return (
        row["command"] == "ROLLBACK"
        and row["statement"] is not None
        and UNDO.fullmatch(row["statement"].upper()) is not None
    )


def _said(row: Row) -> Said:
    return Said._make(row[name] for name in Said._fields)


def carried(row: Row, transaction_id: str | None, session_id: str | None) -> Keys:
    """By which keys it is joined, as it was resolved; as `keys.RESOLVED`."""
    if not is_authorised(row):
        return Keys()
    place = row["environment"], row["datasource"]
    told = reported(row)
    return Keys(key("tx", *place, transaction_id), told.vid, key("session", *place, session_id))
