"""What hangs together with a record, a ticket, a session or a row: acts of its transactions, and decisions on what they cite."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from lineage import errors
from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes
from lineage.extracts.layers import Term
from lineage.extracts.looking import Lookup, by_time
from lineage.extracts.postings import NOTHING
from lineage.queries import candidates, sought
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


SEEDS = "index, kind, environment, datasource, transaction_id, ticket, approval_request"
Find = Callable[[Lookup], Indexes]


class Seed(NamedTuple):
    """What is asked for: its records by a condition, and by look-ups where these find them all (beside others).

    For a row also which changes are its own, and its table.
    """

    condition: str
    values: list[Any]
    find: Find | None
    narrow: tuple[set[int], str] | None = None


def chain(viewer: Viewer, start: Start, *of: str) -> dict[str, Any]:
    """Acts (`acts`, oldest first, at most 2,000 of `total`), the keys that statements name (`keys`), and `decisions` on what
    they cite. `of` is an index, a ticket or request, a session key, or database, table and row key. Raises NotFound.
    """
    scope, values = scoped(viewer, Window())
    with Question() as question:
        seed = _seed(question, viewer, start, of)
        seeds = _asked(question, seed.find, SEEDS, f"{scope} and {seed.condition}", [*values, *seed.values])
        # What a transaction did hangs together; a session and a ticket are whole by themselves.
        indexes = sorted({row["index"] for row in seeds} | _of_transactions(question, viewer, seeds))
        acts, total = _acts(question, indexes)
        acts = [act for act in acts if seed.narrow is None or _of_row(act, *seed.narrow)]
        decided = [row for row in seeds if row["kind"] == "decision"]
        cited = _cited(acts, start, of)
        cited |= {name for row in decided for name in (row["ticket"], row["approval_request"]) if name}
        if not acts and not decided:
            raise errors.NotFound
        return {
            "acts": [_shown(act, viewer) for act in acts],
            "total": total,
            "keys": _keys(question, [act["index"] for act in acts if act["kind"] == "query"]),
            "decisions": _decisions(question, viewer, sorted(cited)),
            "cited": sorted(cited),
            "as_of": question.size,
            "coverage": coverage(question, viewer, Window()),
        }


def _asked(
    question: Question, find: Find | None, columns: str, condition: str, values: Sequence[Any], tail: str = "",
    relation: str = "activity",
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of the records that look-ups find, or of all."""
    found = candidates.told(question, find) if find is not None else None
    with sought.among(question, found) if found is not None else contextlib.nullcontext("true") as few:
        return question.rows(f"select {columns} from {relation} where {few} and {condition} {tail}", values)  # noqa: S608


def _by(viewer: Viewer, terms: Sequence[Term]) -> Find:
    """The records in scope that have one of these terms."""
    asked = candidates.wanted(viewer, Window())
    return lambda look: look.newest(terms, asked, candidates.ALL) if asked else NOTHING


def _of_transactions(question: Question, viewer: Viewer, seeds: Sequence[dict[str, Any]]) -> set[int]:
    """The records in scope of the transactions that these are of."""
    named = [(row["environment"], row["datasource"], row["transaction_id"]) for row in seeds]
    those = {one for one in named if None not in one}
    if not those:
        return set()
    find = _by(viewer, [by_time("acted", *place) for place in sorted({one[1:] for one in those})])
    scope, values = scoped(viewer, Window())
    rows = _asked(
        question, find, "index, environment, datasource, transaction_id",
        f"{scope} and transaction_id in (select unnest(?))", [*values, sorted({one[2] for one in those})],
    )  # fmt: skip
    return {row["index"] for row in rows if (row["environment"], row["datasource"], row["transaction_id"]) in those}


def _acts(question: Question, indexes: list[int]) -> tuple[list[dict[str, Any]], int]:
    """The first accesses among these records, and how many there are."""

    def these(look: Lookup) -> Indexes:
        return np.array(indexes, np.int64)

    condition = f"index in (select unnest(?)) and {ACCESSES}"
    acts = _asked(question, these, COLUMNS, condition, [indexes], f"order by index limit {ACTS_MOST + 1}")
    if len(acts) <= ACTS_MOST:
        return acts, len(acts)
    return acts[:ACTS_MOST], _asked(question, these, "count(*) as n", condition, [indexes])[0]["n"]


def _seed(question: Question, viewer: Viewer, start: Start, of: tuple[str, ...]) -> Seed:
    """Raises NotFound where it is of something else than an access, a decision, or a change of a row."""
    if start == "ticket":
        return _of_ticket(viewer, of[0])
    if start == "session":
        return Seed("session = ?", [of[0]], _by(viewer, [by_time("session", of[0])]))
    scope, values = scoped(viewer, Window())
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
            return _of_ticket(viewer, cited)
        # pgAudit writes a line for each table of one statement.
        condition = "(index = ? or (source = ? and correlation_id = ?))"
        return Seed(condition, [int(of[0]), found[0]["source"], found[0]["correlation_id"]], None)
    datasource, relation, key = of
    own = _asked(
        question, _by(viewer, [by_time("row", datasource, name, "changed", key) for name in spellings(relation)]),
        "distinct index", f"datasource = ? and list_contains(?, relation) and access = 'changed' and key = ? and {scope}",
        [datasource, spellings(relation), key, *values], f"order by index desc limit {ACTS_MOST}", "touches",
    )  # fmt: skip
    if not own:
        raise errors.NotFound("No change of this row is in your scope. Its page says who could have read it.")
    indexes = {row["index"] for row in own}
    some = np.array(sorted(indexes), np.int64)
    return Seed("index in (select unnest(?))", [some.tolist()], lambda look: some, (indexes, relation))


def _of_ticket(viewer: Viewer, cited: str) -> Seed:
    find = _by(viewer, [by_time(kind, cited) for kind in ("cited", "leave")])
    return Seed("(ticket = ? or approval_request = ?)", [cited, cited], find)


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


def _decisions(question: Question, viewer: Viewer, cited: list[str]) -> list[dict[str, Any]]:
    """Decisions on tickets and requests that acts in scope cite. Who names no database is put in scope by what cites it."""
    if not cited:
        return []
    scope, values = scoped(viewer, Window())
    rows = _asked(
        question, lambda look: candidates.decisions(look, viewer, cited)[0], DECISIONS,
        "kind = 'decision' and (list_contains(?, ticket) or list_contains(?, approval_request)) "
        f"and not list_contains(flags, 'unauthorised_assertion') and (({scope}) or datasource is null)",
        [cited, cited, *values], "order by occurred_at, index limit 200",
    )  # fmt: skip
    return [row | {"approval": msgspec.json.decode(row["approval"]) if row["approval"] else {}} for row in rows]
