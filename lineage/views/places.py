"""Tables, rows and databases."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.http import HttpRequest, HttpResponse

from lineage import charts, queries, words
from lineage.access import Viewer
from lineage.answers import evidence_read
from lineage.views import frame

ANSWERS = (
    ("can_person", "person", "Register whose logins these are, or name the person:", "enforcement.context"),
    ("can_statements", "statements", "Load pgAudit and follow the server log:", "python -m enforcement.pglog"),
    ("can_reads", "reads", "Have pgAudit write reads:", "pgaudit.log = 'read, write, ddl, role'"),
    ("can_before_after", "before and after", "On each table that matters:", "ALTER TABLE … REPLICA IDENTITY FULL"),
    ("can_approvals", "approvals", "Add your change desk as a source:", "bin/manage source add … --asserts approval"),
    ("can_grants", "grants", "Take roles and rights from the catalogs:", "python -m enforcement.pgstate"),
)
"""What a database may be able to answer, and what makes it so."""
EXPLAINED = 40
"""Changes on a row page that are shown with statement and approval: what one search may ask for at once."""


@evidence_read
def tables(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    window, q = frame.window(request), request.GET.get("q", "")
    answer = queries.relations(viewer, q, window, frame.limit(request), request.GET.get("cursor"))
    title = f"{words.total(answer.total, 'table')} touched {frame.period(request)}"
    context = {"answer": answer, "q": q, "title": title, "simulated": frame.shows_simulated(window, answer.items)}
    return frame.page(request, "lineage/tables.html", context)


@evidence_read
def table(request: HttpRequest, viewer: Viewer, datasource: str, relation: str) -> HttpResponse:
    """A table; `?column=` adds who read and wrote that column, `?held=` moves the rights to a time."""
    window, given = frame.window(request), request.GET.get("held", "").strip()
    at = frame.moment(given, dt.datetime.now(dt.UTC)) if given else None
    found = queries.relation(viewer, datasource, relation, window, at)
    readers = words.counted(len(found["readers"]), "identity", "identities")
    writers = words.counted(len(found["writers"]), "identity", "identities")
    chosen = request.GET.get("column", "")
    people = holders(found["people"], found["logins"])
    context = {
        "found": found,
        "relation": found["relation"],
        "title": f"{relation}: read by {readers}, written by {writers} {frame.period(request)}",
        "chart": charts.table_activity(found["hours"]),
        "columns": columns(found["columns"], queries.tags_of(viewer, datasource, relation)),
        "column": chosen,
        "touched": queries.column(viewer, datasource, relation, chosen, window) if chosen else None,
        "holders": people,
        "granted": granted(found["grants"], {one["login"] for one in found["logins"]}),
        "idle": sum(1 for one in people if not one["used"]),
        "given_at": given,
        "owners": queries.owners(viewer, datasource, relation),
        "at": at,
        "coverage": frame.only(found["coverage"], datasource),
        "simulated": found["relation"]["environment"] == frame.SIMULATED,
    }
    return frame.page(request, "lineage/table.html", context)


def columns(touched: list[dict[str, Any]], tags: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Each column that a record or a class names, with its counts and classes; sensitive ones first."""
    counted = {one["column"]: one for one in touched}
    nothing = {"reads": 0, "writes": 0}
    rows = [
        {"column": name, **nothing, **counted.get(name, {}), "classes": tags.get(name, {}).get("classes", [])}
        for name in {**counted, **tags}
    ]
    return sorted(rows, key=lambda one: (not one["classes"], one["column"] == "*", one["column"]))


def granted(grants: list[dict[str, Any]], active: set[str]) -> list[dict[str, Any]]:
    """The grants themselves, one line a holder and grantor; `used` says whether that name was seen at the table."""
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for grant in grants:
        name = (grant["grantee"], grant.get("grantor") or "")
        line = lines.setdefault(name, grant | {"rights": [], "used": grant["grantee"] in active})
        column = f" ({grant['column']})" if grant.get("column") else ""
        passing = ", may pass it on" if grant.get("grantable") else ""
        line["rights"].append(f"{grant['privilege']}{column}{passing}")
    return sorted(lines.values(), key=lambda line: (not line["used"], line["grantee"]))


def holders(people: list[dict[str, Any]], seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every login with a right, and what it did here in the window; those that did nothing last."""
    active = {one["login"]: one for one in seen}
    lines = [one | {"used": active.get(one["login"])} for one in people]
    return sorted(lines, key=lambda line: (not line["used"], line["login"]))


READS_SHOWN = 50
"""As many as `_reads.html` shows."""


@evidence_read
def row(request: HttpRequest, viewer: Viewer, datasource: str, relation: str, key: str) -> HttpResponse:
    window = frame.window(request)
    found = queries.row(viewer, datasource, relation, key, window, READS_SHOWN)
    written = [
        *(e | {"how": "changed"} for e in found["changed"]),
        *(e | {"how": "uncertain"} for e in found["uncertain"]),
    ]
    timeline = sorted(written, key=lambda e: (e["occurred_at"], e["index"]), reverse=True)
    explain(viewer, datasource, relation, timeline)
    everything = [*timeline, *found["read"], *found["could_have_read"], *found["refused"]]
    context = {
        "found": found,
        "title": f"{relation} {key}",
        "pack_q": " ".join(
            words.condition(*pair) for pair in (("datasource", datasource), ("relation", relation), ("key", key))
        ),
        "imported": queries.tickets(viewer, [one["ticket"] for one in timeline]),
        "sentence": words.row_sentence(found["summary"], dt.datetime.now(dt.UTC)),
        "timeline": timeline,
        **scrubbed(found, request.GET.get("at", ""), request.GET.get("time", "").strip()),
        "coverage": frame.only(found["coverage"], datasource),
        "simulated": frame.shows_simulated(window, everything),
    }
    return frame.page(request, "lineage/row.html", context)


def explain(viewer: Viewer, datasource: str, relation: str, events: list[dict[str, Any]]) -> None:
    """Adds to row changes what stands in other records: the one statement they can come from, and their ticket's approval."""
    changes = events[:EXPLAINED]
    transactions = list(
        dict.fromkeys(e["transaction_id"] for e in changes if e["transaction_id"] and not e["statement"])
    )
    written: dict[str, dict[str, dict[str, Any]]] = {}
    if transactions:
        either = " or ".join(words.condition("transaction", t) for t in transactions)
        q = f"kind:query {words.condition('datasource', datasource)} ({either})"
        for line in queries.events(viewer, q, limit=1000).items:
            if line["class"] == "write" and relation in line["relations"] and not queries.SECOND & set(line["flags"]):
                lines = written.setdefault(line["transaction_id"], {})
                lines.setdefault(line["correlation_id"] or line["event_id"], line)
    tickets = list(dict.fromkeys(e["ticket"] for e in changes if e["ticket"]))
    approvals = queries.decided(viewer, tickets) if tickets else {}
    for event in changes:
        lines = written.get(event["transaction_id"], {})
        event["statements"] = len(lines)
        event["from"] = next(iter(lines.values())) if len(lines) == 1 else None
        approval = approvals.get(event["ticket"])
        event["approved"] = approval and {**approval, "word": words.APPROVALS[approval["state"]][0]}


ORIGINAL = "original"


def scrubbed(found: dict[str, Any], index: str, time: str) -> dict[str, Any]:
    """What the row was: after record `index`, or at a time, or before the first known change; by itself as it is now.

    `version` is None where nothing is known of it then; `later` and `earlier` are the neighbours' addresses.
    """
    versions: list[dict[str, Any]] = list(found["versions"])
    if found["original"]:
        versions.append(
            {"index": ORIGINAL, "at": None, "row": found["original"], "deleted": False, "under": found["names"][-1]}
        )
    asked = frame.moment(time, dt.datetime.now(dt.UTC)) if time else None
    place = 0
    if asked:
        place = next((n for n, v in enumerate(versions) if v["at"] is None or v["at"] <= asked), len(versions))
    elif index:
        place = next((n for n, v in enumerate(versions) if str(v["index"]) == index), 0)
    return {
        "scrub": versions, "asked_at": asked, "time": time,
        "version": versions[place] if place < len(versions) else None,
        "later": versions[place - 1]["index"] if 0 < place <= len(versions) else None,
        "earlier": versions[place + 1]["index"] if place + 1 < len(versions) else None,
    }  # fmt: skip


@evidence_read
def databases(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    answer = queries.datasources(viewer, window=frame.window(request))
    items = answer.items
    for item in items:
        item["answers"] = [(item[name], word, fix, code) for name, word, fix, code in ANSWERS]
        item["observed"] = item["attributed"] * 100 // item["attributable"] if item["attributable"] else None
    in_use = [i for i in items if i["state"] != "retired"]
    whole = [i for i in in_use if all(can for can, *_ in i["answers"])]
    unseen = sum(1 for i in items if i["state"] == "no source")
    title = f"{len(whole)} of {words.counted(len(in_use), 'database')} can answer every question"
    if unseen:
        title += f"; of {words.number(unseen)} in the inventory nothing is recorded"
    context = {
        "items": items,
        "answer": answer,
        "has_inventory": any(i["entry"] for i in items),
        "title": title,
        "simulated": frame.shows_simulated(frame.window(request), items),
    }
    return frame.page(request, "lineage/databases.html", context)
