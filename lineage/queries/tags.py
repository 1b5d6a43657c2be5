"""The classes of columns, by whom they were given, and what they were before."""

from __future__ import annotations

from typing import Any

import msgspec
from django.db import connection

from lineage import tagged, tagging
from lineage.access import Viewer, databases_of, holds_database
from lineage.engine import Question

HISTORY_MOST = 200


def tags(viewer: Viewer, datasource: str | None = None, relation: str | None = None) -> list[dict[str, Any]]:
    """Every classified column in the viewer's databases: datasource, relation, column, classes, by (None: a gateway), at.

    `relation` as `schema.table`, or bare. Empty for a viewer who reads no records.
    """
    if not viewer.reads_records:
        return []
    conditions, values = ["true"], list[Any]()
    allowed = databases_of(viewer)
    if allowed is not None:
        conditions.append("datasource = any(%s)")
        values.append(list(allowed))
    if datasource is not None:
        conditions.append("datasource = %s")
        values.append(datasource)
    if relation is not None:
        conditions.append("%s in (relation, split_part(relation, '.', -1))")
        values.append(relation)
    with connection.cursor() as cursor:
        cursor.execute(
            f'select datasource, relation, "column", classes, by, at from ({tagged.COLUMNS}) c '  # noqa: S608 - our own words
            f"where {' and '.join(conditions)} order by 1, 2, 3",
            values,
        )
        rows = cursor.fetchall()
    return [
        {"datasource": d, "relation": r, "column": c, "classes": _opened(k), "by": by, "at": at}
        for d, r, c, k, by, at in rows
    ]


def _opened(value: Any) -> list[str]:
    return list(msgspec.json.decode(value) if isinstance(value, str | bytes) else value)


def tags_of(viewer: Viewer, datasource: str, relation: str) -> dict[str, dict[str, Any]]:
    """The classified columns of one table by name: `{classes, by, at}`."""
    return {row["column"]: row for row in tags(viewer, datasource, relation)}


def tag_history(viewer: Viewer, datasource: str, relation: str) -> list[dict[str, Any]]:
    """Who changed the classes of a table's columns, newest first: index, at, by, column, transition, reason."""
    if not viewer.reads_records or not holds_database(viewer, datasource):
        return []
    start = tagging.subject(datasource, relation, "")
    with Question(joined=False) as question:
        rows = question.rows(
            "select index, occurred_at as at, decided_by as by, decision_subject as subject, "  # noqa: S608 - a number
            "json_extract_string(decision, '$.transition') as transition, purpose as reason from raw_events "
            "where source = 'touchstone' and decision_type = 'configuration' and starts_with(decision_subject, ?) "
            f"and datasource = ? order by index desc limit {HISTORY_MOST}",
            [start, datasource],
        )
    return [{**row, "column": row.pop("subject").removeprefix(start)} for row in rows]
