"""Statements that cannot be masked, and are refused: they would show protected values elsewhere, or carry them there."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from enforcement.gateway.catalog import Catalog
from enforcement.gateway.disguises import is_wanted
from enforcement.gateway.effects import JudgedPart
from lineage.statements import outputs
from lineage.statements.cache import Cache
from lineage.statements.outputs import DOCUMENT, PART, Flow, Labels, Trace

STATISTICS = frozenset({"pg_stats", "pg_statistic", "pg_stats_ext", "pg_stats_ext_exprs", "pg_statistic_ext_data"})
"""Relations of PostgreSQL that quote values of other relations' columns."""
QUOTING = frozenset({"pg_stat_get_activity", "pg_stat_get_backend_activity", "pg_stat_statements"})
"""Functions that tell the texts of others' statements."""
ENCODINGS = frozenset({None, "utf8", "utf-8", "unicode", "sql_ascii", "ascii"})
_DOCUMENTS = frozenset({"json", "jsonb", "xml", "hstore"})

_traces: Cache[tuple[Trace | None]] = Cache(limit_bytes=16 * 1024 * 1024, at_once=True)


def traced(judged: JudgedPart, catalog: Catalog, mask: Collection[str]) -> Trace | None:
    """What the outputs of a judged statement are made of; its names mean what they were judged to mean."""
    names = tuple(dict.fromkeys((touch.schema, touch.relation) for touch in judged.touches))
    wanted = frozenset(mask)
    key = (judged.text, catalog.version, wanted, names)
    found = _traces.get(key)
    if found is None:

        def table(schema: str | None, name: str) -> Sequence[tuple[str, Labels]] | None:
            return _labels(schema, name, names, catalog, wanted)

        found = (outputs.trace(judged.text, table),)
        _traces.put(key, found, 2048 + 4 * len(judged.text))
    return found[0]


def _labels(
    schema: str | None,
    name: str,
    names: Sequence[tuple[str | None, str | None]],
    catalog: Catalog,
    wanted: frozenset[str],
) -> Sequence[tuple[str, Labels]] | None:
    meant = {found for found, relation in names if relation == name and schema in (None, found)}
    # What a new view reads is not touched yet.
    meant = meant or {found for found in catalog.schemas.get(name, ()) if schema in (None, found)}
    relation = catalog.find(next(iter(meant)) or "", name) if len(meant) == 1 else None
    if relation is None:
        return None
    columns = []
    for column in relation.columns:
        labels = frozenset(found for found in column.classes if is_wanted((found,), wanted))
        if not labels and column.type_name.removesuffix("[]") in _DOCUMENTS:
            labels = frozenset({DOCUMENT})
        columns.append((column.name, labels))
    return columns


def refuse(judged: JudgedPart, catalog: Catalog, mask: Collection[str]) -> str | None:
    """Why this statement cannot be masked when the classes `mask` are; None where it can."""
    if not mask:
        return None
    statistics = sorted({str(touch.relation) for touch in judged.touches} & STATISTICS)
    if statistics:
        return f"{statistics[0]} quotes values of columns that are masked for you."
    quoting = sorted({name for _, name in judged.part.statement.functions} & QUOTING)
    if quoting:
        return (
            f"{quoting[0]} tells the texts of others' statements, which quote values; pg_stat_activity shows the rest."
        )
    if judged.part.tag == "LISTEN":
        return "What others send to a channel cannot be traced to columns, and some are masked for you."
    return _copy(judged, mask) or _renaming(judged, catalog, mask) or _carrying(judged, catalog, mask)


def _copy(judged: JudgedPart, mask: Collection[str]) -> str | None:
    details = judged.part.copies
    if details is None or details.direction != "out" or not judged.reads_protected(mask):
        return None
    if details.place != "client":
        return "A file or program on the database's server would get columns that are masked for you."
    encoding = details.encoding.lower() if details.encoding else None
    if encoding not in ENCODINGS:
        return f"COPY in the encoding {details.encoding} cannot be masked; leave out ENCODING or say UTF8."
    return None


def _renaming(judged: JudgedPart, catalog: Catalog, mask: Collection[str]) -> str | None:
    """A protected column is known by its table's and its own name."""
    commands = " ".join(judged.commands)
    if not any(word in commands for word in ("RENAME", "SET SCHEMA")) and "generated" not in judged.text.lower():
        return None
    for touch in judged.touches:
        relation = catalog.find(touch.schema or "", touch.relation or "") if touch.verb == "ddl" else None
        if relation is not None and any(is_wanted(column.classes, mask) for column in relation.columns):
            return (
                f"Columns of {relation.schema}.{relation.name} are masked for you; "
                "who may see them changes their names and what is computed from them."
            )
    return None


def _carrying(judged: JudgedPart, catalog: Catalog, mask: Collection[str]) -> str | None:
    if not judged.reads_protected(mask) and not judged.part.creates:
        return None
    trace = traced(judged, catalog, mask)
    if trace is None:
        return None
    if trace.carried:
        return f"A function would keep or send {_words(trace.carried)}, masked for you, where others can read it."
    for flow in trace.flows:
        labels = flow.labels - {DOCUMENT, PART} - _held(flow, judged, catalog)
        if labels:
            return f"{flow.relation} would get {_words(labels)}, masked for you, in a column where it is not masked."
    return None


def _held(flow: Flow, judged: JudgedPart, catalog: Catalog) -> Labels:
    """Classes of the column that is written; none for `*` and for what the statement makes."""
    schemas = {touch.schema for touch in judged.touches if touch.relation == flow.relation and touch.verb != "read"}
    if flow.is_new or len(schemas) != 1:
        return frozenset()
    relation = catalog.find(flow.schema or next(iter(schemas)) or "", flow.relation)
    return frozenset(relation.classes_of([flow.column])) if relation is not None else frozenset()


def _words(labels: Labels) -> str:
    return (
        "what cannot be told, and may be" if labels == {"unknown"} else "values of class " + ", ".join(sorted(labels))
    )
