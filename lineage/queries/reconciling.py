"""What of a period agrees with what: gateway and server's log, canaries in log and capture, counts that the log committed to.

All of it is joined exactly, by session, canary and index; nothing by time or text (docs/reports.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from lineage.coverage import LOGS
from lineage.engine import Question
from lineage.events import Custody
from lineage.queries.ask import ACCESSES, OWN, TWICE, one
from lineage.queries.taken import Period

GATEWAYS = "source_format in ('gateway', 'teleport')"
_LOGS = f"source_format in ({', '.join(repr(name) for name in sorted(LOGS))})"
ESTIMATE = "explain (format json) "
OWN_WORK = f"""starts_with(lower(statement), '{ESTIMATE}')
    or (class = 'read' and len(list_filter(relations, lambda name: not starts_with(name, 'pg_catalog.'))) = 0)"""
"""What a gateway does in the sessions that it opens for itself: it looks at the catalog, and has the rows of a statement estimated."""
CANARY = "'[0-9a-f]{16}-[0-9]{10}'"
SAID_MOST = 20
PLACES = pa.schema([("environment", pa.string()), ("datasource", pa.string())])
SPANS = pa.schema([("number", pa.int64()), ("first", pa.int64()), ("last", pa.int64())])


def captured(heard: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """The databases of which change capture was there, as (environment, database)."""
    return sorted({(one["environment"], one["datasource"] or "") for one in heard if "changes" in one["tells"]})


def transactions(question: Question, of: Period, places: list[tuple[str, str]]) -> dict[str, Any]:
    """Second source against first: rows that statements report for a transaction, and changes captured for it.

    Where there is no change capture (`places` names where there is, a database without name: anywhere in the environment)
    nothing can be held against a statement: those transactions are counted as `without_second`.
    """
    rows = [{"environment": environment, "datasource": datasource} for environment, datasource in places]
    question.cursor.register("asked_places", pa.Table.from_pylist(rows, schema=PLACES))
    # Several records may tell of one statement: one of them counts.
    per_transaction = f"""
        with told as not materialized (
              select environment, datasource, transaction_id, kind, class, verdict, rows_affected, outcome, correlation_id
              from {of.relation} where {of.condition} and transaction_id is not null
              and kind in ('query', 'change') and not list_has_any(flags, ['claim', 'canary']) and not {TWICE}),
        act as (select * from told where kind = 'change' or correlation_id is null
              union all select distinct on (correlation_id) * from told where kind = 'query' and correlation_id is not null),
        transacted as (select environment, datasource, transaction_id,
            sum(rows_affected) filter (kind = 'query' and class = 'write' and verdict <> 'error') as reported,
            count(*) filter (kind = 'query' and class = 'write') as statements,
            count(*) filter (kind = 'change') as captured, any_value(outcome) as outcome
            from act group by all)
        select t.*, exists (select 1 from asked_places p where p.environment = t.environment
            and p.datasource in ('', coalesce(t.datasource, ''))) as second from transacted t"""  # noqa: S608
    differs = "second and statements > 0 and reported <> captured and outcome <> 'rolled_back'"
    differs = f"({differs}) or (statements = 0 and captured > 0)"
    summary = one(
        question,
        f"""select count(*) filter (statements > 0 or captured > 0) as transactions,
            count(*) filter (reported = captured and captured > 0) as agree,
            count(*) filter (second and statements > 0 and reported > captured and outcome <> 'rolled_back') as reported_more,
            count(*) filter (not second and statements > 0) as without_second,
            count(*) filter (statements > 0 and reported < captured) as captured_more,
            count(*) filter (statements = 0 and captured > 0) as without_statement,
            count(*) filter (outcome = 'rolled_back') as rolled_back,
            coalesce(sum(captured), 0) as rows_captured, coalesce(sum(reported), 0) as rows_reported,
            count(*) filter ({differs}) as differing
            from ({per_transaction})""",  # noqa: S608
        of.values,
    )
    summary["mismatches"] = []
    if summary.pop("differing"):
        summary["mismatches"] = question.rows(
            f"select * exclude (second) from ({per_transaction}) where {differs} order by transaction_id limit 50",  # noqa: S608
            of.values,
        )
    return summary


def gateway(question: Question, of: Period) -> dict[str, int]:
    """Sessions that a gateway opened, how many of them the server's log tells of too, and what was done around it.

    A gateway's own sessions tell of no statement: there what is not its own work counts.

    `sessions_untold`: those of which the server's log tells statements and the gateway, at any time, none: those lines are left
    out of the population, since the gateway's record of them should stand there.
    """
    told = one(
        question,
        f"""with by_session as (
                select session, bool_or({GATEWAYS}) as told, bool_or({_LOGS}) as logged,
                    count(*) filter (list_contains(flags, 'seen_by_gateway')) as lines
                from {of.relation} where {of.condition} and session is not null group by session)
            select count(*) filter (told) as sessions, count(*) filter (told and logged) as sessions_logged, 0 as statements,
                coalesce(sum(lines), 0)::bigint as lines, count(*) filter (logged and not told) as sessions_beside,
                0 as sessions_untold
            from by_session""",  # noqa: S608 - our own conditions
        of.values,
    )
    if told["sessions"]:
        told["statements"] = _forwarded(question, of)
    if told["sessions"] and told["lines"]:
        told["sessions_untold"] = _untold(question, _audited(question, of))
    found = one(
        question,
        f"select count(*) as n from {of.relation} where {of.condition} and source = '{OWN}' "  # noqa: S608
        "and custody_type = 'finding' and custody_subject = 'around-the-gateway'",
        of.values,
    )
    return {**told, "around": found["n"]}


def _forwarded(question: Question, of: Period) -> int:
    """How many statements gateways let through."""
    passed = f"{GATEWAYS} and kind = 'query' and verdict in ('allowed', 'approved', 'masked')"
    sql = (
        "select count(*) as n from (select distinct session, coalesce(correlation_id, event_id) "  # noqa: S608
        f"from {of.relation} where {of.condition} and session is not null and {passed})"
    )
    return int(one(question, sql, of.values)["n"])


def _audited(question: Question, of: Period) -> list[str]:
    """The sessions of gateways of which the server's log tells statements; of those that a gateway opened for itself, beyond its work."""
    rows = question.rows(
        f"""with by_session as (
                select session, bool_or({GATEWAYS}) as told,
                    bool_or({GATEWAYS} and kind = 'session' and who_type = 'system' and starts_with(who_id, 'gateway ')) as own,
                    bool_or(list_contains(flags, 'seen_by_gateway') and emitted is null
                        and class in ('read', 'write', 'ddl', 'privilege', 'export')) as audited,
                    bool_or(list_contains(flags, 'seen_by_gateway') and emitted is null and not ({OWN_WORK})
                        and class in ('read', 'write', 'ddl', 'privilege', 'export')) as beyond_own
                from {of.relation} where {of.condition} and session is not null group by session)
            select session from by_session where told and case when own then beyond_own else audited end""",  # noqa: S608 - our own conditions
        of.values,
    )
    return [row["session"] for row in rows]


def _untold(question: Question, sessions: list[str]) -> int:
    """In how many of these sessions no gateway told of a statement, at any time."""
    if not sessions:
        return 0
    asked = (
        f"select distinct session from activity where {GATEWAYS} and kind = 'query' and session in (select unnest(?))"  # noqa: S608
    )
    return len(sessions) - len(question.rows(asked, [sessions]))


def canaries(question: Question, of: Period) -> dict[str, int]:
    """Marked statements of the period: how many came by change capture, by the server's log, and by both."""
    return one(
        question,
        f"""with seen as (
                select case when kind = 'custody' then json_extract_string(custody, '$.detail') else statement end as said,
                    kind = 'custody' as captured
                from {of.relation} where {of.condition} and (custody_type = 'canary' or list_contains(flags, 'canary'))),
            named as (
                select regexp_extract(said, {CANARY}) as name, bool_or(captured) as captured, bool_or(not captured) as logged
                from seen group by 1 having name <> '')
            select count(*) filter (captured) as captured, count(*) filter (logged) as logged,
                count(*) filter (captured and logged) as both, count(*) filter (captured and not logged) as not_logged,
                count(*) filter (logged and not captured) as not_captured from named""",  # noqa: S608
        of.values,
    )


FIELDS = {
    "user identification": "who_id is not null",
    "type of event": "op is not null",
    "date and time": "occurred_at is not null and occurred_at_quality in ('source', 'assumed_zone')",
    "success or failure": "verdict is not null and verdict <> 'unknown'",
    "origination": "client_ip is not null or client_app is not null",
    "affected object": "len(relations) > 0",
}


UNKNOWN = {
    "unattributed": "attribution = 'none'",
    "login_only": "attribution = 'db_login'",
    "claimed": "claimed",
    "false_claims": "list_contains(flags, 'suspected_forgery')",
    "opaque": "opaque",
    "reads_without_key": "kind = 'query' and op = 'read' and len(keys) = 0",
    "statements_not_whole": "kind = 'query' and statement_state is distinct from 'whole'",
    "outcome_unknown": "outcome = 'unknown'",
    "without_before": "kind = 'change' and len(before_values) = 0 and op in ('update', 'delete')",
    "changes_without_statement": "kind = 'change' and session is null",
    "writes_without_transaction": "kind = 'query' and class = 'write' and transaction_id is null",
    "without_address": "kind = 'query' and client_ip is null",
}
"""What evidence cannot show of an access."""


def by_source(question: Question, of: Period) -> list[dict[str, Any]]:
    """Of each source how many accesses it told (`n`), from which index to which, and of how many each of `FIELDS` and `UNKNOWN` holds."""
    tests = {f"f{n}": test for n, test in enumerate(FIELDS.values())} | UNKNOWN
    counts = ", ".join(f"count(*) filter ({test}) as {name}" for name, test in tests.items())
    return question.rows(
        f"select source, count(*) as n, min(index) as first, max(index) as last, {counts} from {of.relation} "  # noqa: S608
        f"where {of.condition} and {ACCESSES} group by source order by source",
        of.values,
    )


def fields(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """For each of the six fields of PCI DSS 10.2.2 how many accesses carry it: in all, and of each source (`by_source`)."""
    numbered = list(enumerate(FIELDS))
    return {
        "fields": [
            {"field": name, "known": sum(row[f"f{n}"] for row in told), "of": sum(row["n"] for row in told)}
            for n, name in numbered
        ],
        "fields_by_source": [
            {"source": row["source"], "of": row["n"], "known": [row[f"f{n}"] for n, _ in numbered]} for row in told
        ],
    }


def unknown(told: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """What this evidence cannot show, counted."""
    return {name: sum(row[name] for row in told) for name in UNKNOWN}


def committed(question: Question, of: Period, told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The log's own count commitments over the records of the period, and whether what a search finds bears them out."""
    accesses = sum(row["n"] for row in told)
    first, last = min((row["first"] for row in told), default=0), max((row["last"] for row in told), default=0)
    stated = _stated(question, first, last) if accesses else []
    held = _held(question, stated)
    differences = []
    for number, said in enumerate(stated):
        wanted: Counter[tuple[str | None, str | None]] = Counter(
            {(c.source_id, c.class_): c.count for c in said.counts}
        )
        for source, kind in sorted((wanted - held[number]) + (held[number] - wanted), key=str):
            differences.append(
                f"Records {said.first} to {said.last}: the log committed to {wanted[source, kind]:,} of source {source}, class "
                f"{kind}; {held[number][source, kind]:,} are found."
            )
    covered = max((int(said.last or -1) for said in stated), default=-1)
    not_yet = accesses
    if stated:
        beyond = f"select count(*) as n from {of.relation} where {of.condition} and {ACCESSES} and index > ?"  # noqa: S608
        not_yet = one(question, beyond, [*of.values, covered])["n"]
    return {
        "commitments": len(stated), "records": sum(said.count or 0 for said in stated), "accesses": accesses,
        "not_yet": not_yet, "differences": differences[:SAID_MOST], "differing": len(differences),
    }  # fmt: skip


def _stated(question: Question, first: int, last: int) -> list[Custody]:
    """The commitments of which the range meets these records, all of it within what is asked as of."""
    rows = question.rows(
        f"select custody from raw_events where source = '{OWN}' and custody_type = 'count_commitment' order by index"  # noqa: S608
    )
    said = [msgspec.json.decode(row["custody"], type=Custody) for row in rows]
    return [one for one in said if int(one.first or 0) <= last and int(one.last or -1) >= first]


def _held(question: Question, stated: list[Custody]) -> list[Counter[tuple[str | None, str | None]]]:
    """For each commitment what a search finds in its range."""
    found: list[Counter[tuple[str | None, str | None]]] = [Counter() for _ in stated]
    if not stated:
        return found
    spans = [{"number": n, "first": int(one.first or 0), "last": int(one.last or -1)} for n, one in enumerate(stated)]
    question.cursor.register("asked_counts", pa.Table.from_pylist(spans, schema=SPANS))
    for row in question.rows(
        "select a.number, e.source, e.class, count(*) as n from asked_counts a join raw_events e "
        "on e.index between a.first and a.last group by all"
    ):
        found[row["number"]][row["source"], row["class"]] = row["n"]
    return found
