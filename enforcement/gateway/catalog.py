"""What the gateway knows of a database: its relations, what stands behind them, its functions.

The database is asked with one text, `SQL`, whose single value `read` understands. Everything else here is pure.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from lineage import statements

Name = tuple[str, str]
"""Schema and relation."""
Classify = Callable[[str, str, str, str, Any], tuple[str, ...]]
"""Classes of a column, by schema, relation, column, name of its type, and the tags given to `read`."""

_COMPOSITE = "c"
_DEEPEST_ROWS = 4
"""Rows in rows in rows are followed so far."""
UNKNOWN = "unknown"
"""The class of what is not in the catalog."""
TRUSTED_EXTENSIONS = frozenset({
    "btree_gin", "btree_gist", "citext", "cube", "earthdistance", "fuzzystrmatch", "hstore", "intarray", "isn", "ltree",
    "pg_trgm", "pgcrypto", "seg", "unaccent", "uuid-ossp",
})  # fmt: skip
"""Extensions of PostgreSQL's own whose functions only compute."""

SQL = """set local search_path = ''; select json_build_object(
'relations', (select coalesce(json_agg(json_build_object(
    'oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname, 'kind', c.relkind,
    'columns', case when c.relkind in ('i', 'I') then '[]' else (
        select coalesce(json_agg(json_build_object('name', a.attname, 'attnum', a.attnum, 'type_oid', a.atttypid::bigint,
            'type_name', format_type(a.atttypid, null), 'not_null', a.attnotnull,
            'row_of', greatest(t.typrelid, e.typrelid, b.typrelid)::bigint) order by a.attnum), '[]')
        from pg_attribute a join pg_type t on t.oid = a.atttypid left join pg_type e on e.oid = t.typelem
        left join pg_type b on b.oid = t.typbasetype where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) end,
    'primary_key', (select coalesce(json_agg(k), '[]') from pg_index i, unnest(i.indkey::int2[]) k
        where i.indrelid = c.oid and i.indisprimary),
    'unique', (select coalesce(json_agg((i.indkey::int2[])[0:i.indnkeyatts - 1]), '[]') from pg_index i
        where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null),
    'parents', case when c.relkind in ('i', 'I')
        then (select coalesce(json_agg(i.indrelid::bigint), '[]') from pg_index i where i.indexrelid = c.oid)
        else (select coalesce(json_agg(h.inhparent::bigint), '[]') from pg_inherits h where h.inhrelid = c.oid) end,
    'definition', case when c.relkind in ('v', 'm') and n.nspname not in ('pg_catalog', 'information_schema')
        then pg_get_viewdef(c.oid) end,
    'reads', case when c.relkind in ('v', 'm') and n.nspname not in ('pg_catalog', 'information_schema') then (
        select coalesce(json_agg(distinct array[d.refobjid::bigint, d.refobjsubid]), '[]')
        from pg_rewrite w join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
        where w.ev_class = c.oid and w.ev_type = '1' and d.refclassid = 'pg_class'::regclass and d.refobjid <> c.oid)
        else '[]' end,
    'rules', (select coalesce(json_agg(json_build_array(w.ev_type, pg_get_ruledef(w.oid))), '[]')
        from pg_rewrite w where w.ev_class = c.oid and w.rulename <> '_RETURN' and w.ev_enabled <> 'D'
        and n.nspname not in ('pg_catalog', 'information_schema')),
    'triggers', (select coalesce(json_agg(json_build_array(t.tgname, t.tgfoid::regproc::text)), '[]')
        from pg_trigger t where t.tgrelid = c.oid and not t.tgisinternal and t.tgenabled <> 'D'),
    'referenced_by', (select coalesce(json_agg(json_build_array(f.conrelid::bigint, f.confdeltype, f.confupdtype)), '[]')
        from pg_constraint f where f.confrelid = c.oid and f.contype = 'f')
    )), '[]') from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S', 'i', 'I', 'c') and n.nspname not like 'pg\\_toast%' escape '\\'
    and n.nspname not like 'pg\\_temp%' escape '\\' and not (n.nspname = 'pg_catalog' and c.relkind = 'i')),
'functions', (select coalesce(json_agg(distinct json_build_array(n.nspname, p.proname, coalesce(e.extname, ''))::text), '[]')
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    left join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
    left join pg_extension e on e.oid = d.refobjid where n.nspname not in ('pg_catalog', 'information_schema')),
'own_functions', (select json_agg(distinct proname) from pg_proc where pronamespace = 'pg_catalog'::regnamespace),
'operators', (select coalesce(json_agg(distinct o.oprname), '[]') from pg_operator o
    where o.oprnamespace <> 'pg_catalog'::regnamespace and not exists (select from pg_depend d
    where d.classid = 'pg_operator'::regclass and d.objid = o.oid and d.deptype = 'e')),
'roles', (select json_agg(rolname order by rolname) from pg_roles))::text"""
"""To be sent as one simple query, so that the empty search path holds for the one text: every name is then written whole."""


class Column(msgspec.Struct, frozen=True):
    """`row_of`: the oid of the relation or composite type whose rows the column holds, by themselves, in arrays or a domain."""

    name: str
    attnum: int
    type_oid: int
    type_name: str
    not_null: bool
    classes: tuple[str, ...] = ()
    row_of: int = 0


class Relation(msgspec.Struct, frozen=True):
    """A table, partitioned table (`p`), view (`v`), materialized view (`m`), foreign table, sequence or index.

    `unique` are the columns of each unique index. `parents` are oids of the partitioned or inherited tables, of an index
    its table. `reads` are pairs of oid and column number (0: the whole) that a view reads; `rules` pairs of event (2 update,
    3 insert, 4 delete) and definition; `triggers`
    pairs of name and function; `referenced_by` who has a foreign key to it, with what happens on delete and update.
    """

    oid: int
    schema: str
    name: str
    kind: str
    columns: tuple[Column, ...] = ()
    primary_key: tuple[int, ...] = ()
    unique: tuple[tuple[int, ...], ...] = ()
    parents: tuple[int, ...] = ()
    definition: str | None = None
    reads: tuple[tuple[int, int], ...] = ()
    rules: tuple[tuple[str, str], ...] = ()
    triggers: tuple[tuple[str, str], ...] = ()
    referenced_by: tuple[tuple[int, str, str], ...] = ()

    def names_of(self, attnums: Iterable[int]) -> frozenset[str]:
        """The names of columns by number."""
        wanted = frozenset(attnums)
        return frozenset(column.name for column in self.columns if column.attnum in wanted)

    def classes_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """Classes of the named columns, sorted."""
        wanted = frozenset(names)
        return tuple(sorted({found for column in self.columns if column.name in wanted for found in column.classes}))


class Catalog(msgspec.Struct, frozen=True):
    """A database as it was when it was asked. `version` is a digest of all that is in it."""

    version: str
    relations: dict[Name, Relation]
    by_oid: dict[int, Relation]
    schemas: dict[str, tuple[str, ...]]
    """Schemas in which a relation of this name lies."""
    filled: frozenset[str]
    """Schemas in which any relation lies."""
    children: dict[int, tuple[int, ...]]
    functions: dict[str, frozenset[str]]
    """Schemas in which a function of this name lies that is not known to be harmless."""
    harmless: frozenset[Name]
    own_functions: frozenset[str]
    operators: frozenset[str]
    roles: frozenset[str]

    def find(self, schema: str, name: str) -> Relation | None:
        return self.relations.get((schema, name))


class _Answer(msgspec.Struct):
    relations: tuple[Relation, ...]
    functions: tuple[str, ...]
    own_functions: tuple[str, ...]
    operators: tuple[str, ...]
    roles: tuple[str, ...]


EMPTY = Catalog("", {}, {}, {}, frozenset(), {}, {}, frozenset(), frozenset(), frozenset(), frozenset())


def read(answer: str | bytes, classify: Classify, tags: Any = (), harmless: Iterable[Name] = ()) -> Catalog:
    """The catalog that `SQL` told. `harmless`: functions (schema, name) that the gateway's settings say only compute.

    Raises msgspec.DecodeError or ValidationError for anything but that query's answer.
    """
    told = msgspec.json.decode(answer, type=_Answer, strict=False)
    found = {relation.oid: _classified(relation, classify, tags) for relation in told.relations}
    found = {oid: relation for oid, relation in _of_rows(found).items() if relation.kind != _COMPOSITE}
    found = _inherited(found)
    found = _through_views(found)
    named = [tuple(msgspec.json.decode(text, type=tuple[str, str, str])) for text in told.functions]
    trusted = frozenset(harmless) | {(s, n) for s, n, extension in named if extension in TRUSTED_EXTENSIONS}
    trusted -= {
        (s, n) for s, n, extension in named if extension not in TRUSTED_EXTENSIONS and (s, n) not in frozenset(harmless)
    }
    functions: defaultdict[str, set[str]] = defaultdict(set)
    for schema, name, _ in named:
        if (schema, name) not in trusted:
            functions[name].add(schema)
    relations = {(relation.schema, relation.name): relation for relation in found.values()}
    return Catalog(
        version=_version(relations.values(), told, trusted),
        relations=relations,
        by_oid=found,
        schemas=_grouped((relation.name, relation.schema) for relation in found.values()),
        filled=frozenset(relation.schema for relation in found.values()),
        children=_grouped(
            (parent, relation.oid)
            for relation in found.values()
            if relation.kind not in "iI"
            for parent in relation.parents
        ),
        functions={name: frozenset(schemas) for name, schemas in functions.items()},
        harmless=trusted,
        own_functions=frozenset(told.own_functions),
        operators=frozenset(told.operators),
        roles=frozenset(told.roles),
    )


def _version(relations: Iterable[Relation], told: _Answer, trusted: frozenset[Name]) -> str:
    rest = (told.functions, told.operators, told.roles, sorted(trusted))
    return hashlib.sha256(msgspec.json.encode((list(relations), rest))).hexdigest()


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, tuple[Any, ...]]:
    groups: defaultdict[Any, list[Any]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return {key: tuple(values) for key, values in groups.items()}


def _classified(relation: Relation, classify: Classify, tags: Any) -> Relation:
    columns = tuple(
        msgspec.structs.replace(
            column, classes=classify(relation.schema, relation.name, column.name, column.type_name, tags)
        )
        for column in relation.columns
    )
    return msgspec.structs.replace(relation, columns=columns)


def _with_classes(relation: Relation, more: Mapping[str, frozenset[str]]) -> Relation:
    columns = tuple(
        msgspec.structs.replace(column, classes=tuple(sorted({*column.classes, *more.get(column.name, ())})))
        for column in relation.columns
    )
    return relation if columns == relation.columns else msgspec.structs.replace(relation, columns=columns)


def _of_rows(found: dict[int, Relation]) -> dict[int, Relation]:
    """A column that holds rows has the classes of all their columns."""
    done = dict(found)
    for _ in range(_DEEPEST_ROWS):
        for relation in done.values():
            held = {c.name: frozenset(_column_classes(done.get(c.row_of), 0)) for c in relation.columns if c.row_of}
            done[relation.oid] = _with_classes(relation, held) if held else relation
    return done


def _inherited(found: dict[int, Relation]) -> dict[int, Relation]:
    """A column of one name has the same classes in a table and all its partitions and inheritance children."""
    families: defaultdict[int, list[Relation]] = defaultdict(list)
    for relation in found.values():
        families[_eldest(relation, found)].append(relation)
    changed = dict(found)
    for family in families.values():
        if len(family) == 1:
            continue
        classes: defaultdict[str, frozenset[str]] = defaultdict(frozenset)
        for column in (column for relation in family for column in relation.columns):
            classes[column.name] |= frozenset(column.classes)
        changed |= {relation.oid: _with_classes(relation, classes) for relation in family}
    return changed


def _eldest(relation: Relation, found: Mapping[int, Relation]) -> int:
    """The first parent's first parent, and so on; an index is of no family."""
    while relation.parents and relation.kind not in "iI" and relation.parents[0] in found:
        relation = found[relation.parents[0]]
    return relation.oid


def _through_views(found: dict[int, Relation]) -> dict[int, Relation]:
    """A view's column has the classes of what it is made of; where that cannot be told, of all that the view reads."""
    done = dict(found)
    by_name = {(relation.schema, relation.name): relation.oid for relation in found.values()}
    finished: set[int] = set()

    def finish(oid: int) -> None:
        if oid in finished or oid not in done:
            return
        finished.add(oid)
        view = done[oid]
        if view.definition is None:
            return
        for base, _ in view.reads:
            finish(base)
        done[oid] = _with_classes(view, _view_classes(view, done, by_name))

    for oid in found:
        finish(oid)
    return done


def _view_classes(
    view: Relation, done: Mapping[int, Relation], by_name: Mapping[Name, int]
) -> dict[str, frozenset[str]]:
    told = statements.origins(view.definition or "") or ()
    everything = frozenset(found for oid, attnum in view.reads for found in _column_classes(done.get(oid), attnum))
    classes = {}
    for place, column in enumerate(view.columns):
        origin = told[place] if len(told) == len(view.columns) else None
        bases = None if origin is None else [(done.get(by_name.get((s or "", r), 0)), c) for s, r, c in origin]
        if bases is None or any(base is None for base, _ in bases):
            classes[column.name] = everything
        else:
            classes[column.name] = frozenset(c for base, name in bases if base for c in base.classes_of([name]))
    return classes


def _column_classes(relation: Relation | None, attnum: int) -> tuple[str, ...]:
    if relation is None:
        return (UNKNOWN,)
    return relation.classes_of(column.name for column in relation.columns if attnum in (0, column.attnum))
