"""The identity chain of a session: who, for whom, through which agent and run, why, by whose leave; how each is known, and from where."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from lineage.engine import Question

ORDER = ("gateway", "context_message", "asserted_by_proxy", "asserted_by_client", "mapped_login", "db_login", "none")


def chain(
    question: Question, rows: Sequence[Mapping[str, Any]], scope: tuple[str, list[Any]]
) -> dict[str, list[dict[str, Any]]]:
    """The links `who`, `behalf`, `agents`, `reasons` and `leave`, each a list: mostly one, more where the session changed hands.

    A link has `name`, `count` of records that carry it, `attribution`, `claimed` and the `index` of the record it comes from.
    """
    acts = [row for row in rows if row["kind"] in ("query", "change", "session")]
    asked = {row["ticket"] for row in acts if row["ticket"]} | {
        row["approval_request"] for row in acts if row["approval_request"]
    }
    return {
        "who": _links(acts, lambda r: (r["who_id"], r["who_name"], r["who_type"]), ("id", "name", "type")),
        "behalf": _links(acts, lambda r: (r["on_behalf_of"],), ("name",)),
        "agents": _links(acts, lambda r: (r["agent_name"] or r["agent_id"], r["agent_run"]), ("name", "run")),
        "reasons": _links(acts, lambda r: (r["ticket"], r["purpose"]), ("ticket", "purpose")),
        "leave": _leave(question, sorted(asked), scope) if asked else [],
    }


def _links(
    rows: Iterable[Mapping[str, Any]], of: Callable[[Mapping[str, Any]], tuple[Any, ...]], members: tuple[str, ...]
) -> list[dict[str, Any]]:
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = of(row)
        if not any(key):
            continue
        link = found.setdefault(key, dict(zip(members, key, strict=True)) | {"count": 0, "attribution": None})
        link["count"] += 1
        strength = row["attribution"] or "none"
        if link["attribution"] is None or ORDER.index(strength) < ORDER.index(link["attribution"]):
            index = row["attribution_index"] if row["attribution_index"] is not None else row["index"]
            link |= {"attribution": strength, "claimed": row["claimed"], "index": index}
    return sorted(found.values(), key=lambda link: -link["count"])


def _leave(question: Question, asked: list[str], scope: tuple[str, list[Any]]) -> list[dict[str, Any]]:
    """The decisions on the tickets and requests that the session cites. A decision names no database: its citing puts it in scope."""
    rows = question.rows(
        "select index, occurred_at, coalesce(ticket, approval_request) as ticket, decision_type, approval, decided_by, who_name "  # noqa: S608
        "from activity where kind = 'decision' and not list_contains(flags, 'unauthorised_assertion') "
        "and decision_type in ('access_request', 'approval', 'break_glass', 'review') "
        f"and (list_contains(?, ticket) or list_contains(?, approval_request)) and ({scope[0]} or datasource is null) "
        "order by index limit 50",
        [asked, asked, *scope[1]],
    )
    found = []
    for row in rows:
        approval = msgspec.json.decode(row.pop("approval") or "{}")
        by = approval.get("approvers") or [row["decided_by"] or row["who_name"]]
        found.append(row | {"state": approval.get("state"), "by": by, "reason": approval.get("reason")})
    return found
