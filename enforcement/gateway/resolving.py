"""Names to relations: what an effect on a name is an effect on, in this database, with this search path."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Literal

import msgspec

from enforcement.gateway.catalog import UNKNOWN, Catalog, Column, Relation
from lineage import statements
from lineage.guardrails import Touch
from lineage.statements import Effect, Key, Part, Statement

Certainty = Literal["exact", "assumed", "unknown"]

TEMPORARY = "pg_temp"
KINDS = {
    "r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table", "S": "sequence",
    "i": "index", "I": "index",
}  # fmt: skip
WITHOUT_VALUES = frozenset({"ddl", "privilege", "procedural", "session"})
"""Verbs that neither show nor store values of columns."""
_SYSTEM = frozenset({"pg_catalog", "information_schema"})
_CHANGES = frozenset({"insert", "update", "delete", "truncate", "import"})
_EVENTS = {"update": "2", "insert": "3", "import": "3", "delete": "4"}
_ON_DELETE = {"c": "delete", "n": "update", "d": "update"}


class Scope(msgspec.Struct, frozen=True):
    """What names mean in a session. `search_path` is None where it is not known; `temp` are its temporary relations.

    The path may name `$user`, `pg_temp` and `pg_catalog`; the latter two come first where it does not. `changed` are
    relations that the session has defined anew since the catalog was read: what they are made of is not known.
    """

    search_path: tuple[str, ...] | None = ("$user", "public")
    role: str = ""
    session_user: str = ""
    temp: frozenset[str] = frozenset()
    standard_conforming_strings: bool = True
    changed: frozenset[tuple[str, str]] = frozenset()

    @property
    def path(self) -> tuple[str, ...] | None:
        """Schemas in the order in which they are looked through."""
        if self.search_path is None:
            return None
        named = tuple(self.role if name == "$user" else name for name in self.search_path)
        return tuple(name for name in (TEMPORARY, "pg_catalog") if name not in named) + named


class Resolver:
    """Resolves the effects of one statement; collects reasons why more may happen than they say, and triggers."""

    def __init__(self, catalog: Catalog, scope: Scope) -> None:
        self.catalog = catalog
        self.scope = scope
        self.path = scope.path
        self.reasons: dict[str, None] = {}
        self.triggers: dict[str, None] = {}
        self._seen: set[tuple[str, int, bool]] = set()

    def touches(self, part: Part) -> Iterator[Touch]:
        """What the statement touches, in the order of its effects, each with what stands behind the relation."""
        made = {(schema, name): temporary for schema, name, temporary in part.creates}
        for effect in part.statement.effects:
            if effect.relation is None:
                yield from self._whole_schema(effect)
            elif effect.verb == "ddl" and (effect.schema, effect.relation) in made:
                yield self._new(effect, made[effect.schema, effect.relation])
            else:
                yield from self.named(effect)
        for (schema, name), temporary in made.items():
            if (schema, name) not in {(effect.schema, effect.relation) for effect in part.statement.effects}:
                yield self._new(Effect("ddl", schema, name), temporary)
        if part.sets:
            yield Touch("session")

    def _whole_schema(self, effect: Effect) -> Iterator[Touch]:
        yield Touch(effect.verb, schema=effect.schema)
        for (schema, name), relation in self.catalog.relations.items() if effect.schema else ():
            if schema == effect.schema and relation.kind not in "iI":
                yield Touch(effect.verb, schema=schema, relation=name, kind=KINDS[relation.kind])

    def _new(self, effect: Effect, temporary: bool) -> Touch:
        """A relation that the statement makes, in the first schema of the path that is not implied."""
        own = [name for name in self.path or () if name not in (TEMPORARY, "pg_catalog")]
        own.sort(key=lambda name: name not in self.catalog.filled)
        schema = TEMPORARY if temporary else effect.schema or (own[0] if own else None)
        certainty: Certainty = "exact" if schema and self.path is not None else "assumed"
        return Touch(effect.verb, schema=schema, relation=effect.relation, columns=effect.columns, certainty=certainty)

    def named(self, effect: Effect) -> Iterator[Touch]:
        """The touches of an effect on a name."""
        found = list(self._candidates(effect.schema, effect.relation or ""))
        for place, (schema, relation) in enumerate(found):
            certainty: Certainty = (
                "unknown" if self.path is None and effect.schema is None else "assumed" if place else "exact"
            )
            if relation is None:
                yield self._unlisted(effect, schema, certainty)
            else:
                yield from self._known(effect, relation, certainty)
        if not found:
            yield self._unlisted(effect, effect.schema, "assumed")

    def _candidates(self, schema: str | None, name: str) -> Iterator[tuple[str, Relation | None]]:
        """Relations that the name may mean, the likeliest first; a temporary one is not in the catalog."""
        everywhere = self.path if self.path is not None else (TEMPORARY, *self.catalog.schemas.get(name, ()))
        places = everywhere if schema is None else (schema,)
        for place in places:
            if place == TEMPORARY and name in self.scope.temp:
                yield TEMPORARY, None
            elif (relation := self.catalog.find(place, name)) is not None:
                yield place, relation

    def _unlisted(self, effect: Effect, schema: str | None, certainty: Certainty) -> Touch:
        return Touch(
            effect.verb,
            schema=schema,
            relation=effect.relation,
            kind="temporary table" if schema == TEMPORARY else None,
            columns=tuple(dict.fromkeys((*effect.columns, *effect.possible))),
            written=effect.written,
            certainty=certainty,
            classes=() if effect.verb in WITHOUT_VALUES else (UNKNOWN,),
            unconditional=effect.unconditional,
        )

    def _known(self, effect: Effect, relation: Relation, certainty: Certainty) -> Iterator[Touch]:
        if (relation.schema, relation.name) in self.scope.changed and effect.verb not in WITHOUT_VALUES:
            yield self._unlisted(effect, relation.schema, "assumed")
        names = tuple(column.name for column in relation.columns)
        columns = tuple(dict.fromkeys((*_expanded(effect.columns, names), *(c for c in effect.possible if c in names))))
        touch = Touch(
            effect.verb,
            schema=relation.schema,
            relation=relation.name,
            kind=KINDS[relation.kind],
            columns=columns,
            written=_expanded(effect.written, names),
            keys=len(effect.keys) if effect.keys and self._is_by_key(effect.keys, relation) else None,
            certainty=certainty,
            classes=() if effect.verb in WITHOUT_VALUES else relation.classes_of(columns),
            unconditional=effect.unconditional,
        )
        yield touch
        yield from self._behind(touch, relation)

    def _is_by_key(self, keys: tuple[Key, ...], relation: Relation) -> bool:
        """Whether each key has all columns of a unique index; a view's rows are fixed by the keys of what it reads."""
        bases = [self.catalog.by_oid.get(oid) for oid, _ in relation.reads] if relation.kind == "v" else [relation]
        unique = [base.names_of(attnums) for base in bases if base for attnums in base.unique]
        return all(any(names <= {column for column, _ in key} for names in unique) for key in keys)

    def _behind(self, touch: Touch, relation: Relation) -> Iterator[Touch]:
        """What happens to others when this happens to the relation. Each relation is looked behind once for a verb."""
        key = (touch.verb, relation.oid, touch.unconditional)
        if key in self._seen:
            return
        self._seen.add(key)
        yield from self._family(touch, relation)
        if touch.verb in WITHOUT_VALUES:
            return
        if relation.kind == "v":
            yield from self._view(touch, relation)
        if touch.verb in _CHANGES:
            if relation.schema in _SYSTEM:
                self.reasons[f"it changes {touch.name}, whose rules may do anything"] = None
            self._note_triggers(touch, relation)
            yield from self._rules(touch, relation)
            yield from self._foreign_keys(touch, relation)

    def _family(self, touch: Touch, relation: Relation) -> Iterator[Touch]:
        for oid in (*relation.parents, *self.catalog.children.get(relation.oid, ())):
            yield from self._also(touch, oid, touch.verb, touch.columns)

    def _also(self, touch: Touch, oid: int, verb: str, columns: tuple[str, ...]) -> Iterator[Touch]:
        """The touch on one more relation, and what stands behind that."""
        other = self.catalog.by_oid.get(oid)
        if other is None or (verb, oid, touch.unconditional) in self._seen:
            return
        own = {column.name for column in other.columns}
        named = tuple(column for column in columns if column in own)
        found = msgspec.structs.replace(
            touch,
            verb=verb,
            schema=other.schema,
            relation=other.name,
            kind=KINDS[other.kind],
            columns=named,
            written=tuple(column for column in touch.written if column in own),
            classes=() if verb in WITHOUT_VALUES else other.classes_of(named),
        )
        yield found
        yield from self._behind(found, other)

    def _view(self, touch: Touch, view: Relation) -> Iterator[Touch]:
        """A view reads its tables; a change of a view is one of them. Classes are those of the columns asked for."""
        inner = Resolver(self.catalog, Scope(search_path=()))
        for name in inner.note_functions(statements.analyse(view.definition or "")):
            self.reasons[f"the view {touch.name} calls {name}, which may do anything"] = None
        read: defaultdict[int, set[int]] = defaultdict(set)
        for oid, attnum in view.reads:
            read[oid].add(attnum)
        for oid, attnums in read.items():
            base = self.catalog.by_oid.get(oid)
            columns = base.columns if base else ()
            named = tuple(column.name for column in columns if 0 in attnums or column.attnum in attnums)
            for found in self._also(touch, oid, touch.verb, named):
                shown = tuple(name for name in found.classes if name in touch.classes or touch.verb in _CHANGES)
                yield msgspec.structs.replace(found, classes=shown)

    def _note_triggers(self, touch: Touch, relation: Relation) -> None:
        for name, function in relation.triggers:
            self.triggers[f"{touch.name}: {name} calls {function}"] = None

    def _rules(self, touch: Touch, relation: Relation) -> Iterator[Touch]:
        for event, definition in relation.rules:
            if _EVENTS.get(touch.verb) != event:
                continue
            action = statements.analyse_rule(definition)
            if action.opaque:
                self.reasons[f"a rule of {touch.name} does what cannot be told"] = None
            inner = Resolver(self.catalog, Scope(search_path=()))
            inner._seen = self._seen
            for effect in action.effects:
                for found in inner.named(effect) if effect.relation not in (None, "new", "old") else ():
                    yield msgspec.structs.replace(found, certainty="assumed")
            self.reasons |= inner.reasons
            self.triggers |= inner.triggers

    def _foreign_keys(self, touch: Touch, relation: Relation) -> Iterator[Touch]:
        """What deleting, re-keying or emptying rows does to the rows that refer to them."""
        key = {column.name for column in relation.columns if column.attnum in relation.primary_key}
        for oid, on_delete, on_update in relation.referenced_by:
            verb: str | None = None
            if touch.verb == "truncate":
                verb = "truncate"
            elif touch.verb == "delete":
                verb = _ON_DELETE.get(on_delete)
            elif touch.verb == "update" and (not key or key & set(touch.written)):
                verb = _ON_DELETE.get(on_update) and "update"
            if verb is not None:
                for found in self._also(touch, oid, verb, ()):
                    yield msgspec.structs.replace(found, certainty="assumed", written=())

    def note_functions(self, told: Statement) -> Iterator[str]:
        """Names of the functions and operators that may do anything, which become reasons."""
        known = {column.name for effect in told.effects for column in self._columns(effect)}
        called = [(None, name) for name in told.attributes if name not in known and self._may_be_called(name)]
        for schema, name in (*told.functions, *called):
            if not self._is_harmless(schema, name):
                yield name if schema in (None, "pg_catalog") else f"{schema}.{name}"
        yield from (name for name in told.operators if name.rpartition(".")[2] in self.catalog.operators)

    def _columns(self, effect: Effect) -> Iterator[Column]:
        for _, relation in self._candidates(effect.schema, effect.relation or ""):
            yield from relation.columns if relation else ()

    def _may_be_called(self, name: str) -> bool:
        """Whether a name after a dot that is no column names a function: `c.total` also calls total(c)."""
        return name in self.catalog.functions or (
            name in self.catalog.own_functions and name not in statements.SAFE_FUNCTIONS
        )

    def _is_harmless(self, schema: str | None, name: str) -> bool:
        if schema == "information_schema":
            return True
        if schema is not None and schema != "pg_catalog":
            return (schema, name) in self.catalog.harmless
        if schema is None and self._is_shadowed(name):
            return False
        places = self.path if self.path is not None else ()
        return name in statements.SAFE_FUNCTIONS or (
            schema is None
            and name not in self.catalog.own_functions
            and any((place, name) in self.catalog.harmless for place in places)
        )

    def _is_shadowed(self, name: str) -> bool:
        """Whether a function of the database's own may be meant: one with better fitting types wins over pg_catalog's."""
        schemas = self.catalog.functions.get(name)
        return schemas is not None and (self.path is None or not schemas.isdisjoint(self.path))


def _expanded(columns: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    if "*" not in columns:
        return columns
    return tuple(dict.fromkeys((*names, *(column for column in columns if column != "*"))))
