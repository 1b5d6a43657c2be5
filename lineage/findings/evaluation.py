"""What the rules find in records: one question for all rules, one row for each finding, and its sentence."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from django.conf import settings

from lineage.engine import Question
from lineage.findings.rules import OWN, SEEN, Rule, Ruleset

MEMBERS_MOST = 50
COLUMNS = (
    "index, event_id, kind, class, op, command, occurred_at, received_at, environment, source, source_format, datasource, who_id, "
    "who_name, who_type, on_behalf_of, agent_id, agent_name, db_user, attribution, ticket, client_app, client_ip, session, "
    "transaction_id, verdict, relations, rows_returned, rows_affected, flags, redacted, opaque, weakens, policy, decision, "
    "decision_type, custody, custody_type, custody_subject, correlation_id, tags"
)
ACT = "coalesce(correlation_id, event_id)"
SECOND_RECORDS = f"""
told as (select session, op, count(distinct {ACT}) as n from acts where source_format = 'gateway' and kind = 'query'
    and verdict <> 'pending' and coalesce(policy, '') not like '%"effect":"block"%' group by session, op),
lines as (select session, op, {ACT} as act, row_number() over (partition by session, op order by min(index)) as place
    from acts where {SEEN} and (op <> 'read' or len(relations) > 0) group by session, op, act),
second as (select act from lines join told using (session, op) where place <= n)
"""  # noqa: S608 - our own conditions
"""A line of the server's log about a statement that the gateway told of is no second finding. Each line takes one of the
gateway's records of its session and operation; what the gateway did not tell of stays. (Reads that name no table are the
gateway's own questions, and so is all that sessions of its own, system's, do.)"""
ONCE = f"not ({SEEN} and (who_type = 'system' or (op = 'read' and len(relations) = 0) or {ACT} in (select act from second)))"  # noqa: S608
OWN_TOO = "custody_subject in ('count-mismatch', 'sign-off-late')"
"""What the store tells of itself that is no matter of one environment, and is judged all the same."""
JUDGED = f"(environment <> '{OWN}' or {OWN_TOO}) and not list_has_any(flags, ['claim', 'canary'])"
TOLD = """min(index) as index, max(index) as last_index, min(occurred_at) as occurred_at, max(received_at) as received_at,
any_value(who_id) as who_id, any_value(who_name) as who_name, any_value(who_type) as who_type, any_value(on_behalf_of) as on_behalf_of,
any_value(op) as op, any_value(command) as command, any_value(source) as source, any_value(environment) as environment,
any_value(datasource) as datasource, list_distinct(flatten(list(relations))) as relations,
max(coalesce(rows_affected, rows_returned)) as rows, count(*) as records, arg_max(custody, index) as custody,
any_value(session) as session, any_value(ticket) as ticket, any_value(kind) as kind, list_distinct(flatten(list(weakens))) as weakens,
any_value(policy) as policy, any_value(source_format) as source_format, any_value(db_user) as login,
list_sort(list_distinct(list(client_ip))) as addresses, count(distinct (client_ip, client_app)) as uses,
list_sort(list_distinct(flatten(list(tags)))) as tags"""
Row = dict[str, Any]


def evaluate(
    question: Question, rules: Ruleset, base: tuple[str, Sequence[Any]], judged: tuple[str, Sequence[Any]]
) -> list[Row]:
    """Findings among the records that meet `judged`, newest first; `base` is what conditions may look at besides.

    One row for each rule and what it is about, with `about` (a keyed digest that stays the same) and `members` (indexes).
    """
    asked, is_second = _possible(question, rules, base)
    if not asked:
        return []
    tests = ", ".join(f"case when {rules.condition(rule)} then '{rule.id}' end" for rule in asked)
    about = " ".join(f"when rule = '{rule.id}' then {rule.about}" for rule in asked if rule.about)
    abouts = f"coalesce(case {about} end, correlation_id, event_id)" if about else ACT
    second, once = (f"{SECOND_RECORDS},", ONCE) if is_second else ("", "true")
    rows = question.rows(
        f"""with acts as materialized (select {COLUMNS} from activity where {base[0]}), {second}
        ruled as (select *, unnest(list_filter([{tests}], lambda r: r is not null)) as rule from acts where {judged[0]} and {JUDGED})
        select rule, concat_ws(' ', environment, datasource, {abouts}) as about, {TOLD},
        list_sort(list(index))[1:{MEMBERS_MOST}] as members
        from ruled where {once} group by rule, about order by index desc, rule""",  # noqa: S608 - our own rules
        [*base[1], *judged[1]],
    )
    key = f"finding {settings.SECRET_KEY}".encode()
    for row in rows:
        # Keyed, since who guesses a person's id must not find it in the digest.
        row["about"] = hmac.new(key, row["about"].encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
    return rows


def _possible(question: Question, rules: Ruleset, base: tuple[str, Sequence[Any]]) -> tuple[list[Rule], bool]:
    """The rules that may find something among these records, and whether a gateway told of any of them too.

    One reading tells for all rules. Most find nothing in most looks, and some ask the whole log, or records of each other.
    """
    if not rules.on:
        return [], False
    needs = ", ".join(f"count(*) filter (where {rules.need(rule)}) > 0" for rule in rules.on)
    (found,) = question.rows(
        f"select [{needs}] as needed, count(*) filter (where {SEEN}) > 0 as seen from activity where {base[0]}",  # noqa: S608 - our own rules
        base[1],
    )
    return [rule for rule, is_met in zip(rules.on, found["needed"], strict=True) if is_met], found["seen"]


def told_again(
    question: Question, members: Iterable[tuple[int, str, Sequence[int]]], scope: tuple[str, Sequence[Any]]
) -> dict[int, Row]:
    """The same rows for findings that are kept: (number, rule, indexes of its records), as far as they are in scope."""
    places = [(number, rule, index) for number, rule, indexes in members for index in indexes]
    if not places:
        return {}
    listed = ", ".join(f"({int(number)}, '{rule}', {int(index)})" for number, rule, index in places)
    indexes = ", ".join(sorted({str(int(index)) for *_, index in places}))
    rows = question.rows(
        f"""select number, rule, {TOLD} from (select {COLUMNS} from activity where index in ({indexes}) and {scope[0]}) a
        join (values {listed}) m(number, rule, member) on a.index = m.member group by number, rule""",  # noqa: S608 - numbers and codes
        list(scope[1]),
    )
    return {row.pop("number"): row for row in rows}


def say(row: Row, rules: Ruleset) -> Row:
    """Completes a row: severity, title and sentence; what only the sentence needed goes."""
    rule = rules.rule(row["rule"])
    custody = msgspec.json.decode(row.pop("custody") or "{}")
    row |= {"severity": rule.severity, "sentence": rule.sentence.format(**_words(row, rule, rules, custody))}
    for name in ("weakens", "policy", "source_format", "kind", "login", "addresses", "uses"):
        row.pop(name, None)
    return row


def _words(row: Row, rule: Rule, rules: Ruleset, custody: Row) -> dict[str, Any]:
    weakens = row["weakens"] or []
    done = f"{row['who_name']} {', '.join(weakens)}." if row["kind"] == "query" else f"{'; '.join(weakens)}."
    again = f" It went on, and was told {row['records']} times." if rule.goes_on and row["records"] > 1 else ""
    return {
        "who": row["who_name"],
        "where": ", ".join(row["relations"] or ()) or "no table named",
        "behalf": row["on_behalf_of"] or "nobody known",
        "ticket": row["ticket"],
        "rows": f"{row['rows']:,}" if row["rows"] is not None else "an unknown number of",
        "by": _refuser(row["policy"], row["source_format"] == "gateway" and row["kind"] == "session"),
        "op": "a connection" if row["op"] == "session" else row["op"] or "a statement",
        "command": row["command"] or "a statement on",
        "environment": row["environment"],
        "source": custody.get("subject") if row["source"] == OWN else row["source"],
        "weakened": done if weakens else f"Capture was weakened: {custody.get('detail')}",
        "detail": (custody.get("detail") or custody.get("subject") or "no detail") + again,
        "login": row["login"],
        "addresses": ", ".join(row["addresses"] or ()),
        "uses": row["uses"],
        "tags": ", ".join(row["tags"] or ()),
        "retry_minutes": rules.values["retry_minutes"],
    }


def _refuser(policy: str | None, is_sign_in: bool) -> str:
    told = msgspec.json.decode(policy or "[]")
    rules = [p.get("rule") or p.get("id") for p in told if p.get("effect") in ("block", "limit")]
    return f"the guardrail {rules[0]}" if rules else "the gateway" if is_sign_in else "the database"
