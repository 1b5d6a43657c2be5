"""What a statement would probably do, for whoever must approve it: estimated rows and the shape of its plan.

A side connection under the session's own account asks for EXPLAIN, never ANALYZE: read-only, with a time limit, and through the
extended protocol, which takes one command only. Conditions are left out of the plan's text: they hold literals.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from enforcement.gateway.errands import Errands
from enforcement.gateway.settings import Account, Database
from lineage import statements


class Question(NamedTuple):
    """What to explain: the text as the client sent it, a PREPARE among them, and how the session resolves names."""

    text: str
    has_parameters: bool
    search_path: tuple[str, ...]
    role: str


class Plan(NamedTuple):
    """`rows` None and `text` a reason where the database gives no plan."""

    rows: int | None
    text: str


async def explain(errands: Errands, database: Database, account: Account, question: Question) -> Plan:
    """The plan of one statement. Never raises for what the database answers: the reason becomes the text."""
    try:
        async with errands.session(database, account, "plan") as connection:
            await connection.execute("set default_transaction_read_only = on")
            await connection.execute(
                "select set_config('statement_timeout', %s, false), set_config('search_path', %s, false)",
                [f"{int(database.plan_seconds * 1000)}ms", ", ".join(_quoted(name) for name in question.search_path)],
            )
            if question.role != account.account:
                await connection.execute(sql.SQL("set role {}").format(sql.Identifier(question.role)))
            plan = await _plan(connection, question)
    except psycopg.Error as error:
        return Plan(None, f"No plan: {(error.diag.sqlstate or type(error).__name__)}.")
    return Plan(estimated_rows(plan), "\n".join(lines(plan)))


async def _plan(connection: psycopg.AsyncConnection[Any], question: Question) -> dict[str, Any]:
    prefix = "explain (format json) "
    command = question.text
    if question.has_parameters:
        # Values are not needed, and not sent: a generic plan is asked for.
        await connection.execute("set plan_cache_mode = force_generic_plan")
        is_made = any(part.prepares for part in statements.analyse_each(question.text))
        text = question.text if is_made else f"prepare touchstone_asked as {question.text}"
        await connection.execute(text.encode(), prepare=True)
        row = await (
            await connection.execute(
                "select name, cardinality(parameter_types) from pg_prepared_statements where from_sql"
            )
        ).fetchone()
        assert row is not None
        nulls = ", ".join(["null"] * row[1])
        command = f"execute {_quoted(row[0])}{f'({nulls})' if nulls else ''}"
    # `prepare` makes it the extended protocol: a second command in the text is an error, not run.
    cursor = await connection.execute((prefix + command).encode(), prepare=True)
    told = await cursor.fetchone()
    assert told is not None
    plan: dict[str, Any] = told[0][0]["Plan"]
    return plan


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def estimated_rows(plan: dict[str, Any]) -> int:
    """How many rows come out, or are written by any part, whichever is more."""
    inner = plan.get("Plans", [])
    rows = [int(plan.get("Plan Rows", 0)), *(estimated_rows(one) for one in inner if one["Node Type"] == "ModifyTable")]
    if plan["Node Type"] == "ModifyTable":
        rows += [int(one.get("Plan Rows", 0)) for one in inner if one.get("Parent Relationship") == "Outer"]
    rows += [estimated_rows(one) for one in inner if one.get("Parent Relationship") == "InitPlan"]
    return max(rows)


def lines(plan: dict[str, Any], depth: int = 0) -> list[str]:
    """One line a node: what it does, on what, with how many rows."""
    words = [plan.get("Operation", ""), plan["Node Type"], plan.get("Join Type", "")]
    on = plan.get("Relation Name") or plan.get("CTE Name") or plan.get("Function Name")
    index = f" using {plan['Index Name']}" if "Index Name" in plan else ""
    text = " ".join(word for word in words if word) + index + (f" on {on}" if on else "")
    inner = [line for one in plan.get("Plans", []) for line in lines(one, depth + 1)]
    return [f"{'  ' * depth}{text} (about {int(plan.get('Plan Rows', 0)):,} rows)", *inner]
