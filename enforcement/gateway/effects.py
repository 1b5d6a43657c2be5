"""What a text does to which relations of this database: the statements' effects, resolved against the catalog.

Pure. Names mean what the search path, the role and the session's temporary tables make of them; what cannot be told is said.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from enforcement.gateway import alike
from enforcement.gateway.catalog import UNKNOWN, Catalog
from enforcement.gateway.classes import ANYTHING
from enforcement.gateway.resolving import TEMPORARY, WITHOUT_VALUES, Resolver, Scope
from lineage import statements
from lineage.guardrails import Touch
from lineage.statements import Part
from lineage.statements.cache import Cache

__all__ = ["Catalog", "Judged", "JudgedPart", "ProtectedColumn", "Scope", "resolve"]

T = TypeVar("T")
UNPARSED = "UNPARSED"
"""The command of a text that cannot be parsed."""
_NOT_WRITES = frozenset({"read", "export", "session"})
_MEANING = frozenset({"search_path", "role", "session_authorization", "*"})
"""Settings after which the search path of before does not hold."""
_IDENTIFIER = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^\s",]+))\s*(?:,|$)')


class ProtectedColumn(msgspec.Struct, frozen=True):
    """A column with classes that a statement touches. `relation` is None where it is not in the catalog."""

    schema: str | None
    relation: str | None
    column: str
    classes: tuple[str, ...]


class JudgedPart(msgspec.Struct, frozen=True):
    """One statement: `touches` on relations, `opaque` with `reason`, and names of what it does (`commands`).

    `triggers` are those that the catalog knows on what it changes: relation, trigger and function. `text` is that of the
    statement whose rows it gives: for EXECUTE the prepared one, where that is known.
    """

    part: Part
    touches: tuple[Touch, ...]
    opaque: bool
    reason: str | None
    commands: tuple[str, ...]
    weakens: tuple[str, ...]
    triggers: tuple[str, ...] = ()
    protected_columns: tuple[ProtectedColumn, ...] = ()
    text: str = ""

    @property
    def writes(self) -> bool:
        """Whether it does or may do anything but read."""
        return self.opaque or any(touch.verb not in _NOT_WRITES for touch in self.touches)

    def reads_protected(self, classes: Collection[str]) -> bool:
        """Whether values of these classes (`*`: of any) may show in what it answers, errors included."""
        return _protects(self.protected_columns, classes) or (self.opaque and bool(classes))


class Judged(msgspec.Struct, frozen=True):
    """A whole text; each field is that of all its parts together."""

    parts: tuple[JudgedPart, ...]
    touches: tuple[Touch, ...]
    opaque: bool
    reason: str | None
    commands: tuple[str, ...]
    weakens: tuple[str, ...]
    triggers: tuple[str, ...]
    protected_columns: tuple[ProtectedColumn, ...]

    @property
    def writes(self) -> bool:
        return any(part.writes for part in self.parts)

    def reads_protected(self, classes: Collection[str]) -> bool:
        return any(part.reads_protected(classes) for part in self.parts)


def _protects(columns: Iterable[ProtectedColumn], classes: Collection[str]) -> bool:
    if not classes:
        return False
    every = "*" in classes
    return any(every or found in ANYTHING or found in classes for column in columns for found in column.classes)


_cache: Cache[Judged] = Cache(limit_bytes=64 * 1024 * 1024)


def resolve(
    sql: str,
    parameters: Sequence[str | None],
    catalog: Catalog,
    scope: Scope,
    prepared: Mapping[str, str] | None = None,
) -> Judged:
    """What `sql` does in this database. Never raises on any text; what is not understood is opaque.

    `parameters` are bind values as text (None: unknown or NULL), `prepared` the texts of the session's prepared statements.
    """
    values = tuple(parameters)
    seen = tuple(sorted(prepared.items())) if prepared and "execute" in sql.lower() else ()
    key = (sql, values, catalog.version, scope, seen)
    found = _cache.get(key)
    if found is None and not seen:
        found = alike.told(sql, values, catalog, scope, lambda text, given: _resolved(text, given, catalog, scope, {}))
    if found is None:
        found = _resolved(sql, values, catalog, scope, prepared or {})
        _cache.put(key, found, _size(sql, found))
    return found


def _resolved(
    sql: str, parameters: tuple[str | None, ...], catalog: Catalog, scope: Scope, prepared: Mapping[str, str]
) -> Judged:
    judged = []
    for part in statements.analyse_each(sql, parameters, prepared):
        text = sql[part.text_start : part.text_end]
        found = _judged(text, part, Resolver(catalog, scope))
        judged.append(msgspec.structs.replace(found, text=prepared.get(part.executes or "", text)))
        scope = _after(scope, judged[-1])
    reasons = dict.fromkeys(part.reason for part in judged if part.reason)
    return Judged(
        parts=tuple(judged),
        touches=_distinct(touch for part in judged for touch in part.touches),
        opaque=any(part.opaque for part in judged),
        reason="; ".join(reasons) or None,
        commands=_distinct(command for part in judged for command in part.commands),
        weakens=_distinct(phrase for part in judged for phrase in part.weakens),
        triggers=_distinct(trigger for part in judged for trigger in part.triggers),
        protected_columns=_distinct(column for part in judged for column in part.protected_columns),
    )


def _judged(text: str, part: Part, resolver: Resolver) -> JudgedPart:
    told = part.statement
    touches = _distinct(resolver.touches(part))
    calls = _distinct(resolver.note_functions(told))
    reasons = [reason for reason in (told.reason or "").split("; ") if reason and reason != statements.CALLS]
    reasons += resolver.reasons
    if calls:
        reasons.append(f"it calls {', '.join(calls)}, which may do anything")
    if not resolver.scope.standard_conforming_strings and "\\" in text:
        reasons.append("it has backslashes while standard_conforming_strings is off")
    return JudgedPart(
        part=part,
        touches=touches,
        opaque=bool(reasons),
        reason="; ".join(reasons) or None,
        commands=_distinct((*(part.commands or (UNPARSED,)), *(f"CALL {name}" for name in calls))),
        weakens=told.weakens,
        triggers=tuple(resolver.triggers),
        protected_columns=_distinct(_protected(touches, resolver.catalog)),
    )


def _protected(touches: Iterable[Touch], catalog: Catalog) -> Iterator[ProtectedColumn]:
    for touch in touches:
        if touch.verb in WITHOUT_VALUES or not touch.classes:
            continue
        relation = catalog.find(touch.schema or "", touch.relation or "")
        if relation is None:
            names = touch.columns or ("*",)
            yield from (ProtectedColumn(touch.schema, touch.relation, name, (UNKNOWN,)) for name in names)
            continue
        for column in relation.columns:
            if column.name in touch.columns and not set(column.classes).isdisjoint(touch.classes):
                yield ProtectedColumn(relation.schema, relation.name, column.name, column.classes)


def _after(scope: Scope, judged: JudgedPart) -> Scope:
    """What names mean to the next statement of the same text, which nobody can ask the database about in between."""
    part = judged.part
    path, strings = scope.search_path, scope.standard_conforming_strings
    for name, value, _ in part.sets:
        if name in _MEANING:
            path = _path(value) if name == "search_path" and value is not None else None
        if name in ("standard_conforming_strings", "*"):
            strings = strings and (value or "").lower() in ("on", "true", "t", "yes", "1", "")
    if judged.opaque or part.tag.startswith("ROLLBACK") or part.tag in ("COMMIT", "PREPARE TRANSACTION"):
        path = None
    made = {name for _, name, temporary in part.creates if temporary}
    temp = scope.temp | made if made else scope.temp
    changed = {
        (touch.schema or "", touch.relation) for touch in judged.touches if touch.verb == "ddl" and touch.relation
    }
    return msgspec.structs.replace(
        scope,
        search_path=path,
        standard_conforming_strings=strings,
        temp=temp,
        changed=scope.changed | changed if changed else scope.changed,
    )


def _path(value: str) -> tuple[str, ...] | None:
    """The schemas of a search_path as the server writes it; None where it cannot be read."""
    names, at = [], 0
    while at < len(value):
        match = _IDENTIFIER.match(value, at)
        if match is None:
            return None
        at = match.end()
        quoted, bare = match.groups()
        names.append(quoted.replace('""', '"') if quoted is not None else bare.lower())
    return tuple(TEMPORARY if name.startswith("pg_temp") else name for name in names if name)


def _distinct(items: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(items))


def _size(sql: str, found: Judged) -> int:
    """Roughly what a judgement holds in memory, in bytes."""
    touches = sum(len(touch.columns) + 8 for part in found.parts for touch in part.touches)
    return 4096 + 4 * len(sql) + 100 * touches
