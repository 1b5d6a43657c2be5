"""The identity chain of a session: who, for whom, through which agent and run, why, by whose leave; how each is known, and from where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from lineage.engine import Question

ORDER = ("gateway", "context_message", "asserted_by_proxy", "asserted_by_client", "mapped_login", "db_login", "none")


Leave = Callable[[list[str]], list[dict[str, Any]]]
"""The decisions on these tickets and requests, by index."""


def chain(rows: Sequence[Mapping[str, Any]], leave: Leave) -> dict[str, list[dict[str, Any]]]:
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
        "leave": _leave(leave(sorted(asked))) if asked else [],
    }


def _links(
    rows: Sequence[Mapping[str, Any]], of: Callable[[Mapping[str, Any]], tuple[Any, ...]], members: tuple[str, ...]
) -> list[dict[str, Any]]:
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    # Many records say the same in the same way: of these the first tells.
    ways = [(of(row), row["attribution"] or "none") for row in rows]
    first = dict(zip(reversed(ways), reversed(rows), strict=True))
    for way, count in Counter(ways).items():
        key, strength = way
        if not any(key):
            continue
        link = found.get(key)
        if link is None:
            link = found[key] = dict(zip(members, key, strict=True)) | {"count": 0, "attribution": None}
        link["count"] += count
        if link["attribution"] is None or ORDER.index(strength) < ORDER.index(link["attribution"]):
            row = first[way]
            index = row["attribution_index"] if row["attribution_index"] is not None else row["index"]
            link |= {"attribution": strength, "claimed": row["claimed"], "index": index}
    return sorted(found.values(), key=lambda link: -link["count"])


LEAVES_MOST = 50
LEAVES = ("access_request", "approval", "break_glass", "review")
TOLD = ("index", "occurred_at", "ticket", "decision_type", "approval", "decided_by", "who_name")
NEEDED = (*TOLD, "kind", "flags", "approval_request", "datasource")
"""The columns of `activity` that `leave_among` reads."""


def leave(question: Question, scope: tuple[str, list[Any]], asked: list[str]) -> list[dict[str, Any]]:
    """The decisions on what the session cites. One names no database: its citing puts it in scope."""
    columns = ", ".join(TOLD).replace("ticket", "coalesce(ticket, approval_request) as ticket")
    return question.rows(
        f"select {columns} from activity where kind = 'decision' and not list_contains(flags, 'unauthorised_assertion') "  # noqa: S608
        f"and list_contains(?, decision_type) and (list_contains(?, ticket) or list_contains(?, approval_request)) "
        f"and ({scope[0]} or datasource is null) order by index limit {LEAVES_MOST}",
        [list(LEAVES), asked, asked, *scope[1]],
    )


def leave_among(rows: Sequence[Mapping[str, Any]], in_scope: Collection[int], asked: list[str]) -> list[dict[str, Any]]:
    """The same among records, by index, of which these are in scope."""
    found = [
        {name: row[name] for name in TOLD}
        | {"ticket": row["approval_request"] if row["ticket"] is None else row["ticket"]}
        for row in rows
        if row["kind"] == "decision" and row["decision_type"] in LEAVES and "unauthorised_assertion" not in row["flags"]
        and (row["ticket"] in asked or row["approval_request"] in asked)
        and (row["index"] in in_scope or row["datasource"] is None)
    ]  # fmt: skip
    return found[:LEAVES_MOST]


def _leave(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for row in rows:
        approval = msgspec.json.decode(row.pop("approval") or "{}")
        by = approval.get("approvers") or [row["decided_by"] or row["who_name"]]
        found.append(row | {"state": approval.get("state"), "by": by, "reason": approval.get("reason")})
    return found
