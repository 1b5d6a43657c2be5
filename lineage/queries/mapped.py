"""Whose login is whose: what holds, what held, and who said so."""

from __future__ import annotations

from typing import Any

from django.db import connection

from lineage.access import Viewer, databases_of
from lineage.engine import Question

MOST = 1000
HISTORY_MOST = 200


def logins(viewer: Viewer, datasource: str = "", db_user: str = "") -> list[dict[str, Any]]:
    """Mappings of the viewer's databases by login, newest first: person (empty: nobody), from_at, to_at, holds."""
    if not viewer.reads_records:
        return []
    conditions, values = ["true"], list[Any]()
    allowed = databases_of(viewer)
    if allowed is not None:
        conditions.append("datasource = any(%s)")
        values.append(list(allowed))
    for column, value in (("datasource", datasource), ("db_user", db_user)):
        if value:
            conditions.append(f"{column} = %s")
            values.append(value)
    with connection.cursor() as cursor:
        cursor.execute(
            "select datasource, db_user, person_id, name, email, type, owner, as_of as from_at, "  # noqa: S608 - our own words
            "lead(as_of) over (partition by datasource, db_user order by as_of) as to_at from lineage_identity "
            f"where {' and '.join(conditions)} order by 1, 2, as_of desc limit {MOST}",
            values,
        )
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def login_history(viewer: Viewer) -> list[dict[str, Any]]:
    """Who said what of logins, newest first: index, at, by, login, transition, reason; refusals too."""
    if not viewer.reads_records:
        return []
    start = "mapping "
    allowed = databases_of(viewer)
    with Question(joined=False) as question:
        rows = question.rows(
            "select index, occurred_at as at, decided_by as by, decision_subject as subject, "  # noqa: S608 - our own words
            "json_extract_string(decision, '$.transition') as transition, purpose as reason from raw_events "
            "where source = 'touchstone' and decision_type = 'configuration' and starts_with(decision_subject, ?) "
            f"and {'true' if allowed is None else 'list_contains(?, datasource)'} order by index desc limit {HISTORY_MOST}",
            [start, *([] if allowed is None else [list(allowed)])],
        )
    return [{**row, "login": row.pop("subject").removeprefix(start)} for row in rows]
