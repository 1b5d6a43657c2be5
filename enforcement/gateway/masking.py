"""What of an answer the client may see: planned once from its columns, then done row by row.

A column that comes from a table's column is masked by that column's class. One that comes from none is masked whole in a
statement that reads protected columns, unless what it is made of shows that it holds nothing of them. Everything else that can
hold text is judged by value. docs/masking.md says what is and is not covered.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec

from enforcement.gateway import classes, disguises
from enforcement.gateway.catalog import Catalog, Column, Relation
from enforcement.gateway.copies import CopyMasker
from enforcement.gateway.disguises import HIDDEN, Counts, Mask, is_wanted, may_show
from enforcement.gateway.effects import JudgedPart
from enforcement.gateway.messages import Field, masked_rows
from enforcement.gateway.refusals import refuse, traced
from enforcement.gateway.scrubbing import scrub
from lineage.statements import CopyDetails
from lineage.statements.builtins import SAFE_FUNCTIONS
from lineage.statements.outputs import DOCUMENT, PART, UNKNOWN, Output, Trace

__all__ = ["CopyMasker", "Plan", "copy_plan", "plan", "refuse", "scrub"]

UNTRACED = "untraced"
"""What values are counted as that were masked because nobody could tell what they hold."""
_TEXT = frozenset({25, 1043, 1042, 705, 2275})
_NAME = 19
_JSON, _JSONB = 114, 3802
_FORMED = frozenset({142, 3614, 3615, 1009, 1015, 1014, 1002, 1003, 199, 3807, 2249})
"""xml, tsvector, tsquery, arrays of texts and documents, records: text in a form of its own."""
_FIRST_OWN_OID = 16384
"""Types and relations from here on are not PostgreSQL's own."""
_BINARY = 1


class Chosen(NamedTuple):
    """How one column is masked; `is_certain`: every value of it is, `is_by_value`: for what stands in the value alone."""

    mask: Mask
    is_certain: bool
    is_by_value: bool = False


class Plan:
    """How each row of one answer is masked. `keys` are the columns that name rows: relation, then place and column."""

    def __init__(
        self,
        masks: Sequence[tuple[int, str, Chosen]],
        counts: Counts,
        keys: tuple[tuple[str, tuple[tuple[int, str], ...]], ...] = (),
        width: int = 0,
    ) -> None:
        self.keys = keys
        self._counts = counts
        self._masks = tuple((place, chosen.mask) for place, _, chosen in masks)
        self._always = tuple(name for _, name, chosen in masks if chosen.is_certain)
        self._is_by_value = all(chosen.is_by_value for _, _, chosen in masks)
        chosen_at = dict(self._masks)
        self._all = [chosen_at.get(place) for place in range(width)]

    @property
    def is_plain(self) -> bool:
        """Whether every row goes on as it is."""
        return not self._masks

    @property
    def places(self) -> tuple[int, ...]:
        """The columns that may be masked."""
        return tuple(place for place, _ in self._masks)

    @property
    def counts(self) -> dict[str, int]:
        """Masked values by class, so far."""
        return dict(self._counts)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are masked in every row."""
        return tuple(dict.fromkeys(self._always))

    def may_change(self, data: bytes) -> bool:
        """Whether any row might be changed of whose values `data` holds the bytes; whole rows, in whatever form."""
        return bool(self._masks) and (not self._is_by_value or may_show(data))

    def rows(self, data: bytes, start: int, stop: int) -> bytes:
        """The DataRows in `data[start:stop]` as the client may see them."""
        whole = data[start:stop]
        return masked_rows(data, start, stop, self._all) if self.may_change(whole) else whole

    def row(self, values: Sequence[bytes | None]) -> list[bytes | None]:
        """A row as the client may see it. NULL stays NULL, the empty text stays empty."""
        shown = list(values)
        for place, mask in self._masks:
            value = shown[place]
            if value:
                shown[place] = mask(value)
        return shown


def plan(fields: Sequence[Field], judged: JudgedPart, catalog: Catalog, mask: Collection[str]) -> Plan:
    """The plan for an answer with these columns of one judged statement, when the classes `mask` (`*`: all) are masked."""
    counts = Counts()
    wanted = frozenset(mask)
    if not wanted:
        return Plan((), counts, _keys(fields, catalog, frozenset()))
    planner = _Planner(judged, catalog, wanted, counts)
    outputs = planner.aligned(len(fields))
    masks, hidden = [], set()
    for place, (field, output) in enumerate(zip(fields, outputs, strict=True)):
        found = planner.column(field, output)
        if found is not None:
            masks.append((place, planner.name(field), found))
            if found.is_certain:
                hidden.add(place)
    return Plan(masks, counts, _keys(fields, catalog, hidden), len(fields))


def copy_plan(
    details: CopyDetails,
    judged: JudgedPart,
    catalog: Catalog,
    mask: Collection[str],
    described: tuple[Field, ...] | None = None,
) -> CopyMasker:
    """What masks the stream of a COPY … TO STDOUT of this judged statement. `described`: the columns of its query, if known."""
    wanted = frozenset(mask)

    def of_width(width: int) -> Plan:
        if described is not None and len(described) == width:
            format_ = int(details.format == "binary")
            fields = tuple(msgspec.structs.replace(field, format=format_) for field in described)
        else:
            fields = _copied(details, judged, catalog, wanted, width)
        return plan(fields, judged, catalog, wanted)

    return CopyMasker(details, of_width if wanted else None)


def _copied(
    details: CopyDetails, judged: JudgedPart, catalog: Catalog, wanted: frozenset[str], width: int
) -> tuple[Field, ...]:
    """The columns of a COPY that nobody described: of a relation, or of a query that could not be asked about before."""
    binary = int(details.format == "binary")
    relation = _copied_relation(details, judged, catalog)
    if relation is not None:
        names = details.columns or tuple(column.name for column in relation.columns)
        chosen = [column for name in names for column in relation.columns if column.name == name]
        if len(chosen) == width:
            return tuple(Field(c.name, relation.oid, c.attnum, c.type_oid, -1, -1, binary) for c in chosen)
    outputs = _Planner(judged, catalog, wanted, Counts()).aligned(width)
    # Of what type an expression is, nobody said: what must be hidden is NULL, the rest is looked at as text.
    return tuple(Field(o.name if o else "", 0, 0, 0, -1, -1, binary) for o in outputs)


def _copied_relation(details: CopyDetails, judged: JudgedPart, catalog: Catalog) -> Relation | None:
    if details.relation is None:
        return None
    schemas = {t.schema for t in judged.touches if t.relation == details.relation and t.verb == "export"}
    return catalog.find(next(iter(schemas)) or "", details.relation) if len(schemas) == 1 else None


class _Planner:
    """Decides for one column after the other how it is masked."""

    def __init__(self, judged: JudgedPart, catalog: Catalog, wanted: frozenset[str], counts: Counts) -> None:
        self.judged, self.catalog, self.wanted, self.counts = judged, catalog, wanted, counts
        self.reads = judged.reads_protected(wanted)
        self.trace: Trace | None = traced(judged, catalog, wanted)

    def aligned(self, width: int) -> list[Output | None]:
        """The traced output of each column; None where nothing is known of it."""
        told = self.trace.outputs if self.trace is not None else None
        if told is None:
            return [None] * width
        stars = [place for place, output in enumerate(told) if output.is_open]
        if not stars and len(told) == width:
            return list(told)
        if len(stars) == 1 and len(told) - 1 <= width:
            star = stars[0]
            return [*told[:star], *[told[star]] * (width - len(told) + 1), *told[star + 1 :]]
        everything = frozenset(label for output in told for label in output.labels) | {UNKNOWN}
        return [Output("", everything)] * width

    def name(self, field: Field) -> str:
        relation = self.catalog.by_oid.get(field.table_oid)
        column = _column(relation, field.attribute)
        return f"{relation.schema}.{relation.name}.{column.name}" if relation and column else field.name

    def column(self, field: Field, output: Output | None) -> Chosen | None:
        """The mask of a column and whether it masks every value; None where the column goes on as it is."""
        relation = self.catalog.by_oid.get(field.table_oid)
        if field.attribute < 0:
            return None
        if not field.table_oid or not field.attribute:
            # A whole row comes from a table, but from none of its columns.
            return self._untraced(field, output)
        column = _column(relation, field.attribute)
        if relation is None or column is None:
            return self._whole(field, UNTRACED) if self.reads else self._untraced(field, output)
        hit = sorted(name for name in column.classes if is_wanted((name,), self.wanted))
        if hit:
            return self._by_class(field, column, hit[0])
        if self._is_told_by(relation, output):
            return self._whole(field, UNTRACED)
        return self._by_value(field, column)

    def _is_told_by(self, relation: Relation, output: Output | None) -> bool:
        """Whether an unprotected column was set against a protected one, so that it tells the same."""
        copies = self.judged.part.copies
        if not self.reads or (copies is not None and copies.relation is not None):
            return False
        if self.judged.opaque or self.trace is None or output is None:
            return not any(is_wanted(column.classes, self.wanted) for column in relation.columns)
        labels = output.labels - {DOCUMENT, PART}
        return bool(labels - {UNKNOWN}) or (bool(labels) and self.trace.compares)

    def _by_class(self, field: Field, column: Column, name: str) -> Chosen:
        is_text = field.type_oid in _TEXT or field.type_oid == _NAME or classes.kind_of(column.type_name) == "text"
        is_array = column.type_name.endswith("[]")
        if is_text and not is_array and name not in (UNKNOWN,):
            return Chosen(disguises.by_class(name, self.counts), is_certain=True)
        return self._whole(field, name)

    def _whole(self, field: Field, name: str) -> Chosen:
        shown: bytes | None = None
        if field.type_oid in _TEXT or field.type_oid == _NAME:
            shown = HIDDEN
        elif field.type_oid in (_JSON, _JSONB):
            is_versioned = field.type_oid == _JSONB and field.format == _BINARY
            shown = (b"\x01" if is_versioned else b"") + b'"' + HIDDEN + b'"'
        return Chosen(disguises.whole(name, self.counts, shown), is_certain=True)

    def _untraced(self, field: Field, output: Output | None) -> Chosen | None:
        if self._is_hidden(output):
            return self._whole(field, UNTRACED)
        named = self._named(field, output)
        if named is not None:
            return self._whole(field, named)
        return self._by_value(field, None)

    def _is_hidden(self, output: Output | None) -> bool:
        """Whether a column without origin may hold something of a protected one."""
        if self.judged.opaque or (self.judged.part.explains and self._explains_calls()):
            return True
        if output is not None and PART in output.labels:
            return True
        if not self.reads or self.judged.part.explains:
            return False
        return output is None or bool(output.labels - {DOCUMENT})

    def _explains_calls(self) -> bool:
        """Whether EXPLAIN may show the result of a function, which it computes when that never changes."""
        calls = self.trace.calls if self.trace is not None else {""}
        return any(call.removeprefix("pg_catalog.") not in SAFE_FUNCTIONS for call in calls)

    def _named(self, field: Field, output: Output | None) -> str | None:
        """The class that the name of the column, or of a key taken out of a document, speaks of."""
        if output is not None and not output.labels & {DOCUMENT, UNKNOWN}:
            return None
        literals = [word for text in output.literals for word in re.split(r"[{},.\[\]$\"\s]+", text)] if output else []
        for word in (field.name, *literals):
            found = classes.of_key(word)
            if found is not None and is_wanted((found,), self.wanted) and classes.holds(found, _kind(field)):
                return found
        return None

    def _by_value(self, field: Field, column: Column | None) -> Chosen | None:
        """What may hold anything is judged by what it holds. A class that is shown on purpose is not looked at."""
        kind = field.type_oid
        if column is not None and not set(column.classes) <= {"free_text"}:
            return None
        if kind in (_JSON, _JSONB):
            prefix = int(kind == _JSONB and field.format == _BINARY)
            return Chosen(disguises.document(self.wanted, self.counts, prefix), is_certain=False)
        if kind in _TEXT or (kind == 0 and field.format != _BINARY):
            return Chosen(disguises.by_value(self.wanted, self.counts), is_certain=False, is_by_value=True)
        if kind in _FORMED or kind >= _FIRST_OWN_OID or kind == 0:
            mask = disguises.all_or_nothing(self.wanted, self.counts)
            return Chosen(mask, is_certain=False, is_by_value=True)
        return None


def _kind(field: Field) -> str:
    if field.type_oid in _TEXT:
        return "text"
    if field.type_oid in (_JSON, _JSONB):
        return "document"
    return "number" if field.type_oid in (20, 21, 23, 1700, 700, 701) else "other"


def _column(relation: Relation | None, attribute: int) -> Column | None:
    if relation is None:
        return None
    return next((column for column in relation.columns if column.attnum == attribute), None)


def _keys(
    fields: Sequence[Field], catalog: Catalog, hidden: Collection[int]
) -> tuple[tuple[str, tuple[tuple[int, str], ...]], ...]:
    """Relations whose whole primary key is in the answer, unmasked and once."""
    places: dict[int, dict[int, list[int]]] = {}
    for place, field in enumerate(fields):
        if field.table_oid and place not in hidden:
            places.setdefault(field.table_oid, {}).setdefault(field.attribute, []).append(place)
    found = []
    for oid, by_attribute in places.items():
        relation = catalog.by_oid.get(oid)
        key = relation.primary_key if relation is not None else ()
        if relation is None or not key or any(len(by_attribute.get(number, ())) != 1 for number in key):
            continue
        names = {column.attnum: column.name for column in relation.columns}
        told = tuple((by_attribute[number][0], names[number]) for number in key)
        found.append((f"{relation.schema}.{relation.name}", told))
    return tuple(found)
