"""Events and touches as lists, and one event whole."""

from __future__ import annotations

from typing import Any

import msgspec

from lineage import errors, segments
from lineage.access import Viewer
from lineage.engine import Question
from lineage.events import GROUPS
from lineage.extracts.looking import Lookup
from lineage.queries import candidates, coded, keyed, paging, sought, walking, worded
from lineage.queries.ask import (
    Answer,
    Window,
    fetch,
    limited,
    scoped,
    searched,
    shown,
)
from lineage.queries.covering import coverage

TOUCH_COLUMNS = (
    "index, occurred_at, environment, datasource, who_id, who_name, who_type, on_behalf_of, agent_name, verdict, op, session, "
    "ticket, purpose, attribution, transaction_id, outcome, relation, key, key_columns, "
    "columns, access, provenance, statement, redacted, statement_state"
)


def events(
    viewer: Viewer, q: str = "", window: Window = Window(), limit: int | None = None, cursor: str | None = None
) -> Answer:
    """Event rows that match, newest (highest index) first."""
    return _list(viewer, q, window, limit, cursor, "event")


def touches(
    viewer: Viewer, q: str = "", window: Window = Window(), limit: int | None = None, cursor: str | None = None
) -> Answer:
    """One row for each event × relation × key that matches, newest first."""
    return _list(viewer, q, window, limit, cursor, "touch")


def _list(viewer: Viewer, q: str, window: Window, limit: int | None, cursor: str | None, by: str) -> Answer:
    as_of, place, is_back = paging.asked(cursor, paging.Boundary)
    relation, columns = ("touches", TOUCH_COLUMNS) if by == "touch" else ("activity", "index")
    condition, values = searched(viewer, q, window, by)
    with Question(as_of=as_of) as question:
        of_all = paging.Listed(question, relation, condition, values, walking.ranges(question, viewer, window))

        def page(listed: paging.Listed) -> paging.Page:
            # One event may have more touches than a page holds: the cursor says how many of its last one were shown.
            items, following, previous = listed.page(columns, place, is_back, limited(limit))
            rows = [shown(item, viewer) for item in items] if by == "touch" else fetch(question, viewer, items)
            return rows, following, previous, listed.total()

        def looked_up(look: Lookup) -> paging.Page | None:
            for exact in (worded, coded):
                if (found_by := exact.listed(of_all, look, viewer, q, window)) is not None:
                    return page(found_by)
            listed = sought.listed(of_all, look, viewer, q, window) or keyed.listed(of_all, look, viewer, q, window)
            found = page(listed) if listed is not None else None
            return found if found is not None and listed is not None and listed.holds(found[0]) else None

        told = candidates.told(question, looked_up)
        if told is None:
            with sought.searched(question, viewer, q, window) as few:
                told = page(of_all.among(few))
        rows, following, previous, whole = told
        return Answer(rows, following, whole, question.size, coverage(question, viewer, window), previous)


def event(viewer: Viewer, index: int) -> dict[str, Any]:
    """One event with its leaf, its groups as disclosed, and the log size that proofs may be asked for.

    Raises NotFound outside the log or the viewer's scope.
    """
    condition, values = scoped(viewer, Window())
    with Question() as question:
        found = question.rows(f"select index from activity where index = ? and {condition}", [index, *values])  # noqa: S608
        if not found:
            raise errors.NotFound
        (row,) = fetch(question, viewer, found)
        record = next(iter(segments.records([index])), None)
        if record is None:
            raise errors.NotFound
        row["leaf"] = record.leaf.decode()
        row["groups"] = {
            group: _disclosed(record.groups.get(group), group, viewer) for group in GROUPS if group in record.groups
        }
        row["touches"] = question.rows(
            "select relation, key, key_columns, columns, access, provenance from touches where index = ? limit 100",
            [index],
        )
        row["as_of"] = question.size
        return row


def _disclosed(value: bytes | None, group: str, viewer: Viewer) -> Any:
    if value is None:
        return "erased"
    if group in ("statement", "change") and not viewer.sees_values:
        return "withheld"
    return msgspec.json.decode(value)
