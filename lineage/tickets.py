"""Tickets of the organisation's tracker: imported reference with history, against which what records say is held.

Each import is a `configuration` record with the file's hash; each ticket that is said to be something else than before is one
more, with old and new value. Nothing that was said for a time is replaced (docs/tickets.md). A ticket is no approval.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from lineage import citations, configuration, errors, ledger, reach
from lineage.erasures import selection
from lineage.events import Erased, Event, parse_time
from lineage.models import Ticket

TEXTS = {"title": 400, "requester": 200, "assignee": 200, "approver": 200, "status": 100, "url": 1000}
"""The columns that hold text, and how long it may be."""
ID_LENGTH = 200
COLUMNS = ("id", "opened_at", "closed_at", *TEXTS)
ERASED = "(erased)"
BATCH = 500
Row = Mapping[str, str]


def check_ticket(row: Row, as_of: dt.datetime) -> str:
    """What is wrong with a row of a file that speaks for a time; empty where nothing is."""
    unknown = [name for name in row if name not in COLUMNS]
    if unknown:
        return f"the column {unknown[0][:60] or 'without a name'} is not known; a ticket has {', '.join(COLUMNS)}."
    if not row.get("id") or not row.get("opened_at"):
        return f"every row needs id and opened_at; it may have {', '.join(c for c in COLUMNS if c not in ('id', 'opened_at'))}."
    if row["id"] != row["id"].strip() or len(row["id"]) > ID_LENGTH or not row["id"].isprintable():
        return f"id is the ticket's id as records name it, in up to {ID_LENGTH} characters of one line, without blanks around it."
    long = [name for name, most in TEXTS.items() if len(row.get(name) or "") > most]
    if long:
        return f"{long[0]} has more than {TEXTS[long[0]]} characters."
    if row.get("url") and not citations.is_address(row["url"]):
        return "url is an address that begins with https:// or http:// and holds no user."
    return _wrong_times(row, as_of)


def _wrong_times(row: Row, as_of: dt.datetime) -> str:
    try:
        opened, closed = _times(row)
    except ValueError as error:
        return f"opened_at or closed_at cannot be read: {error}."
    if opened > as_of or (closed and closed > as_of):
        return "it was opened or closed after the time that --as-of says the file speaks for."
    return "closed_at is before opened_at." if closed and closed < opened else ""


def _times(row: Row) -> tuple[dt.datetime, dt.datetime | None]:
    return parse_time(row["opened_at"]), parse_time(row["closed_at"]) if row.get("closed_at") else None


def keep_tickets(rows: Sequence[Row], as_of: dt.datetime, who: str) -> None:
    """Call inside a transaction, for rows that were checked. Raises SettingsInvalid where a ticket's time is settled already."""
    known = Ticket.objects.select_for_update().filter(ticket_id__in=[row["id"] for row in rows])
    newest = {one.ticket_id: one for one in known.order_by("as_of")}
    again, fresh, told = list[int](), list[Ticket](), list[Event]()
    for row in rows:
        before, said = newest.get(row["id"]), _said(row)
        was = {name: getattr(before, name) for name in said} if before else None
        if before and was == said and as_of >= before.as_of:
            again.append(before.pk)
            continue
        if before and as_of <= before.seen_at:
            raise errors.SettingsInvalid(
                f"{row['id']}: something else is said of this ticket for {before.seen_at:%Y-%m-%dT%H:%M:%SZ} already, which stays. "
                "Import files in the order of their times, each ticket once in a file. Nothing was imported."
            )
        newest[row["id"]] = Ticket(ticket_id=row["id"], as_of=as_of, seen_at=as_of, **said)
        fresh.append(newest[row["id"]])
        told.append(configuration.event(who, f"ticket {row['id']}", was, said, f"as of {as_of.isoformat()}"))
    for start in range(0, len(told), BATCH):
        ledger.record_all(told[start : start + BATCH])
    Ticket.objects.filter(pk__in=[pk for pk in again if pk], seen_at__lt=as_of).update(seen_at=as_of)
    Ticket.objects.bulk_create(fresh, batch_size=BATCH)


def _said(row: Row) -> dict[str, Any]:
    opened, closed = _times(row)
    return {name: row.get(name) or "" for name in TEXTS} | {"opened_at": opened, "closed_at": closed}


def forget_texts(texts: Sequence[str]) -> None:
    """A ticket loses the cells that hold one of the texts, in every import; its id, if that holds one, takes the ticket along."""
    for kept in Ticket.objects.all().iterator():
        if selection.names_one(texts, kept.ticket_id):
            Ticket.objects.filter(pk=kept.pk).delete()
            continue
        held = [name for name in TEXTS if selection.names_one(texts, getattr(kept, name))]
        if held:
            Ticket.objects.filter(pk=kept.pk).update(**{name: "" if name == "url" else ERASED for name in held})


def forget_records(spans: Sequence[Erased], before: dt.datetime) -> list[str]:
    """No copies of records are kept here."""
    return []


PLACE = reach.Place(forget_texts, forget_records, ("lineage_ticket",))
