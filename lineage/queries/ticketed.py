"""Imported tickets that records name, in every version of them: what the reader's pages hold acts against."""

from __future__ import annotations

from collections.abc import Iterable

from lineage.access import Viewer
from lineage.citations import Version
from lineage.models import Ticket

MOST = 200
"""Versions of one ticket that are looked at, the newest."""


def tickets(viewer: Viewer, named: Iterable[str | None]) -> dict[str, list[Version]]:
    """Of the tickets that records in the viewer's scope name: versions by id, oldest first. What is not imported is left out.

    Call it with ids from records that this viewer was answered; nothing else leads to a ticket. For a seat whose records
    end at a time, nothing is said that only a later import knows: the first one after it is the last.
    """
    wanted = {name for name in named if name and "\0" not in name}
    if not viewer.reads_records or not wanted:
        return {}
    found: dict[str, list[Version]] = {}
    for row in (
        Ticket.objects.filter(ticket_id__in=wanted)
        .order_by("ticket_id", "as_of")
        .values_list("ticket_id", *Version._fields)
    ):
        known = found.setdefault(row[0], [])
        if not (viewer.until_at and known and known[-1].seen_at >= viewer.until_at):
            known.append(Version(*row[1:]))
    return {name: known[-MOST:] for name, known in found.items()}
