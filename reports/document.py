"""From a result to the HTML that is printed: every value made text, bounded, and drawn in a known font."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

from django.template.loader import render_to_string

from reports import charts, controls, render
from reports.controls import Act, Result
from reports.evidence import Evidence

ACTS_MOST = 400
DEVIATIONS_MOST = 150
PEOPLE_MOST = 100
MISMATCHES_MOST = 25
STATEMENT_CHARACTERS = 360
VALUE_CHARACTERS = 120
DASH = "–"
COUNTED = ("events", "missing", "heartbeats", "canaries", "gaps", "quarantined", "conflicts", "clock_skew")

ATTRIBUTION = {
    "gateway": "signed in at the gateway",
    "context_message": "context message, proved",
    "asserted_by_proxy": "said by a trusted source",
    "asserted_by_client": "said by the client",
    "mapped_login": "login mapped to a person",
    "db_login": "login only",
    "none": "not known",
}
REASONS = {
    "ddl": "schema change",
    "privilege": "privilege change",
    "export": "export",
    "procedural": "hides its effect, or takes on a role",
    "truncate": "empties a table",
    "direct write": "direct write by a human or agent",
    "owner": "login owns the table",
    "superuser": "login has SUPERUSER",
    "createrole": "login has CREATEROLE",
    "replication": "login has REPLICATION",
    "bypassrls": "login has BYPASSRLS",
}
UNKNOWN = (
    ("unattributed", "accesses whose person and login are both unknown"),
    ("login_only", "accesses known by login only: no person is mapped to it"),
    ("claimed", "accesses whose claimed person is not proved yet"),
    ("false_claims", "accesses with a claim of identity that is not believed"),
    ("opaque", "statements that hide what they did (functions, DO, CALL)"),
    ("reads_without_key", "reads that name no row: which rows they returned is not recorded"),
    ("statements_not_whole", "statements of which the text is cut or withheld"),
    ("outcome_unknown", "accesses of which it is unknown whether they were committed"),
    ("without_before", "updates and deletes without the values before"),
    ("changes_without_statement", "row changes for which no statement was reported"),
)


@dataclasses.dataclass(frozen=True)
class Heading:
    """What stands on the cover and in the running lines."""

    number: str
    status: str
    reasons: Sequence[str]
    issued_at: dt.datetime
    requested_by: str
    origin: str
    fingerprint: str
    manifest_sha256: str
    attachments: Sequence[Mapping[str, Any]]


def html(heading: Heading, evidence: Evidence, result: Result) -> str:
    """The whole document. Values are escaped by the template engine; nothing here marks text as safe."""
    kind = controls.KINDS[evidence.request.kind]
    context = {
        "kind": {"title": kind.title, "question": kind.question, "references": kind.references, "id": kind.id},
        "h": _heading(heading),
        "period": _period(evidence),
        "result": _summary(result),
        "chart": _chart(evidence, result),
        "complete": _completeness(evidence),
        "unknown": [{"count": evidence.completeness["unknown"].get(k, 0), "words": words} for k, words in UNKNOWN],
        "assumed": sum(1 for act in result.acts if act["assumed_state"]),
        "stateless": _stateless(evidence),
        "deviations": [_act(act) for act in result.deviating[:DEVIATIONS_MOST]],
        "deviations_more": max(0, len(result.deviating) - DEVIATIONS_MOST),
        "deviations_all": len(result.deviating),
        "acts": [_act(act) for act in result.acts[:ACTS_MOST]],
        "acts_all": len(result.acts),
        "acts_more": max(0, len(result.acts) - ACTS_MOST),
        "people": [_person(line, result) for line in result.by_person[:PEOPLE_MOST]],
        "people_more": max(0, len(result.by_person) - PEOPLE_MOST),
        "sql": result.sql,
        "log": {
            "size": evidence.as_of,
            "checkpoint": evidence.checkpoint,
            "outside": evidence.outside,
            "collected_at": moment(evidence.collected_at),
        },
        "attachments": heading.attachments,
    }
    return render_to_string(f"pdf/{kind.id.replace('-', '_')}.html", drawn(context))


def drawn(value: Any) -> Any:
    """The same structure with every text printable and every number grouped."""
    if isinstance(value, str):
        return value if value.startswith("data:image/svg+xml;base64,") else render.printable(value)
    if isinstance(value, Mapping):
        return {key: drawn(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [drawn(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value


def moment(value: dt.datetime | str | None) -> str:
    """A time as `2026-11-21 04:49:32` (UTC), or a dash."""
    if value is None:
        return DASH
    at = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}"


def short(value: Any, most: int = VALUE_CHARACTERS) -> str:
    """Text of at most `most` characters on one line; what was cut is said with its length."""
    text = " ".join(str(value).split()) if value not in (None, "") else DASH
    return text if len(text) <= most else f"{text[:most]} … ({len(text):,} characters)"


def listed(values: Sequence[Any] | None, most: int = 4) -> str:
    """The first few of a list, and how many more."""
    shown = [short(v, 60) for v in (values or ())[:most]]
    more = len(values or ()) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "") if shown else DASH


def _heading(heading: Heading) -> dict[str, Any]:
    words = {
        "final": "Final",
        "draft": "Draft",
        "blocked": "Blocked: the evidence does not reconcile",
    }
    return {
        **dataclasses.asdict(heading),
        "issued_at": moment(heading.issued_at),
        "reasons": [short(reason, 200) for reason in heading.reasons],
        "status_words": words[heading.status],
        "is_final": heading.status == "final",
        "manifest_short": heading.manifest_sha256[:12],
    }


def _period(evidence: Evidence) -> dict[str, str]:
    request = evidence.request
    return {
        "since": moment(request.since),
        "until": moment(request.until),
        "environment": request.environment or "all environments",
        "datasources": listed(request.datasources, 12) if request.datasources else "all databases",
        "q": request.q or DASH,
        "collected_by": evidence.collected_by,
    }


def _summary(result: Result) -> dict[str, Any]:
    most = max((count for _, count in result.by_reason), default=0)
    return {
        "conclusion": result.conclusion,
        "tone": {controls.OPERATED: "ok", controls.DEVIATED: "bad"}.get(result.conclusion, "plain"),
        "counts": result.counts,
        "attributes": [
            {
                **dataclasses.asdict(a),
                "tone": {controls.OPERATED: "ok", controls.DEVIATED: "bad"}.get(a.conclusion, "plain"),
            }
            for a in result.attributes
        ],
        "reasons": [
            {"words": REASONS.get(reason, reason), "count": count, "bar": charts.share(count, most)}
            for reason, count in result.by_reason
        ],
        "sql_sha256": result.sql_sha256,
    }


def _chart(evidence: Evidence, result: Result) -> dict[str, Any]:
    request = evidence.request
    pairs = [(act["occurred_at"], bool(act["deviations"])) for act in result.acts]
    bars = charts.buckets(pairs, request.since, request.until)
    words = charts.in_words(bars)
    return {
        "image": charts.timeline(bars),
        "steps": words["steps"],
        "quiet": words["quiet"],
        "busiest": words["busiest"],
        "busiest_at": moment(words["busiest_at"]),
        "step": _span(charts.step_seconds(request.since, request.until)),
    }


def _span(seconds: int) -> str:
    for size, word in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            return word if seconds == size else f"{seconds // size} {word}s"
    return "second" if seconds == 1 else f"{seconds} seconds"


def _completeness(evidence: Evidence) -> dict[str, Any]:
    found = evidence.completeness
    match = found["reconciliation"]
    return {
        "sources": [_source(s) for s in found["sources"]],
        "coverage": [
            {"source": short(c["source"], 40), "state": c["state"], "detail": short(c["detail"], 160)}
            for c in found["coverage"]
        ],
        "match": {k: v or 0 for k, v in match.items() if k != "mismatches"},
        "mismatches": [{k: short(v, 40) for k, v in m.items()} for m in match.get("mismatches", ())[:MISMATCHES_MOST]],
        "wording": _wording(evidence),
        "fields": [{**f, "percent": _percent(f["known"], f["of"])} for f in found["fields"]],
    }


def _wording(evidence: Evidence) -> str:
    match = evidence.completeness["reconciliation"]
    if controls.contradictions(evidence):
        return "Not reconciled: see the differences."
    if not match.get("transactions") or not match.get("rows_captured"):
        return "No independent second source covers this period: the counts rest on what one source told."
    listed_differences = sum(match.get(k) or 0 for k in ("captured_more", "without_statement"))
    return "Reconciled with the differences listed." if listed_differences else "Reconciled without difference."


def _percent(part: int, whole: int) -> str:
    """Cut, never rounded up: 100 % means all."""
    return DASH if not whole else f"{part * 1000 // whole / 10:.1f} %"


def _source(source: Mapping[str, Any]) -> dict[str, Any]:
    first, last = source["first_sequence"], source["last_sequence"]
    return {
        "name": short(source["name"], 40),
        "format": source["format"],
        "datasource": short(source["datasource"] or None, 40),
        "sequence": f"{first:,}–{last:,}" if first is not None else DASH,
        **{name: source.get(name) or 0 for name in COUNTED},
        "heard": moment(source["watermark_at"]),
    }  # fmt: skip


def _stateless(evidence: Evidence) -> list[str]:
    """Databases whose roles and owners were never recorded: for them only the class of a statement counts."""
    known = set(evidence.tables["roles"]["datasource"].to_pylist())
    return sorted({d or "unnamed" for d in evidence.tables["population"]["datasource"].to_pylist()} - known)


def _act(act: Act) -> dict[str, Any]:
    rows = act["rows_captured"] if act["rows_captured"] is not None else act["rows_reported"]
    return {
        "index": act["first_index"],
        "at": moment(act["occurred_at"]),
        "who": short(act["who_name"], 60),
        "type": act["who_type"] or "unknown",
        "agent": short(act["agent_name"], 50) if act["agent_name"] else "",
        "behalf": short(act["on_behalf_of"], 60) if act["on_behalf_of"] else "",
        "login": short(act["db_user"], 40),
        "how": ATTRIBUTION.get(act["attribution"] or "none", "not known")
        + (", not proved yet" if act["claimed"] else ""),
        "command": short(act["command"] or act["op"] or act["kind"], 40),
        "relations": listed(act["relations"], 3) if act["relations"] else "(no object named)",
        "datasource": short(act["datasource"], 40),
        "rows": "rows unknown" if rows is None else "1 row" if rows == 1 else f"{rows:,} rows",
        "verdict": act["verdict"] or "unknown",
        "outcome": (act["outcome"] or "unknown").replace("_", " "),
        "from": short(" ".join(str(v) for v in (act["client_app"], act["client_ip"]) if v), 60),
        "ticket": short(act["ticket"], 40),
        "approval": _approval(act),
        "reasons": ", ".join(REASONS.get(r, r) for r in act["reasons"]),
        "statement": short(act["statement"], STATEMENT_CHARACTERS) if act["statement"] else "",
        "deviations": ", ".join(act["deviations"]),
    }


def _approval(act: Act) -> str:
    if act["approval_state"] is None:
        return "none in the signed log"
    if act["approval_state"] != "approved":
        return "asked for, not decided" if act["approval_state"] == "requested" else str(act["approval_state"])
    return f"{listed(act['approvers'], 2)} at {moment(act['decided_at'])} (record {act['approval_index']:,})"


def _person(line: Mapping[str, Any], result: Result) -> dict[str, Any]:
    most = max(each["acts"] for each in result.by_person)
    return {
        "name": short(line["name"], 60),
        "type": line["type"] or "unknown",
        "behalf": listed(line["behalf"], 2) if line["behalf"] else "",
        "logins": listed(line["logins"], 3),
        "how": listed([ATTRIBUTION.get(a, a) for a in line["attribution"]], 3),
        "reasons": listed([REASONS.get(r, r) for r in line["reasons"]], 5),
        "acts": line["acts"],
        "deviating": line["deviating"],
        "bar": charts.share(line["acts"], most),
    }
