"""The tables that reports freeze: the words for each, and the question that fills it. A kind freezes those that its tests read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from lineage import queries
from lineage.access import Viewer
from reports import controls
from reports.controls import Test

POPULATION = "population"
"""Every report freezes it: it stands in every count of completeness."""
Ask = Callable[..., dict[str, pa.Table]]
"""Called as (viewer, since, until, datasources=, environment=, as_of=); answers with one or more tables by name."""


class Frozen(NamedTuple):
    """One table: what a row is in the reader's words, and who fills it (None: `reports.evidence`, which narrows it)."""

    title: str
    ask: Ask | None


TABLES = {
    POPULATION: Frozen("The population: the accesses that the tests ran over (section 2)", None),
    "roles": Frozen("Role attributes and when they were in force", queries.control_facts),
    "owners": Frozen("Owners of tables and when they owned them", queries.control_facts),
    "decisions": Frozen("Requests and approvals on the tickets cited", queries.control_facts),
    "released": Frozen("Statements that ran after a decision, beside what was asked for", queries.released),
    "tags": Frozen("Columns with classes, and when they had them", queries.classified),
    "identities": Frozen("Whose login was whose, and who answers for it", queries.registered),
    "rights": Frozen("Rights on classified tables, and when they were held", queries.rights_held),
    "hours": Frozen("Each hour of each source: what came, and what is known to be amiss", queries.source_hours),
    "checkpoints": Frozen("The last checkpoint of each hour, with its consistency path", queries.checkpoint_chain),
}


def names_of(tests: Sequence[Test]) -> list[str]:
    """The tables to freeze for these tests, those of their derived tables among them, in the order in which they are listed."""
    read = {POPULATION}.union(*(test.tables for test in tests), *(table.tables for table in controls.tables_of(tests)))
    return [name for name in TABLES if name in read]


def asked(
    viewer: Viewer, tests: Sequence[Test], since: dt.datetime, until: dt.datetime, **scope: Any
) -> dict[str, pa.Table]:
    """The tables of these tests beside the population, each question asked once."""
    names = names_of(tests)
    found: dict[str, pa.Table] = {}
    for ask in dict.fromkeys(TABLES[name].ask for name in names):
        if ask is not None:
            found |= ask(viewer, since, until, **scope)
    return {name: table for name, table in found.items() if name in names}
