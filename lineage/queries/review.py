"""Approvals held against what was done (findings: `lineage.queries.found`)."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts.looking import Wanted, by_time
from lineage.queries import candidates, cited, paging, sought, tasks
from lineage.queries.ask import STATEMENT_COUNT, Answer, Place, Window, limited, scoped, searched
from lineage.queries.cited import CITED
from lineage.queries.covering import coverage

TOLD = f"""
with cites as ({CITED} and {{some}} and (ticket in (select unnest(?)) or approval_request in (select unnest(?))))
select cited as ticket, any_value(datasource) filter (kind <> 'decision') as datasource, any_value(environment) as environment,
       list(struct_pack(approval := approval, decided_by := decided_by, who_id := who_id, type := decision_type,
            occurred_at := occurred_at, index := index) order by index)
           filter (kind = 'decision' and not list_contains(flags, 'unauthorised_assertion')) as decisions,
       {STATEMENT_COUNT} as accesses,
       greatest(count(*) filter (kind = 'change'),
           coalesce(sum(rows_affected) filter (kind = 'query' and approval_request = cited), 0)) as rows_changed,
       min(occurred_at) filter (kind in ('query', 'change')) as first_access_at,
       min(index) filter (kind in ('query', 'change')) as first_index,
       list_sort(list_distinct(list(distinct who_id) filter (kind in ('query', 'change') and who_id is not null))) as people,
       list_sort(list_distinct(list(distinct on_behalf_of)
           filter (kind in ('query', 'change') and on_behalf_of is not null))) as behalf,
       max(index) as last_index
from cites where ({{scope}} or kind = 'decision') and cited in (select unnest(?)) group by cited having bool_or({{scope}})
"""  # noqa: S608 - our own conditions
"""What was decided and done under some tickets."""


def approvals(
    viewer: Viewer, q: str = "", window: Window = Window(), limit: int | None = None, cursor: str | None = None
) -> Answer:
    """One row a ticket: request, decision, and the accesses that cite it.

    A decision names no database: it is in scope with the accesses in scope that cite its ticket, whenever it was made.
    `state`: good (approved by somebody else before the first access), self_approved, late, missing (cited, never
    approved), unused (approved, not cited), open, or rejected.
    """
    condition, values = searched(viewer, q, window, "event")
    scope, scope_values = scoped(viewer, window)
    as_of, place, is_back = paging.asked(cursor, tuple[Place, str])
    which = f"""with cites as ({CITED}) select cited as ticket, max(index) as last_index from cites
            where ({scope} or kind = 'decision') group by cited having bool_or({condition})"""  # noqa: S608
    with Question(as_of=as_of) as question:
        # Which tickets are on the page is asked of all that cites one; what was done under them, of them alone.
        page = cited.page(question, viewer, window, place, limited(limit)) if not (q or is_back) else None
        found, following, previous, whole = page or paging.keyset(
            question, which, [*scope_values, *values], ("ticket",), place, is_back, limited(limit)
        )
        names = [row["ticket"] for row in found]
        rows = _told(question, viewer, window, names)
        items = [rows[name] for name in names]
        return Answer(items, following, whole, question.size, coverage(question, viewer, window), previous)


def decided(viewer: Viewer, tickets: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The rows of `approvals` of these tickets, as records in scope cite them, by ticket; what nothing cites is left out."""
    with Question() as question:
        return _told(question, viewer, Window(), tickets)


def _told(question: Question, viewer: Viewer, window: Window, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What was decided and done under these tickets."""
    if not names:
        return {}
    told = tasks.told(question, viewer, window, names)
    if told is None:
        scope, values = scoped(viewer, window)
        with _cites(question, names) as some:
            rows = question.rows(TOLD.format(some=some, scope=scope), [names, names, *values, names, *values])
        told = {row["ticket"]: row for row in rows}
    return {name: _approval(row) for name, row in told.items()}


def _cites(question: Question, names: Sequence[str]) -> contextlib.AbstractContextManager[str]:
    """Within it a question is asked of the records that cite one of these, and of decisions on them, with this condition more."""
    terms = [by_time(kind, name) for name in names for kind in ("cited", "leave")]
    # A decision counts whatever its scope is.
    some = candidates.told(question, lambda look: look.newest(terms, Wanted(), sought.NAMED_MOST + 1))
    return sought.among(question, some) if some is not None else contextlib.nullcontext(sought.ALL)


def _approval(row: dict[str, Any]) -> dict[str, Any]:
    requested_by = None
    approvers: list[str] = []
    decided_at: dt.datetime | None = None
    state, reason = None, None
    for decision in row.pop("decisions") or ():
        approval = msgspec.json.decode(decision["approval"]) if decision["approval"] else {}
        requested_by = approval.get("requested_by") or requested_by
        reason = approval.get("reason") or reason
        if approval.get("state") in ("approved", "rejected"):
            state = approval["state"]
            approvers = list(approval.get("approvers", ())) or [decision["decided_by"] or decision["who_id"]]
            decided_at = decision["occurred_at"]
            if approval.get("decided_at"):
                decided_at = dt.datetime.fromisoformat(approval["decided_at"])
    row |= {"requested_by": requested_by, "approvers": approvers, "decided_at": decided_at, "reason": reason}
    row["state"] = _verdict(row, state)
    return row


def _verdict(row: dict[str, Any], state: str | None) -> str:
    used = row["first_access_at"]
    involved = {row["requested_by"], *(row["people"] or ()), *(row["behalf"] or ())}
    if state == "rejected":
        return "rejected"
    if state != "approved":
        return "missing" if used else "open"
    if involved & set(row["approvers"]):
        return "self_approved"
    if used is None:
        return "unused"
    return "late" if row["decided_at"] and row["decided_at"] > used else "good"
