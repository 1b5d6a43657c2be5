"""The reader's words for what the pages show: titles that answer, completeness, and why something is unknown. Pure."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

OPS: dict[str, tuple[str, str]] = {
    "read": ("R", "read"), "insert": ("I", "insert"), "update": ("U", "update"), "delete": ("D", "delete"),
    "truncate": ("T", "truncate"), "ddl": ("S", "schema change"), "privilege": ("P", "privilege change"),
    "export": ("X", "export"), "import": ("M", "import"), "procedural": ("F", "procedure or function"),
    "session": ("L", "session"), "snapshot": ("N", "snapshot"),
}  # fmt: skip
"""Letter and word of each operation."""

WRITES = frozenset({"insert", "update", "delete", "truncate", "ddl", "privilege", "import", "procedural"})
VERDICTS = frozenset({"allowed", "masked", "approved", "pending", "blocked", "error"})
ACTORS = {
    "human": "person", "service": "service", "agent": "agent", "system": "system", "unknown": "unknown kind of actor",
}  # fmt: skip

ATTRIBUTIONS = {
    "gateway": "The gateway signed this person in.",
    "context_message": "The application named this person in a message inside the transaction; the line of that message "
    "was written for a login that is trusted to do so.",
    "asserted_by_proxy": "The database proxy named this person; its token may assert that.",
    "asserted_by_client": "The client itself named this person; nothing else proves it.",
    "mapped_login": "The database login is registered as belonging to this identity.",
    "db_login": "Only the database login is known, not the person behind it.",
    "none": "Not attributed: the source cannot tell who did this.",
}
STRENGTHS = {
    "gateway": "signed in at the gateway", "context_message": "claimed in the transaction, and proven",
    "asserted_by_proxy": "asserted by the source", "asserted_by_client": "asserted by the client alone",
    "mapped_login": "by the login's registration", "db_login": "only the login is known", "none": "not attributed",
}  # fmt: skip
CLAIMED = "A claim that is not proven yet: the log line of the statement that made it has not arrived."

UNKNOWN_VALUES = {
    "unchanged": "unchanged (the database did not send it again)",
    "unavailable": "unknown — the database does not send old values of this table (REPLICA IDENTITY DEFAULT)",
    "masked": "hidden from your role",
    "truncated": "cut: only the beginning is kept here",
    "absent": "did not exist",
    "null": "null",
}

APPROVALS = {
    "good": ("approved in time", "Approved by somebody else before the first access."),
    "self_approved": ("approved by themselves", "Somebody who used the ticket also approved it."),
    "late": ("approved too late", "The first access came before the approval."),
    "missing": ("never approved", "Accesses cite this ticket, and no approval of it is in the log."),
    "unused": ("approved, not used", "Approved; no access cites it."),
    "open": ("waiting", "Requested and not yet decided."),
    "rejected": ("rejected", "The request was refused."),
}
HELD = {
    "requested": ("waits for a decision", "open"), "approved": ("approved, not run yet", "unused"), "used": ("approved and run", "good"),
    "rejected": ("rejected", "rejected"), "expired": ("expired", "late"), "withdrawn": ("withdrawn", "unused"),
    "lapsed": ("nobody decided in time", "late"),
}  # fmt: skip
"""A held statement's state: words, and the tone of `APPROVALS`."""
HELD_TITLES = {
    "requested": "waits for a decision", "approved": "is approved and has not run yet", "used": "was approved and has run",
    "rejected": "was rejected", "expired": "has expired", "withdrawn": "was withdrawn",
}  # fmt: skip
EFFECTS = {
    "read": "Reads", "insert": "Adds rows to", "update": "Changes rows of", "delete": "Deletes rows of", "truncate": "Empties",
    "ddl": "Changes the definition of", "privilege": "Changes rights on", "export": "Takes rows out of", "import": "Loads rows into",
    "procedural": "Runs a procedure or function:", "session": "Changes the session:", "opaque": "Does what cannot be told beforehand:",
}  # fmt: skip
RULES = {
    "forged-log-line": "Forged log line", "false-claim": "False claim", "refused": "Refused access",
    "privilege-change": "Privilege change", "agent-write": "Write by an agent, not approved",
    "agent-without-person": "Agent without a person", "bulk-change": "Bulk change", "bulk-export": "Bulk export",
    "truncate-or-drop": "Table emptied or dropped", "gap": "Gap in the records", "capture-alarm": "Capture alarm",
    "conflict": "One id, two contents", "unauthorised-assertion": "Assertion not allowed", "clock-skew": "Wrong clock",
    "ddl-outside-hours": "Schema change outside working hours", "silence": "Silent source",
    "capture-weakened": "Capture weakened", "replication-role": "Triggers switched off", "slot-lost": "Replication slot lost",
    "log-lost": "Server log lost", "canary-missing": "Canary missing", "rows-not-captured": "Rows not captured",
    "changes-without-statement": "Changes without a statement", "count-mismatch": "Counts do not agree",
    "agent-destructive": "Destructive act by an agent",
    "denied-then-allowed": "Denied, then allowed", "approval-missing": "No approval where one is required",
    "shared-account": "Shared account", "unbounded-change": "Change of every row",
    "sensitive-bulk-read": "Bulk read of a sensitive table", "around-the-gateway": "Around the gateway", "review-due": "Review due",
    "sign-off-late": "Sign-off late",
}  # fmt: skip


FACETS = {
    "environment": "Environment", "datasource": "Database", "type": "Kind of actor", "actor": "Identity", "verdict": "Verdict",
    "op": "Operation", "relation": "Table", "ticket": "Ticket", "agent": "Agent", "kind": "Kind of record",
}  # fmt: skip
MANY = {
    "human": ("person", "people"), "service": ("service",), "agent": ("agent",),
    "system": ("system process", "system processes"),
}  # fmt: skip
RELATIVE = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week"}


class Covered(Protocol):
    """The members of `queries.Coverage` that are put into words."""

    @property
    def source(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def detail(self) -> str: ...


NOTHING_OUTSIDE = (
    "With nothing held outside, whoever holds the key could have rewritten it all: "
    "no witness, timestamp or auditor holds a checkpoint yet."
)
HOLDERS = {
    "witness": "the witness {} holds", "timestamp": "the timestamp authority {} has stamped",
    "folder": "the drop folder holds", "mail": "{} was sent", "pull": "{} fetched",
}  # fmt: skip


class Holder(Protocol):
    """The members of `outside.Holding` that are put into words."""

    @property
    def kind(self) -> str: ...
    @property
    def holder(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def at(self) -> dt.datetime: ...
    @property
    def since(self) -> dt.datetime: ...


def condition(field: str, value: Any) -> str:
    """`field:value` in the search language, quoted where the value needs it."""
    text = str(value)
    if re.fullmatch(r"[\w@.-]+", text):
        return f"{field}:{text}"
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'{field}:"{quoted}"'


def number(value: int) -> str:
    return f"{value:,}"


def counted(value: int, one: str, many: str | None = None) -> str:
    """ "1 table", "41 tables"."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def total(found: Any, one: str, many: str | None = None) -> str:
    """A `queries.Total` in words; one that is not exact is a lower bound."""
    return counted(found.value, one, many) if found.exact else f"More than {number(found.value)} {many or one + 's'}"


def listed(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def ago(at: dt.datetime, now: dt.datetime) -> str:
    """How long ago, in the largest fitting unit; "in 2 h" for a time to come."""
    seconds = (now - at).total_seconds()
    size = abs(seconds)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if size >= length * (2 if unit == "d" else 1):
            text = f"{int(size // length)} {unit}"
            break
    else:
        text = f"{int(size)} s"
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def completeness(coverage: Iterable[Covered]) -> tuple[str, str]:
    """(state, sentence) for the line under a title: ok, gap, or none when no source is in scope."""
    sources = list(coverage)
    if not sources:
        return "none", "No source reports for what you asked: an empty answer proves nothing here."
    bad = [c for c in sources if c.state != "complete"]
    if not bad:
        return "ok", f"From {len(sources)} of {counted(len(sources), 'source')}, no gap in this window."
    first, others = bad[0], len(bad) - 1
    more = (
        f" {counted(others, 'other source is', 'other sources are')} not shown to be complete either." if others else ""
    )
    shown = f"{len(sources) - len(bad)} of {counted(len(sources), 'source')} shown to be complete"
    return "gap", f"{shown}. {first.source}: {first.detail}{more}"


def person(row: Mapping[str, Any]) -> str:
    """Who did it, for a sentence: an agent always with the person it worked for."""
    name = row.get("who_name") or row.get("name") or "unknown"
    if row.get("who_type") == "agent" or row.get("type") == "agent":
        return f"The agent {row.get('agent_name') or name}"
    return str(name)


def effect(told: Mapping[str, Any]) -> str:
    """One effect of a held statement as a sentence; what is not understood is said to be so."""
    verb = EFFECTS.get(str(told.get("verb")), f"Does something that is not known here ({told.get('verb')}):")
    where = ".".join(str(told[part]) for part in ("schema", "relation") if told.get(part)) or "no object named"
    columns = [str(name) for name in told.get("written") or told.get("columns") or ()]
    named = f", {'column' if len(columns) == 1 else 'columns'} {listed(columns[:8])}" if columns else ""
    more = f" and {len(columns) - 8} more" if len(columns) > 8 else ""
    classes = [str(name) for name in told.get("classes") or ()]
    protected = f"; protected: {listed(classes)}" if classes else ""
    whole = ", without a condition: every row" if told.get("unconditional") else ""
    sure = {"assumed": " (the object was not found: assumed)", "unknown": " (which object, cannot be told)"}
    return f"{verb} {where}{named}{more}{protected}{whole}{sure.get(str(told.get('certainty')), '')}"


def held_title(state: str, who: Mapping[str, Any]) -> str:
    """The title of a held statement's page."""
    for_whom = f" for {who['on_behalf_of']}" if who.get("on_behalf_of") else ""
    name = person(who) if who.get("who_type") == "agent" else str(who.get("who_name") or "unknown")
    return f"A statement of {name[:1].lower() + name[1:] if name.startswith('The agent') else name}{for_whom} {HELD_TITLES[state]}"


def period(window: Any, relative: str = "") -> str:
    """The asked window in words, to stand behind a count; `relative` is how far back it was asked for, such as "24h"."""
    if relative and not window.until:
        unit = RELATIVE[relative[-1]]
        return f"in the last {counted(int(relative[:-1]), unit)}" if relative[:-1] != "1" else f"in the last {unit}"
    if window.since and window.until:
        return f"from {window.since:%-d %b %Y %H:%M} to {window.until:%-d %b %Y %H:%M}"
    if window.since:
        return f"since {window.since:%-d %b %Y %H:%M}"
    if window.until:
        return f"until {window.until:%-d %b %Y %H:%M}"
    return "so far"


def identity_title(identity: Mapping[str, Any], period: str) -> str:
    touched = counted(int(identity["relations"] or 0), "table")
    return f"{identity['name']} touched {touched} {period}"


def identity_sentence(answer: Mapping[str, Any]) -> str:
    """What an identity did and for whom, in two short sentences."""
    who = answer["identity"]
    first = f"{counted(who['accesses'] or 0, 'access', 'accesses')}, {number(who['writes'] or 0)} of them writing"
    refused = f"; {number(who['refused'])} refused" if who["refused"] else "; none refused"
    behind = ""
    people = [str(p["name"]) for p in answer["worked_for"]]
    if people:
        behind = f" It worked for {listed(people[:3])}."
    elif who["type"] == "agent":
        behind = " It worked for nobody that is known."
    through = [str(p["name"]) for p in answer["worked_through"]]
    if through:
        behind += f" {listed(through[:3])} worked for {who['name']}."
    return f"{first}{refused}.{behind}"


def row_sentence(summary: Mapping[str, Any], now: dt.datetime) -> str:
    """ "Changed 6 times by 3 people and 1 agent, last by … 3 d ago; read 14 times; …"."""
    parts = []
    if summary["changes"]:
        by = [
            counted(n, *MANY.get(kind, ("actor of unknown kind", "actors of unknown kind")))
            for kind, n in summary["changed_by"].items()
        ]
        last = f", last by {summary['last_changed_by']} {ago(summary['last_changed_at'], now)}"
        parts.append(f"Changed {counted(summary['changes'], 'time')} by {listed(by)}{last}")
    else:
        parts.append("Not changed")
    parts.append(f"read by key {counted(summary['reads'], 'time')}" if summary["reads"] else "not read by its key")
    if summary["could_have_read"]:
        parts.append(f"{counted(summary['could_have_read'], 'wider read')} could have seen it")
    return "; ".join(parts) + "."


def session_title(session: Mapping[str, Any]) -> str:
    wrote = f", {counted(session['rows_changed'], 'row')} changed" if session["rows_changed"] else ""
    refused = f", {number(session['refused'])} refused" if session["refused"] else ""
    for_whom = ""
    if session["who_type"] == "agent" or session["agent_name"]:
        for_whom = f" for {session['on_behalf_of'] or 'nobody known'}"
    return f"{person(session)}{for_whom}: {counted(session['statements'], 'statement')}{wrote}{refused}"


def event_title(event: Mapping[str, Any]) -> str:
    """Who did what where, as one line."""
    if event["kind"] == "decision":
        decision = event["decision"] or {}
        verb = str(decision.get("type") or "decision").replace("_", " ")
        return f"{decision.get('decided_by') or event['who_name']}: {verb} {decision.get('subject') or event['ticket'] or ''}".strip()
    if event["kind"] in ("state", "custody"):
        custody = event["custody"] or {}
        what = "catalog snapshot" if event["kind"] == "state" else str(custody.get("type") or "record of custody")
        return f"{event['source']}: {what.replace('_', ' ')}"
    verb = OPS.get(event["op"] or "", ("", event["op"] or "act"))[1]
    where = ", ".join(event["relations"] or ()) or event["datasource"] or "an unnamed object"
    return f"{person(event)}: {verb} on {where}"


def simulated(window: Any, environments: Iterable[str | None], label: str = "simulated") -> bool:
    """Whether made-up data is, or may be, on the page."""
    return window.environment == label or label in set(environments)


def held_outside(holdings: Sequence[Holder], size: int, most: int = 3) -> str:
    """Who outside holds which checkpoint since when, the largest first, and how many of `size` records are newer."""
    if not holdings:
        return NOTHING_OUTSIDE
    parts = [
        f"{HOLDERS[one.kind].format(one.holder)} the checkpoint of {counted(one.size, 'record')} ({times(one)})"
        for one in holdings[:most]
    ]
    more = len(holdings) - len(parts)
    said = listed([*parts, counted(more, "other holds one", "others hold one")] if more else parts)
    newer = size - holdings[0].size
    if newer <= 0:
        return f"Held outside: {said}. Nothing under it can be rewritten unnoticed while they keep it."
    return (
        f"Held outside: {said}. {counted(newer, 'newer record is', 'newer records are')} "
        "under no checkpoint that is held outside yet."
    )


def times(one: Holder) -> str:
    """When the newest was taken, and the first where that was earlier."""
    newest, first = minute(one.at), minute(one.since)
    return f"{newest} UTC" if newest == first else f"{newest} UTC, the first {first}"


def minute(at: dt.datetime) -> str:
    return f"{at.astimezone(dt.UTC):%-d %b %Y %H:%M}"


def run_title(run: str, found: Mapping[str, Any]) -> str:
    """ "Run r-9 of the agent report-bot for dana@…: 12 statements, 3 rows changed"."""
    agent = found["agent_name"] or found["agent_id"] or found["who_name"]
    behind = listed([str(name) for name in (found["worked_for"] or [])[:3]]) or "nobody known"
    wrote = f", {counted(found['rows_changed'], 'row')} changed" if found["rows_changed"] else ""
    refused = f", {number(found['refused'])} refused" if found["refused"] else ""
    return f"Run {run} of {agent} for {behind}: {counted(found['statements'], 'statement')}{wrote}{refused}"


def without_image(without: Mapping[str, Any]) -> list[str]:
    """The acts that left no row image, each in a line, for the undo script."""
    lines = [
        f"record {act['index']}, {act['command'] or act['class']} on {', '.join(act['relations'] or ()) or 'no table named'}: "
        + (
            "a definition or a right was changed"
            if act["class"] in ("ddl", "privilege")
            else "no row image was captured for it"
        )
        for act in without["acts"]
    ]
    more = without["count"] - len(lines)
    return [*lines, f"and {counted(more, 'more statement')} of that kind"] if more > 0 else lines


def hours_of_day(hours: Sequence[int]) -> str:
    """ "08–12, 14–18 UTC" of the hours 8 to 11 and 14 to 17; empty without any."""
    spans: list[list[int]] = []
    for hour in hours:
        if spans and spans[-1][1] == hour:
            spans[-1][1] = hour + 1
        else:
            spans.append([hour, hour + 1])
    return f"{', '.join(f'{first:02}–{last:02}' for first, last in spans)} UTC" if spans else ""
