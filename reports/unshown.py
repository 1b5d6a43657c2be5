"""What this evidence cannot show, counted: in all accesses, and among the items that the tests looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lineage import engine
from reports.evidence import Evidence
from reports.outcomes import Outcome

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
    (
        "writes_without_transaction",
        "writing statements without a transaction number: no row change can be joined to them",
    ),
    (
        "without_address",
        "statements without a network address: sent from the server itself, or the source does not tell",
    ),
    ("superuser", "accesses by logins that can switch the recording off, or write the server's files (superuser)"),
)
"""By the name of the count: what it is of. In the order in which they are printed."""
CONDITIONS = {
    "unattributed": "attribution = 'none'",
    "login_only": "attribution = 'db_login'",
    "claimed": "claimed",
    "false_claims": "list_contains(flags, 'suspected_forgery')",
    "opaque": "opaque",
    "statements_not_whole": "kind = 'query' and statement_state is distinct from 'whole'",
    "outcome_unknown": "outcome = 'unknown'",
    "changes_without_statement": "kind = 'change' and session is null",
    "writes_without_transaction": "kind = 'query' and class = 'write' and transaction_id is null",
    "without_address": "kind = 'query' and client_ip is null",
}
"""Those that the frozen population can be asked for: the rest needs values that stay in the log."""
SUPERUSER = """p.index in (select s.index from population s join roles r on r.role = s.db_user and r.datasource = s.datasource
    and s.occurred_at >= r.from_at and s.occurred_at < r.to_at where list_contains(r.attributes, 'superuser'))"""


def lines(evidence: Evidence, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One line each: `count` of accesses, `items` of the tests among them (None: it cannot be told), and `words`."""
    asked = CONDITIONS | ({"superuser": SUPERUSER} if "roles" in evidence.tables else {})
    counted = dict(evidence.completeness["unknown"])
    if "superuser" in asked:
        counted |= _count(evidence, f"select count(*) as superuser from population p where {SUPERUSER}")  # noqa: S608
    items = [_items(evidence, outcome, asked) for outcome in outcomes]
    return [
        {"count": counted[name], "items": sum(one[name] for one in items) if name in asked else None, "words": words}
        for name, words in UNKNOWN
        if name in counted
    ]


def _items(evidence: Evidence, outcome: Outcome, asked: Mapping[str, str]) -> dict[str, int]:
    """How many items of one test rest on a record of which each of these holds."""
    # One number for all that holds of a record, and then of an item: a set of items for each would take too much memory.
    held = " | ".join(f"if({condition}, {1 << place}, 0)" for place, condition in enumerate(asked.values()))
    counts = ", ".join(f"count(*) filter (held & {1 << place} <> 0) as {name}" for place, name in enumerate(asked))
    sql = (
        f"with said as (select index, {held} as held from population p where held <> 0) "  # noqa: S608 - our own words
        f"select {counts} from (select item, bit_or(held) as held from (select item, unnest(indexes) as index from items "
        "where tested) join said using (index) group by item)"
    )
    return _count(evidence, sql, {"items": outcome.answer.path})


def _count(evidence: Evidence, sql: str, more: Mapping[str, Any] | None = None) -> dict[str, int]:
    row: dict[str, int] = engine.over({**evidence.tables, **(more or {})}, sql).to_pylist()[0]
    return row
