"""From a result to the HTML that is printed: every value made text, bounded, and drawn in a known font."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.compute as pc
from django.template.loader import render_to_string
from django.utils.text import capfirst

from lineage import engine
from reports import (
    charts,
    completing,
    controls,
    exceptions,
    items,
    markers,
    outcomes,
    render,
    sampling,
    supplements,
    unshown,
)
from reports.controls import Test
from reports.evidence import Evidence, Request, accesses
from reports.items import Item
from reports.outcomes import Outcome, Result
from reports.printed import DASH, counted, listed, moment, short, were_tested

ITEMS_MOST = 100
DEVIATIONS_MOST = 150
PEOPLE_MOST = 100
SAMPLE_MOST = 100
STATEMENT_CHARACTERS = 360
REASON_CHARACTERS = 900
FIRST_TEST = 6
TONES = {outcomes.OPERATED: "ok", outcomes.DEVIATED: "bad"}
NOT_REVIEWED = "this mapping was not reviewed by a practitioner"

ATTRIBUTION = {
    "gateway": "signed in at the gateway",
    "context_message": "context message, proved",
    "asserted_by_proxy": "said by a trusted source",
    "asserted_by_client": "said by the client",
    "mapped_login": "login mapped to a person",
    "db_login": "login only",
    "none": "not known",
}


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
    draws: Sequence[str] = ()
    sign_offs: Sequence[Mapping[str, Any]] = ()
    chain: Sequence[Mapping[str, Any]] = ()
    supplement: Mapping[str, Any] | None = None
    exceptions: Sequence[Mapping[str, Any]] = ()
    archive: bool = False


def html(heading: Heading, told: Mapping[str, Any]) -> str:
    """The whole document, with what is `told` of its evidence.

    Values are escaped by the template engine; nothing here marks text as safe.
    """
    context = {
        **told,
        "h": _heading(heading),
        "attachments": heading.attachments,
        "sign_offs": heading.sign_offs,
        "said": exceptions.printed(heading.exceptions),
        "archive": heading.archive,
    }
    return render_to_string("pdf/report.html", drawn(context))


def told(evidence: Evidence, result: Result) -> dict[str, Any]:
    """What the document says of its evidence, as its template draws it: all but what its heading tells."""
    kind = controls.kind(evidence.request.kind)
    tests = [outcome.test for outcome in result.outcomes]
    uses_roles = any("roles" in test.tables for test in tests)
    return {
        "kind": {"title": controls.title(kind.id, evidence.request.control), "question": kind.question},
        "references": _references([test.id for test in tests], evidence.request),
        "period": _period(evidence),
        "conclusion": {"words": result.conclusion, "tone": TONES.get(result.conclusion, "plain")},
        "counts": result.counts,
        "tested": were_tested(result.counts["tested"], result.counts["deviating"], "item", "items"),
        "tests": [_test(number, outcome, evidence) for number, outcome in enumerate(result.outcomes, FIRST_TEST)],
        "last": FIRST_TEST + len(result.outcomes),
        "complete": completing.section(evidence),
        "unknown": unshown.lines(evidence, result.outcomes),
        "derived": [
            {"id": table.id, "title": table.title, "version": table.version, "sha256": table.sha256}
            for table in controls.tables_of(tests)
        ],
        "uses_roles": uses_roles,
        "assumed": sum(_assumed(outcome) for outcome in result.outcomes),
        "stateless": _stateless(evidence) if uses_roles else [],
        "log": {
            "size": evidence.as_of,
            "checkpoint": evidence.checkpoint,
            "outside": evidence.outside,
            "collected_at": moment(evidence.collected_at),
        },
    }


def _references(tests: Sequence[str], request: Request) -> list[dict[str, Any]]:
    """For each framework the controls that the tests bear on; where one framework, or one control, was asked for that alone."""
    found = []
    asked = request.control
    for framework in controls.frameworks().values():
        if request.framework not in ("", framework.id):
            continue
        listed_controls = [
            control
            for control in controls.controls_of(framework, tests)
            if "/" not in asked or asked == f"{framework.id}/{control.id}"
        ]
        if listed_controls:
            reviewed = f"reviewed by {framework.reviewed_by}" if framework.reviewed_by else NOT_REVIEWED
            found.append(
                {
                    "name": f"{framework.name} ({framework.edition})",
                    "ids": ", ".join(control.id for control in listed_controls),
                    "reviewed": reviewed,
                    "controls": [{"id": c.id, "title": c.title, "question": c.question} for c in listed_controls],
                }
            )
    return found


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


def _heading(heading: Heading) -> dict[str, Any]:
    words = {
        "final": "Final",
        "awaiting": "Final as evidence, to be signed off: section “Sign-off”",
        "draft": "Draft",
        "blocked": "Blocked: the evidence does not reconcile",
    }
    overridden = heading.status in ("final", "awaiting") and bool(heading.reasons)
    return {
        **dataclasses.asdict(heading),
        "issued_at": moment(heading.issued_at),
        "reasons": [short(reason, REASON_CHARACTERS) for reason in heading.reasons],
        "supplement": supplements.printed(heading.supplement) if heading.supplement else None,
        "status_words": words[heading.status]
        + (", by override: the evidence does not reconcile" if overridden else ""),
        "overridden": overridden,
        "is_final": heading.status in ("final", "awaiting"),
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
        "engagement": request.engagement or "none was named",
        "nonce": request.nonce or "none was given",
        "collected_by": evidence.collected_by,
    }


def _test(number: int, outcome: Outcome, evidence: Evidence) -> dict[str, Any]:
    """One section: what the test asked and found, its chart, who acted, what deviates, and the items."""
    test = outcome.test
    actors = outcomes.by_actor(outcome, PEOPLE_MOST) if _is_of_acts(outcome) else []
    return {
        "number": number,
        **{name: getattr(test, name) for name in ("id", "version", "title", "question", "item", "items")},
        "named": f"{test.title[0].lower()}{test.title[1:]}",
        "pass_rule": test.pass_rule,
        "stem": test.stem,
        "sql": test.sql,
        "sha256": test.sha256,
        "conclusion": outcome.conclusion,
        "limits": outcome.limits.sentences(),
        "tone": TONES.get(outcome.conclusion, "plain"),
        "counts": outcome.counts(),
        **_counted(outcome),
        "attributes": [{**dataclasses.asdict(a), "tone": TONES.get(a.conclusion, "plain")} for a in outcome.attributes],
        "breakdowns": [_breakdown(outcome, one) for one in test.breakdowns],
        "chart": _chart(evidence, outcome),
        "is_of_acts": _is_of_acts(outcome),
        "actors": [_actor(line, actors[0]["items"]) for line in actors],
        "actors_more": max(0, outcome.actors - PEOPLE_MOST),
        "deviations": [_item(item, test) for item in outcome.answer.deviating(DEVIATIONS_MOST)],
        "deviations_more": max(0, outcome.deviating - DEVIATIONS_MOST),
        "markers": [marker.words for marker in outcome.markers],
        "proposal": markers.proposal(outcome.markers),
        "sample": _sample(outcome),
        "entries": [_item(item, test) for item in outcome.answer.first(ITEMS_MOST)],
        "entries_more": max(0, outcome.items - ITEMS_MOST),
    }


def _counted(outcome: Outcome) -> dict[str, str]:
    """What the counts say in words, each with its noun."""
    test = outcome.test
    return {
        "tested": were_tested(outcome.tested, outcome.deviating, test.item, test.items),
        "sampled": counted(outcome.tested, test.item, test.items),
        "deviating": counted(outcome.deviating, test.item, test.items),
        "deviations_in_all": counted(outcome.deviations, "deviation", "deviations"),
        "excluded": test.excluded.replace("were ", "was ", 1) if outcome.excluded == 1 else test.excluded,
    }


def _sample(outcome: Outcome) -> dict[str, Any]:
    """What was drawn, each pick with its item as it is printed elsewhere."""
    found = sampling.rows(outcome.answer, outcome.sample)[:SAMPLE_MOST]
    lines = [
        {"run": pick.run, "name": short(pick.item, 60), **_item(item, outcome.test)}
        for pick, item in zip(outcome.sample.picks, found, strict=False)
    ]
    words = sampling.PRESETS.get(outcome.sample.preset, "the number that was asked for")
    return outcome.sample.told() | {
        "picks": lines,
        "more": outcome.sample.size - len(lines),
        "preset_words": words,
    }


def _is_of_acts(outcome: Outcome) -> bool:
    return "who_id" in outcome.answer.schema.names


def _assumed(outcome: Outcome) -> int:
    if "assumed_state" not in outcome.answer.schema.names:
        return 0
    return sum(pc.sum(part["assumed_state"]).as_py() or 0 for part in outcome.answer.parts("assumed_state"))


def _breakdown(outcome: Outcome, breakdown: controls.Breakdown) -> dict[str, Any]:
    counts = outcomes.broken_down(outcome, breakdown)
    most = max((count for _, count in counts), default=0)
    ours = set(breakdown.words.values())
    lines = [
        {"words": capfirst(words) if words in ours else words, "count": count, "bar": charts.share(count, most)}
        for words, count in counts
    ]
    return {"title": breakdown.title, "lines": lines}


def _chart(evidence: Evidence, outcome: Outcome) -> dict[str, Any]:
    request = evidence.request
    parts = (
        told.append_column("deviates", items.deviate(told))
        for told in outcome.answer.parts("occurred_at", "deviations")
    )
    bars = charts.buckets(parts, request.since, request.until)
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


def _stateless(evidence: Evidence) -> list[str]:
    """Databases whose roles and owners were never recorded: for them only the class of a statement counts."""
    told = {one["datasource"] for one in accesses(evidence)}
    known = set(engine.over(evidence.tables, "select datasource from roles")["datasource"].to_pylist())
    return sorted(name or "unnamed" for name in told - known)


def _item(item: Item, test: Test) -> dict[str, Any]:
    own = _act(item, test) if "who_id" in item else _matter(item)
    return own | {
        "index": item["first_index"] if item["first_index"] is not None else DASH,
        "at": moment(item["occurred_at"]),
        "deviations": ", ".join(item["deviations"]),
    }


def _matter(item: Item) -> dict[str, Any]:
    """An item that is no act: what it is about, and what was seen of it."""
    return {"subject": short(item["subject"], 80), "detail": short(item["detail"], STATEMENT_CHARACTERS)}


def _act(act: Item, test: Test) -> dict[str, Any]:
    captured = act.get("rows_captured")
    rows = captured if captured is not None else act.get("rows_reported")
    words = {name: said for breakdown in test.breakdowns for name, said in breakdown.words.items()}
    return {
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
        "approval": _approval(act) if "approval_state" in act else "",
        "reasons": ", ".join(words.get(r, r) for r in act.get("reasons") or ()),
        "statement": short(act["statement"], STATEMENT_CHARACTERS) if act["statement"] else "",
    }


def _approval(act: Item) -> str:
    if act["approval_state"] is None:
        return "none in the signed log"
    if act["approval_state"] != "approved":
        return "asked for, not decided" if act["approval_state"] == "requested" else str(act["approval_state"])
    return f"{listed(act['approvers'], 2)} at {moment(act['decided_at'])} (record {act['approval_index']:,})"


def _actor(line: Mapping[str, Any], most: int) -> dict[str, Any]:
    return {
        "name": short(line["name"] or line["id"], 60),
        "type": line["type"] or "unknown",
        "behalf": listed(line["behalf"], 2) if line["behalf"] else "",
        "logins": listed(line["logins"], 3),
        "how": listed([ATTRIBUTION.get(a, a) for a in line["attribution"]], 3),
        "items": line["items"],
        "deviating": line["deviating"],
        "bar": charts.share(line["items"], most),
    }
