"""Sources of one database held against each other: exact by transaction id and canary, never by time or text.

Only what both sides must have told by now is judged: up to the time (of the database's clock) that every source of it has
passed, and not before a grace time after the last record of it arrived. What cannot be judged is not judged.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from lineage import coverage
from lineage.engine import Question
from lineage.health import states
from lineage.health.states import Snapshot

MARGIN = dt.timedelta(seconds=5)
"""By how much the times of two records that were written at once may differ."""
REACH = dt.timedelta(days=3)
"""How long a transaction may take; beyond, its 32-bit id may be another's."""
MOST = 20
UNCERTAIN = "^(ROLLBACK|ABORT|SAVEPOINT|RELEASE|PREPARE TRANSACTION)"
LINES = "kind = 'query' and list_contains(?, source) and not list_contains(flags, 'claim')"


class Finding(msgspec.Struct, frozen=True):
    """One finding for the log; `first` is what it is about."""

    rule: str
    first: str
    detail: str
    count: int | None = None


class Side(msgspec.Struct):
    """One database as seen by its sources, and the window that is to be judged.

    A transaction is judged once: when its database time is at most `told_to` and its last record arrived by `settled_to`,
    and that was not so in the window before.
    """

    environment: str
    datasource: str
    logs: list[str]
    captures: list[str]
    told: list[Snapshot]
    told_before: dt.datetime
    settled_before: dt.datetime
    told_to: dt.datetime
    settled_to: dt.datetime

    def place(self) -> tuple[str, list[Any]]:
        return "environment = ? and datasource = ?", [self.environment, self.datasource]

    def fresh(self, at: str = "occurred_at", received: str = "received_at") -> tuple[str, list[Any]]:
        """The condition of what is judged in this window."""
        return (
            f"{at} <= ? and {received} <= ? and ({at} > ? or {received} > ?)",
            [self.told_to, self.settled_to, self.told_before, self.settled_before],
        )

    def is_fresh(self, snapshot: Snapshot) -> bool:
        """The same for a snapshot."""
        is_due = snapshot.at <= self.told_to and snapshot.arrived_at <= self.settled_to
        return is_due and (snapshot.at > self.told_before or snapshot.arrived_at > self.settled_before)


def check(question: Question, side: Side) -> Iterator[Finding]:
    """Everything that one database's sources contradict each other in."""
    if side.logs and side.captures:
        yield from most(side, "rows-not-captured", list(_not_captured(question, side)))
        yield from most(side, "changes-without-statement", list(_without_statement(question, side)))
        yield from _canaries(question, side)
    yield from _written_again(question, side)


def most(side: Side, rule: str, found: list[Finding]) -> Iterator[Finding]:
    """Each of the first findings of a rule, and the rest as one."""
    yield from found[:MOST]
    if len(found) > MOST:
        rest = found[MOST:]
        detail = f"{len(rest)} more transactions of {side.datasource}, the last of them {rest[-1].first}."
        yield Finding(rule, rest[0].first, detail, sum(f.count or 0 for f in rest))


def _not_captured(question: Question, side: Side) -> Iterator[Finding]:
    """Committed statements with rows, of tables that change capture covers, in transactions without any change.

    Only statements that stand for themselves: what a function did may have been undone inside it. A transaction with an
    error, a savepoint or a rollback is not judged, nor an open one.
    """
    place, values = side.place()
    fresh, window = side.fresh("told_at", "arrived_at")
    writes = (
        "class = 'write' and op in ('insert', 'update', 'delete') and rows_affected > 0 and verdict = 'allowed' "
        "and correlation_id like '%.1'"
    )
    rows = question.rows(
        f"""with line as (
            select * from activity where {place} and {LINES} and transaction_id is not null and occurred_at > ?),
        gathered as (
            select transaction_id, any_value(database) as database, max(occurred_at) as told_at, max(received_at) as arrived_at,
                bool_or(command in ('BEGIN', 'START TRANSACTION')) as begun, bool_or(command in ('COMMIT', 'END')) as ended,
                bool_or(verdict in ('error', 'blocked') or regexp_matches(command, '{UNCERTAIN}')) as doubtful,
                (sum(rows_affected) filter ({writes}))::bigint as rows_written, any_value(who_name) as who,
                list_distinct(flatten(list(relations) filter ({writes}))) as relations,
                list_distinct(list(op) filter ({writes})) as ops
            from line group by transaction_id)
        select * from gathered where rows_written > 0 and not coalesce(doubtful, false) and (not begun or ended) and {fresh}
        and transaction_id not in (
            select transaction_id from activity where kind = 'change' and {place} and transaction_id is not null and occurred_at > ?)
        order by told_at""",  # noqa: S608 - our own conditions
        [*values, side.logs, side.told_before - REACH, *window, *values, side.told_before - REACH],
    )
    seen = _captured_tables(question, side) if rows else set()
    for row in rows:
        known = states.ever(side.told, row["told_at"], row["database"] or "")
        covered = [r for r in row["relations"] if any(states.captures(s, r, row["ops"], seen) for s in known)]
        if covered and any(states.logs_transactions(state, "write", "misc") for state in known):
            detail = (
                f"Transaction {row['transaction_id']}: {row['who']} wrote {row['rows_written']} rows of {', '.join(covered)}, as the "
                "server's log says; change capture told of none."
            )
            yield Finding("rows-not-captured", row["transaction_id"], detail, row["rows_written"])


def _captured_tables(question: Question, side: Side) -> set[str]:
    """The tables of which change capture brought anything."""
    place, values = side.place()
    rows = question.rows(
        f"select distinct unnest(relations) as name from raw_events where kind = 'change' and {place} "  # noqa: S608
        "and list_contains(?, source)",
        [*values, side.captures],
    )
    return {row["name"] for row in rows}


def _without_statement(question: Question, side: Side) -> Iterator[Finding]:
    """Captured changes in transactions of which no line is in the server's log, where pgAudit should have written one."""
    place, values = side.place()
    fresh, window = side.fresh("told_at", "arrived_at")
    rows = question.rows(
        f"""with gathered as (
            select transaction_id, any_value(database) as database, max(occurred_at) as told_at, max(received_at) as arrived_at,
                count(*) as changes, list_distinct(flatten(list(relations))) as relations
            from activity where kind = 'change' and {place} and list_contains(?, source) and transaction_id is not null
            and op is distinct from 'snapshot' and (occurred_at > ? or received_at > ?) group by transaction_id)
        select * from gathered where {fresh} and transaction_id not in (
            select transaction_id from activity where {place} and {LINES} and transaction_id is not null and occurred_at > ?)
        order by told_at""",  # noqa: S608
        [*values, side.captures, side.told_before, side.settled_before, *window, *values, side.logs, side.told_before - REACH],
    )  # fmt: skip
    for row in rows:
        known = states.ever(side.told, row["told_at"], row["database"] or "")
        if any(states.logs_transactions(state, "write") for state in known):
            detail = (
                f"Transaction {row['transaction_id']} changed {row['changes']} rows of {', '.join(row['relations'])}; the server's log, "
                "which is read beyond it, has no statement of it: who did it is unknown."
            )
            yield Finding("changes-without-statement", row["transaction_id"], detail, row["changes"])


def _canaries(question: Question, side: Side) -> Iterator[Finding]:
    """Canaries that change capture brought and the server's log did not, where it brought any before.

    A log that is read from its end on begins later than change capture: what went before its first canary is not judged.
    """
    place, values = side.place()
    fresh, window = side.fresh("c.occurred_at", "c.received_at")
    seen = f"select statement from raw_events where {place} and {LINES} and list_contains(flags, 'canary')"  # noqa: S608
    rows = question.rows(
        f"""select json_extract_string(c.custody, '$.detail') as name, occurred_at from raw_events c
        where custody_type = 'canary' and {place} and list_contains(?, source) and {fresh}
        and exists ({seen} and occurred_at <= c.occurred_at)
        and not exists ({seen} and contains(statement, json_extract_string(c.custody, '$.detail')))""",  # noqa: S608
        [*values, side.captures, *window, *values, side.logs, *values, side.logs],
    )
    for row in rows:
        detail = (
            f"Canary {row['name']} went through the database at {row['occurred_at']:%Y-%m-%d %H:%M:%S} UTC: change capture brought it, "
            "the server's log did not."
        )
        yield Finding("canary-missing", str(row["name"])[:100], detail)


def _written_again(question: Question, side: Side) -> Iterator[Finding]:
    """Catalog rows that say the same as before, written by a transaction that nobody told of."""
    inside = [
        (before, after)
        for before, after in itertools.pairwise(side.told)
        if before.database == after.database and side.is_fresh(after)
    ]
    for before, after in inside:
        known = states.ever(side.told, after.at, after.database)
        logged = bool(side.logs) and any(states.logs_transactions(s, "ddl", "role", "misc") for s in known)
        for old, new in coverage.written_again(before.state.marks, after.state.marks):
            table_alone = new.object.startswith("table ") and " in publication " not in new.object
            if not logged and (table_alone or new.object == "configuration"):
                continue  # a repeated GRANT writes a table's row too, a reload reads the configuration: cannot tell
            if logged and _told(question, side, before, after, new.version, new.object == "configuration"):
                continue
            detail = (
                f"{new.object} was written between {before.at:%H:%M:%S} and {after.at:%H:%M:%S} UTC and says the same as before: it "
                "may have been changed and changed back. No statement of it was told."
            )
            yield Finding("capture-weakened", new.object[:500], f"{detail} Version {old.version} → {new.version}.")


def _told(
    question: Question, side: Side, before: Snapshot, after: Snapshot, version: str, is_configuration: bool
) -> bool:
    """Whether the log tells of the transaction that wrote a row, or of the reading of the configuration."""
    place, values = side.place()
    if is_configuration:
        rows = question.rows(
            f"select 1 from raw_events where {place} and list_contains(?, source) and custody_type = 'alarm' "  # noqa: S608
            "and occurred_at between ? and ? limit 1",
            [*values, side.logs, before.at - MARGIN, after.at + MARGIN],
        )
    else:
        rows = question.rows(
            f"select 1 from activity where {place} and {LINES} and transaction_id = ? and occurred_at > ? limit 1",  # noqa: S608
            [*values, side.logs, version, after.at - REACH],
        )
    return bool(rows)


def horizon(told: Sequence[dt.datetime | None], margin: dt.timedelta = MARGIN) -> dt.datetime | None:
    """Up to when, by the database's clock, every one of its sources has told."""
    known = [moment for moment in told if moment is not None]
    return min(known) - margin if known and len(known) == len(told) else None
