"""The accesses of a closed period: how many there are, and all of them, or those that tests of control can be about."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from lineage import errors, instance
from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries.ask import ACCESSES, EVENT_COLUMNS, Window, scoped, searched

Members = Sequence[str]
"""Conditions on an access, in SQL over the columns of a population; each holds of some record of the act that is meant."""
SPAN = 50_000
LEFT_OUT = ("diff", "error_message", "redacted")
COLUMNS = ", ".join(
    "redacted as statement" if name == "statement" else name
    for name in EVENT_COLUMNS.split(", ")
    if name not in LEFT_OUT
)
"""Those of an event without row values and error texts, and with statements in their redacted form."""
ACT = """(coalesce(environment, ''), coalesce(datasource, ''), kind = 'query',
    if(kind = 'query', coalesce(correlation_id, event_id), coalesce(transaction_id, event_id)))"""
"""What an act is known by: the statement, or for row changes the transaction (docs/tests-of-controls.md, table acts)."""


def accesses(
    viewer: Viewer,
    since: dt.datetime,
    until: dt.datetime,
    datasources: list[str] | None = None,
    environment: str | None = None,
    as_of: int | None = None,
    q: str = "",
) -> list[dict[str, Any]]:
    """How many accesses a closed period has (`n`), by `datasource`, `kind` and `class`."""
    condition, values = _asked(viewer, Window(since, until, environment), datasources, q)
    with Question(as_of=as_of) as question:
        return question.rows(
            f"select datasource, kind, class, count(*) as n from activity where {condition} and {ACCESSES} "  # noqa: S608
            "group by all order by all",
            values,
        )


def population(
    viewer: Viewer,
    since: dt.datetime,
    until: dt.datetime,
    datasources: list[str] | None = None,
    environment: str | None = None,
    as_of: int | None = None,
    q: str = "",
    members: Sequence[Members] | None = None,
    given: Mapping[str, pa.Table] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Every access of a closed period that `q` matches, as Arrow in parts (`COLUMNS` and more), in the order of the log.

    Row values and statement literals stay out: a file that is mailed should hold no more than its tests need.
    With `members`, tests' own words and never a reader's: only the acts that one of them means, with every other access of
    their transactions. They may name the tables `given`. Raises StoreUnavailable when the log does not reach `as_of`.
    """
    condition, values = _asked(viewer, Window(since, until, environment), datasources, q)
    condition = f"{condition} and {ACCESSES}"
    with Question(as_of=as_of) as question:
        if as_of is not None and question.size != as_of:
            raise errors.StoreUnavailable(
                "The log could not be read at the size of its checkpoint. Try again in a moment."
            )
        spans = [(0, question.size)]
        if members is not None:
            with instance.on_all_cores(question.cursor):
                spans = _meant(question, condition, values, members, given or {})
            # Those meet the condition.
            condition, values = "index in (select index from meant)", []
        for span in spans:
            # A span at a time: to sort all that is meant at once takes more memory than a question has.
            yield from question.batches(
                f"select {COLUMNS}, who_email, roles, columns, masked_columns, position, sequence, source_format "  # noqa: S608
                f"from activity where {condition} and index between ? and ? order by index",
                [*values, *span],
            )


def _asked(viewer: Viewer, window: Window, datasources: list[str] | None, q: str) -> tuple[str, list[Any]]:
    condition, values = searched(viewer, q, window, "event") if q else scoped(viewer, window)
    if datasources:
        return f"{condition} and list_contains(?, datasource)", [*values, datasources]
    return condition, values


def _meant(
    question: Question, condition: str, values: list[Any], members: Sequence[Members], given: Mapping[str, pa.Table]
) -> list[tuple[int, int]]:
    """Makes the table `meant` of the records of acts that are meant, and of transactions that such acts were part of.

    An act is meant as a whole, and what else its transaction did says what is counted of it: so acts first, then theirs. The
    answer is where they lie: first and last index of each `SPAN` of them, at least one.
    """
    every = sorted({each for alternative in members for each in alternative}) or ["false"]
    meant = " or ".join(
        "(" + " and ".join(f"bool_or(coalesce({each}, false))" for each in alternative) + ")" for alternative in members
    )
    for name, table in given.items():
        question.cursor.register(f"given_{name}", table)
    # Named here alone: the views of a question do not see them.
    named = "".join(f"{name} as (from given_{name}), " for name in given)
    question.rows(
        f"create temp table of_acts as with {named}act as (select {ACT} as act from activity "  # noqa: S608
        f"where {condition} and ({' or '.join(f'({each})' for each in every)}) group by all having {meant or 'false'}) "
        f"select index, datasource, transaction_id from activity where {condition} and {ACT} in (from act)",
        [*values, *values],
    )
    of_transactions = "select distinct (datasource, transaction_id) from of_acts where transaction_id is not null"
    question.rows(
        "create temp table meant as select index from of_acts union select index from activity "  # noqa: S608
        f"where {condition} and transaction_id is not null and (datasource, transaction_id) in ({of_transactions})",
        values,
    )
    in_order = f"select index, (row_number() over (order by index) - 1) // {SPAN} as span from meant"  # noqa: S608
    found = question.rows(
        f"select min(index) as first, max(index) as last from ({in_order}) group by span order by span"  # noqa: S608
    )
    return [(each["first"], each["last"]) for each in found] or [(0, 0)]
