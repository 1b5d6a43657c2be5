"""The relations, columns and classes that gateways declare, with the tags that people gave: as they are now."""

from __future__ import annotations

from collections.abc import Iterable

from lineage.access import Viewer
from lineage.models import DeclaredCatalog, Tag

Columns = dict[str, tuple[str, ...]]


class Catalogs:
    """Columns with their classes by database and `schema.relation`."""

    def __init__(self) -> None:
        self.relations: dict[str, dict[tuple[str, str], Columns]] = {}

    def knows(self, datasource: str | None) -> bool:
        return datasource in self.relations

    def schemas(self, datasource: str | None, relation: str) -> set[str]:
        """The schemas that have a relation of this name."""
        return {schema for schema, name in self.relations.get(datasource or "", {}) if name == relation}

    def classes(
        self, datasource: str | None, schema: str | None, relation: str | None, columns: Iterable[str]
    ) -> tuple[str, ...]:
        """The classes of these columns of a relation; `*` stands for all of them."""
        known = self.relations.get(datasource or "", {}).get((schema or "", relation or ""), {})
        named = set(known) if "*" in (wanted := set(columns)) else wanted
        return tuple(sorted({word for column in named for word in known.get(column, ())}))


def catalogs(viewer: Viewer) -> Catalogs:
    """What is declared of the databases in the viewer's scope. A tag stands before what a gateway found."""
    made = Catalogs()
    for one in DeclaredCatalog.objects.select_related("database").order_by("at"):
        datasource = one.database.datasource
        if viewer.datasources and datasource not in viewer.datasources:
            continue
        relations = made.relations.setdefault(datasource, {})
        for relation in one.relations:
            relations[relation["schema"], relation["name"]] = {
                column["name"]: tuple(column.get("classes", ())) for column in relation.get("columns", ())
            }
    for tag in Tag.objects.filter(datasource__in=list(made.relations)):
        schema, _, name = tag.relation.rpartition(".")
        columns = made.relations[tag.datasource].get((schema, name))
        if columns is not None:
            columns[tag.column] = tuple(tag.classes)
    return made
