"""Approvals held against what was done, and findings: what a reviewer should look at, each from a stated rule."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import msgspec
from django.conf import settings

from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries.ask import OWN, STATEMENT_COUNT, Answer, Total, Window, limited, scoped, searched
from lineage.queries.covering import coverage

BULK_ROWS = 1_000
CITED = f"""
    select *, unnest(list_distinct(list_filter([ticket, case when attribution = 'gateway' then approval_request end],
                                               lambda cited: cited is not null))) as cited
    from activity where environment <> '{OWN}'
    and not (attribution = 'gateway' and kind = 'query' and coalesce(verdict, '') in ('pending', 'blocked'))"""  # noqa: S608 - our own names
"""Records by what they cite: a ticket, and the request under which a gateway let them run. What it did not let run is no access."""
AROUND = "around-the-gateway"
DAY, FIRST = dt.timedelta(days=1), dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


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
    count = limited(limit)
    with Question() as question:
        rows = question.rows(
            f"""with cites as ({CITED})
            select cited as ticket, any_value(datasource) filter (kind <> 'decision') as datasource, any_value(environment) as environment,
            list(struct_pack(approval := approval, decided_by := decided_by, who_id := who_id, type := decision_type,
                 occurred_at := occurred_at, index := index) order by index)
                filter (kind = 'decision' and not list_contains(flags, 'unauthorised_assertion')) as decisions,
            {STATEMENT_COUNT} as accesses,
            greatest(count(*) filter (kind = 'change'),
                coalesce(sum(rows_affected) filter (kind = 'query' and approval_request = cited), 0)) as rows_changed,
            min(occurred_at) filter (kind in ('query', 'change')) as first_access_at,
            min(index) filter (kind in ('query', 'change')) as first_index,
            list_distinct(list(who_id) filter (kind in ('query', 'change') and who_id is not null)) as people,
            list_distinct(list(on_behalf_of) filter (kind in ('query', 'change') and on_behalf_of is not null)) as behalf,
            max(index) as last_index
            from cites where ({scope} or kind = 'decision') and cited in (select cited from cites where {condition})
            group by cited order by last_index desc limit {count}""",  # noqa: S608
            [*scope_values, *values],
        )
        items = [_approval(row) for row in rows]
        return Answer(
            items, None, Total(len(items), len(items) < count), question.size, coverage(question, viewer, window)
        )


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


BEGINS = "json_extract_string(custody, '$.transition') is distinct from 'ends'"
DONE = "coalesce(verdict, 'allowed') in ('allowed', 'unknown')"
ORIGIN = "contains(w, 'session_replication_role')"


def _ours(rule: str) -> str:
    """The condition of a finding that the store itself made and logged."""
    return f"(source = '{OWN}' and custody_type = 'finding' and custody_subject = '{rule}' and {BEGINS})"


# Breaking glass asks for a look by another person; the record of that look carries the same request as ticket.
REVIEW_DUE = f"""(source = '{OWN}' and decision_type = 'break_glass' and json_extract_string(decision, '$.transition') = 'approved'
and ticket not in (select ticket from raw_events where source = '{OWN}' and decision_type = 'review' and ticket is not null))"""  # noqa: S608 - our own name


def _collectors(subject: str, *types: str) -> str:
    """The condition of what a collector states about its own feed."""
    kinds = ", ".join(f"'{kind}'" for kind in types)
    return f"(source <> '{OWN}' and custody_subject = '{subject}' and custody_type in ({kinds}))"


RULES: tuple[tuple[str, str, str, str], ...] = (
    ("forged-log-line", "high", "custody_type = 'finding' and list_contains(flags, 'suspected_forgery')",
     "A log line that only pretends to be from pgAudit was written by {who}."),
    ("false-claim", "high", "list_contains(flags, 'suspected_forgery') and kind in ('query', 'change')",
     "{who} claimed in a context message to be somebody else; the claim is not believed."),
    ("refused", "medium", "verdict = 'blocked'", "{who} was refused by {by}: {op}, {where}."),
    ("privilege-change", "medium", "class = 'privilege' and verdict = 'allowed'", "{who} changed privileges."),
    ("agent-write", "medium", "(who_type = 'agent' or agent_id is not null) and class = 'write' and kind = 'query' "
     "and verdict = 'allowed'", "The agent {who} wrote to {where}, for {behalf}."),
    ("agent-without-person", "high", "(who_type = 'agent' or agent_id is not null) and on_behalf_of is null "
     "and kind in ('query', 'change')", "The agent {who} worked for nobody that is known."),
    ("bulk-change", "medium", f"class = 'write' and kind = 'query' and coalesce(rows_affected, 0) >= {BULK_ROWS}",
     "{who} changed {rows} rows of {where} in one statement."),
    ("bulk-export", "medium", f"class = 'export' or (op = 'read' and coalesce(rows_returned, 0) >= {BULK_ROWS})",
     "{who} took {rows} rows out of {where}."),
    ("truncate-or-drop", "medium", "verdict = 'allowed' and (op = 'truncate' or command ilike 'DROP%')",
     "{who} removed {where}."),
    ("gap", "high", f"custody_type = 'gap' and {BEGINS} and (source = '{OWN}' or "
     "coalesce(custody_subject, '') not in ('slot', 'log', 'canary'))", "A gap in what {source} reports: {detail}"),
    ("silence", "high", f"custody_type = 'silence' and {BEGINS}", "{detail}"),
    ("capture-weakened", "high", f"{_ours('capture-weakened')} or ({DONE} and "
     f"len(list_filter(weakens, lambda w: not {ORIGIN})) > 0)", "{weakened}"),
    ("replication-role", "high", f"{_ours('replication-role')} or ({DONE} and "
     f"len(list_filter(weakens, lambda w: {ORIGIN})) > 0)", "{weakened} Triggers and rules do not run in such a session."),
    ("slot-lost", "high", f"{_ours('slot-lost')} or {_collectors('slot', 'gap')}", "The replication slot was lost: {detail}"),
    ("log-lost", "high", _collectors("log", "gap", "alarm"), "The server's log was lost before it was read: {detail}"),
    ("canary-missing", "high", f"{_ours('canary-missing')} or {_collectors('canary', 'gap')}", "{detail}"),
    ("rows-not-captured", "high", _ours("rows-not-captured"), "{detail}"),
    ("changes-without-statement", "high", _ours("changes-without-statement"), "{detail}"),
    (AROUND, "high", _ours(AROUND), "{detail}"),
    ("count-mismatch", "high", _ours("count-mismatch"), "{detail}"),
    ("capture-alarm", "medium", "custody_type = 'alarm' and custody_subject is distinct from 'log'", "{source} reports: {detail}"),
    ("review-due", "medium", REVIEW_DUE, "{who} broke glass for request {ticket}; nobody has looked at it yet."),
    ("conflict", "medium", "list_contains(flags, 'duplicate_conflict')",
     "{source} sent two different records under one id; both are kept."),
    ("unauthorised-assertion", "medium", "list_contains(flags, 'unauthorised_assertion')",
     "{source} asserted what its token does not allow; it is kept and not counted."),
    ("clock-skew", "low", f"list_contains(flags, 'clock_skew') or (custody_type = 'clock_skew' and {BEGINS})",
     "The clock of {source} is wrong."),
)  # fmt: skip


# A line of the server's log about a statement that the gateway told of is no second finding. Each line takes one of the
# gateway's records of its session and operation; what the gateway did not tell of stays. (Reads that name no table are the
# gateway's own questions, and so is all that sessions of its own, system's, do.)
SEEN = "list_contains(flags, 'seen_by_gateway')"
ACT = "coalesce(correlation_id, event_id)"
SECOND_RECORDS = f"""
told as (select session, op, count(distinct {ACT}) as n from activity where source_format = 'gateway' and kind = 'query'
    and occurred_at >= ? and verdict <> 'pending' and coalesce(policy, '') not like '%"effect":"block"%' group by session, op),
lines as (select session, op, {ACT} as act, row_number() over (partition by session, op order by min(index)) as place
    from activity where {SEEN} and occurred_at >= ? and (op <> 'read' or len(relations) > 0) group by session, op, act),
second as (select act from lines join told using (session, op) where place <= n)
"""  # noqa: S608 - our own conditions
ONCE = f"not ({SEEN} and (who_type = 'system' or (op = 'read' and len(relations) = 0) or {ACT} in (select act from second)))"  # noqa: S608
ABOUT = f"""coalesce(case when rule = 'false-claim' then transaction_id when rule = '{AROUND}' then
    concat_ws(' ', environment, datasource, json_extract_string(custody, '$.first')) end, correlation_id, event_id)"""
"""What goes on is one finding: its last record is shown, and how often it was told."""
TESTS = ", ".join(f"case when {test} then '{rule}' end" for rule, _, test, _ in RULES)


def findings(viewer: Viewer, window: Window = Window(), limit: int | None = None) -> Answer:
    """Findings, newest first, one for each rule and statement (or transaction): rule, severity, sentence, event index."""
    condition, values = scoped(viewer, window)
    count = limited(limit or 200)
    earlier = window.since - DAY if window.since else FIRST
    with Question() as question:
        rows = question.rows(
            f"""with {SECOND_RECORDS}, ruled as (select *, unnest(list_filter([{TESTS}], lambda r: r is not null)) as rule from activity
                where {condition} and (environment <> '{OWN}' or custody_subject = 'count-mismatch')
                and not list_has_any(flags, ['claim', 'canary']))
            select rule, min(index) as index, min(occurred_at) as occurred_at, any_value(who_id) as who_id,
            any_value(who_name) as who_name, any_value(who_type) as who_type, any_value(on_behalf_of) as on_behalf_of,
            any_value(op) as op, any_value(source) as source, any_value(environment) as environment,
            any_value(datasource) as datasource, list_distinct(flatten(list(relations))) as relations,
            max(coalesce(rows_affected, rows_returned)) as rows, count(*) as records, arg_max(custody, index) as custody,
            any_value(session) as session, any_value(ticket) as ticket, any_value(kind) as kind,
            list_distinct(flatten(list(weakens))) as weakens, any_value(policy) as policy, any_value(source_format) as source_format
            from ruled where {ONCE}
            group by rule, {ABOUT}
            order by index desc limit {count}""",  # noqa: S608 - our own rules and a number
            [earlier, earlier, *values],
        )
        late = _outside_hours(question, condition, values)
        items = sorted([_finding(r) for r in rows] + late, key=lambda f: -f["index"])[:count]
        return Answer(
            items, None, Total(len(items), len(items) < count), question.size, coverage(question, viewer, window)
        )


def _finding(row: dict[str, Any]) -> dict[str, Any]:
    _, severity, _, sentence = next(r for r in RULES if r[0] == row["rule"])
    custody = msgspec.json.decode(row.pop("custody") or "{}")
    kind, weakens = row.pop("kind"), row.pop("weakens") or []
    done = f"{row['who_name']} {', '.join(weakens)}." if kind == "query" else f"{'; '.join(weakens)}."
    again = f" It went on, and was told {row['records']} times." if row["rule"] == AROUND and row["records"] > 1 else ""
    row["severity"] = severity
    row["sentence"] = sentence.format(
        who=row["who_name"],
        where=", ".join(row["relations"] or ()) or "no table named",
        behalf=row["on_behalf_of"] or "nobody known",
        ticket=row["ticket"],
        rows=f"{row['rows']:,}" if row["rows"] is not None else "an unknown number of",
        by=_refuser(row.pop("policy"), row.pop("source_format") == "gateway" and kind == "session"),
        op="a connection" if row["op"] == "session" else row["op"] or "a statement",
        source=custody.get("subject") if row["source"] == OWN else row["source"],
        weakened=done if weakens else f"Capture was weakened: {custody.get('detail')}",
        detail=(custody.get("detail") or custody.get("subject") or "no detail") + again,
    )
    return row


def _refuser(policy: str | None, is_sign_in: bool) -> str:
    told = msgspec.json.decode(policy or "[]")
    rules = [p.get("rule") or p.get("id") for p in told if p.get("effect") in ("block", "limit")]
    return f"the guardrail {rules[0]}" if rules else "the gateway" if is_sign_in else "the database"


def working_hours() -> tuple[set[int], dt.time, dt.time] | None:
    """The stated working hours ("Mon-Fri 08:00-18:00", UTC) as weekdays and times, or None when none are stated."""
    match = re.fullmatch(r"(\w{3})-(\w{3}) (\d\d:\d\d)-(\d\d:\d\d)", settings.MAINTENANCE_HOURS.strip())
    if match is None:
        return None
    first, last = DAYS.index(match[1]), DAYS.index(match[2])
    days = {(first + n) % 7 for n in range((last - first) % 7 + 1)}
    return days, dt.time.fromisoformat(match[3]), dt.time.fromisoformat(match[4])


def _outside_hours(question: Question, condition: str, values: list[Any]) -> list[dict[str, Any]]:
    hours = working_hours()
    if hours is None:
        return []
    days, opens, closes = hours
    rows = question.rows(
        f"select min(index) as index, min(occurred_at) as occurred_at, any_value(who_id) as who_id, any_value(who_name) as who_name, "  # noqa: S608
        "any_value(who_type) as who_type, any_value(on_behalf_of) as on_behalf_of, any_value(op) as op, "
        "any_value(source) as source, any_value(environment) as environment, any_value(datasource) as datasource, "
        "list_distinct(flatten(list(relations))) as relations, any_value(session) as session, any_value(ticket) as ticket, "
        "any_value(command) as command from activity "
        f"where {condition} and class = 'ddl' and kind = 'query' and verdict = 'allowed' and not {SEEN} "
        "group by coalesce(correlation_id, event_id)",
        values,
    )
    found = []
    for row in rows:
        at = row["occurred_at"]
        if at.weekday() in days and opens <= at.time() < closes:
            continue
        where = ", ".join(row["relations"] or ()) or "an unnamed object"
        sentence = f"{row['who_name']} changed the schema outside working hours: {row.pop('command')} {where}."
        found.append(
            row | {"rule": "ddl-outside-hours", "severity": "medium", "sentence": sentence, "records": 1, "rows": None}
        )
    return found
