"""The inventory of databases and the owners of databases and tables, as they were said last, within a viewer's scope."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from django.utils import timezone

from lineage.access import Viewer
from lineage.models import InventoryEntry, Owner


def inventory(viewer: Viewer, at: dt.datetime | None = None) -> list[dict[str, Any]]:
    """Every database that the organisation says it has, as said last: datasource, environment, system, state, note, as_of."""
    if not viewer.reads_records:
        return []
    known = InventoryEntry.objects.filter(as_of__lte=at or timezone.now())
    if viewer.datasources:
        known = known.filter(datasource__in=viewer.datasources)
    if viewer.environments:
        known = known.filter(environment__in=viewer.environments)
    newest = known.order_by("datasource", "environment", "-as_of").distinct("datasource", "environment")
    return [dict(row) for row in newest.values("datasource", "environment", "system", "state", "note", "as_of")]


def owners(viewer: Viewer, datasource: str, relation: str | None = None) -> list[dict[str, Any]]:
    """Who answers for a database, or for a table of it (then the database's owners only where the table has none)."""
    if not viewer.reads_records or (viewer.datasources and datasource not in viewer.datasources):
        return []
    for place in dict.fromkeys([relation or "", ""]):
        said = Owner.objects.filter(datasource=datasource, relation=place, as_of__lte=timezone.now())
        newest = said.order_by("-as_of").first()
        if newest:
            rows = said.filter(as_of=newest.as_of).order_by("name")
            return [dict(row) for row in rows.values("person_id", "name", "email", "relation", "as_of")]
    return []


def owners_of(viewer: Viewer, datasources: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """The same of several databases themselves."""
    asked = [name for name in datasources if not viewer.datasources or name in viewer.datasources]
    if not viewer.reads_records:
        return {}
    said = Owner.objects.filter(datasource__in=asked, relation="", as_of__lte=timezone.now()).order_by("name")
    found: dict[str, list[dict[str, Any]]] = {}
    for row in said.values("datasource", "person_id", "name", "email", "relation", "as_of"):
        found.setdefault(row["datasource"], []).append(
            {name: value for name, value in row.items() if name != "datasource"}
        )
    return {
        name: [row for row in rows if row["as_of"] == max(each["as_of"] for each in rows)]
        for name, rows in found.items()
    }
