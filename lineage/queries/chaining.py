"""What hangs together with a record, a ticket, a session or a row: acts of its transactions, and decisions on what they cite."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from lineage import errors
from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries.ask import ACCESSES, Window, scoped
from lineage.queries.covering import coverage
from lineage.queries.people import bare
from lineage.queries.places import spellings

ACTS_MOST = 2_000
Start = Literal["record", "ticket", "session", "row"]

COLUMNS = (
    "index, event_id, kind, class, op, command, occurred_at, environment, datasource, source, source_format, who_id, who_name, "
    "who_type, on_behalf_of, agent_name, agent_run, db_user, attribution, attribution_index, claimed, purpose, ticket, session, "
    "transaction_id, outcome, verdict, relations, rows_affected, rows_returned, statement, redacted, statement_state, "
    "correlation_id, flags, key, approval_request"
)
DECISIONS = (
    "index, occurred_at, source, flags, ticket, approval_request, decision_type, decided_by, who_id, approval, purpose"
)


def chain(viewer: Viewer, start: Start, *of: str) -> dict[str, Any]:
    """Acts (`acts`, oldest first, at most 2,000 of `total`), the keys that statements name (`keys`), and `decisions` on what
    they cite. `of` is an index, a ticket or request, a session key, or database, table and row key. Raises NotFound.
    """
    scope, values = scoped(viewer, Window())
    with Question() as question:
        seed, seed_values, narrow = _seed(question, start, of, scope, values)
        # What a transaction did hangs together; a session and a ticket are whole by themselves.
        joined = (
            f"{seed} or (environment, datasource, transaction_id) in (select (environment, datasource, transaction_id) "  # noqa: S608
            f"from activity where {seed} and {scope} and transaction_id is not null)"
        )
        condition = f"{scope} and {ACCESSES} and ({joined})"
        condition_values = [*values, *seed_values, *seed_values, *values]
        acts = question.rows(
            f"select {COLUMNS} from activity where {condition} order by index limit {ACTS_MOST + 1}",  # noqa: S608
            condition_values,
        )
        total = len(acts)
        if total > ACTS_MOST:
            total = question.rows(f"select count(*) as n from activity where {condition}", condition_values)[0]["n"]  # noqa: S608
            acts = acts[:ACTS_MOST]
        acts = [act for act in acts if narrow is None or _of_row(act, *narrow)]
        cited = _cited(acts, start, of)
        seeds = question.rows(
            f"select {DECISIONS} from activity where kind = 'decision' and {scope} and {seed}",  # noqa: S608
            [*values, *seed_values],
        )
        cited |= {name for row in seeds for name in (row["ticket"], row["approval_request"]) if name}
        if not acts and not seeds:
            raise errors.NotFound
        return {
            "acts": [_shown(act, viewer) for act in acts],
            "total": total,
            "keys": _keys(question, [act["index"] for act in acts if act["kind"] == "query"]),
            "decisions": _decisions(question, sorted(cited), scope, values),
            "cited": sorted(cited),
            "as_of": question.size,
            "coverage": coverage(question, viewer, Window()),
        }


def _seed(
    question: Question, start: Start, of: tuple[str, ...], scope: str, values: list[Any]
) -> tuple[str, list[Any], tuple[set[int], str] | None]:
    """The condition of what is asked for; for a row also which changes are its own, and its table. Raises NotFound."""
    if start == "ticket":
        return "(ticket = ? or approval_request = ?)", [of[0], of[0]], None
    if start == "session":
        return "session = ?", [of[0]], None
    if start == "record":
        found = question.rows(
            f"select kind, ticket, approval_request, correlation_id, source from activity where index = ? and {scope}",  # noqa: S608
            [int(of[0]), *values],
        )
        if not found or found[0]["kind"] not in ("query", "change", "decision"):
            raise errors.NotFound(
                "There is no access and no decision of this number in your scope, so it has no lineage."
            )
        cited = found[0]["approval_request"] or found[0]["ticket"]
        if found[0]["kind"] == "decision" and cited:
            return "(ticket = ? or approval_request = ?)", [cited, cited], None
        # pgAudit writes a line for each table of one statement.
        return "(index = ? or (source = ? and correlation_id = ?))", [
            int(of[0]), found[0]["source"], found[0]["correlation_id"],
        ], None  # fmt: skip
    datasource, relation, key = of
    own = question.rows(
        f"select distinct index from touches where datasource = ? and list_contains(?, relation) and access = 'changed' "  # noqa: S608
        f"and key = ? and {scope} order by index desc limit {ACTS_MOST}",
        [datasource, spellings(relation), key, *values],
    )
    if not own:
        raise errors.NotFound("No change of this row is in your scope. Its page says who could have read it.")
    indexes = {row["index"] for row in own}
    return f"index in ({', '.join(map(str, sorted(indexes)))})", [], (indexes, relation)


def _of_row(act: dict[str, Any], indexes: set[int], relation: str) -> bool:
    """For one row: its own changes, and the writing statements of their transactions on its table."""
    if act["kind"] == "change":
        return act["index"] in indexes
    return act["class"] == "write" and bare(relation) in {bare(name) for name in act["relations"] or ()}


def _cited(acts: list[dict[str, Any]], start: Start, of: tuple[str, ...]) -> set[str]:
    found = {name for act in acts for name in (act["ticket"], act["approval_request"]) if name}
    return found | ({of[0]} if start == "ticket" and acts else set())


def _shown(act: dict[str, Any], viewer: Viewer) -> dict[str, Any]:
    redacted = act.pop("redacted")
    return act if viewer.sees_values else act | {"statement": redacted}


def _keys(question: Question, indexes: list[int]) -> list[dict[str, Any]]:
    """The rows that statements themselves name: by condition (parsed) or because the gateway saw them (reported)."""
    if not indexes:
        return []
    return question.rows(
        "select distinct index, relation, key, access, provenance from raw_touches where key is not null and relation is not null "  # noqa: S608
        f"and index in ({', '.join(map(str, indexes))}) order by index, relation, key limit {ACTS_MOST}"
    )


def _decisions(question: Question, cited: list[str], scope: str, values: list[Any]) -> list[dict[str, Any]]:
    """Decisions on tickets and requests that acts in scope cite. Who names no database is put in scope by what cites it."""
    if not cited:
        return []
    rows = question.rows(
        f"select {DECISIONS} from activity where kind = 'decision' and (list_contains(?, ticket) or list_contains(?, approval_request)) "  # noqa: S608
        f"and not list_contains(flags, 'unauthorised_assertion') and (({scope}) or datasource is null) "
        "order by occurred_at, index limit 200",
        [cited, cited, *values],
    )
    return [row | {"approval": msgspec.json.decode(row["approval"]) if row["approval"] else {}} for row in rows]
