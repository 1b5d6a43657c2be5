"""How many records came after a report was made and fall into its period (docs/reports.md)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec
import pyarrow as pa

from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries.ask import ACCESSES, OWN

TIME = pa.timestamp("us", tz="UTC")
PERIOD = [("number", pa.int64()), ("since", TIME), ("until", TIME)]
PLACE = [("environment", pa.string()), ("datasources", pa.list_(pa.string()))]
SPANS = pa.schema([*PERIOD, *PLACE, ("from_index", pa.int64())])


class Span(msgspec.Struct, frozen=True):
    """What is asked of: a period of one environment (empty: all) and of databases (none: all), in records from an index on."""

    number: int
    since: dt.datetime
    until: dt.datetime
    environment: str
    datasources: tuple[str, ...]
    from_index: int


def late(viewer: Viewer, spans: Sequence[Span]) -> tuple[dict[int, int], int]:
    """By number how many accesses and reported decisions of each span there are (none: it is left out), and the log's size."""
    condition, values = viewer.scope()
    with Question() as question:
        if not spans:
            return {}, question.size
        rows = [msgspec.structs.asdict(span) | {"datasources": list(span.datasources)} for span in spans]
        question.cursor.register("asked_late", pa.Table.from_pylist(rows, schema=SPANS))
        found = question.rows(
            f"""with came as (
                select index, occurred_at, environment, datasource from activity
                where index >= ? and {condition} and (({ACCESSES}) or (kind = 'decision' and source <> '{OWN}')))
            select number, count(*) as n from asked_late a join came e
            on e.index >= a.from_index and e.occurred_at >= a.since and e.occurred_at < a.until
            and (a.environment = '' or e.environment = a.environment)
            and (len(a.datasources) = 0 or list_contains(a.datasources, e.datasource)) group by number""",  # noqa: S608
            [min(span.from_index for span in spans), *values],
        )
        return {row["number"]: row["n"] for row in found}, question.size
