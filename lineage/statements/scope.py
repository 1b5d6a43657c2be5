"""What a query's names mean: references to relations, and the scopes in which aliases and columns are looked up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lineage.statements import keys
from lineage.statements.parser import Node


@dataclass(eq=False, slots=True)
class Reference:
    """One place where a statement names a relation, with what is learnt about it on the way."""

    verb: str
    schema: str | None = None
    relation: str | None = None
    columns: dict[str, None] = field(default_factory=dict)
    written: dict[str, None] = field(default_factory=dict)
    fixed: keys.Alternatives | None = None
    possible: dict[str, None] = field(default_factory=dict)
    """Columns named without a table where several relations stand side by side."""
    unconditional: bool = False

    def name(self, *columns: str) -> None:
        self.columns.update(dict.fromkeys(columns))

    def write(self, *columns: str) -> None:
        self.name(*columns)
        self.written.update(dict.fromkeys(columns))


@dataclass(slots=True)
class Scope:
    """The FROM items of one query level. An item that is no relation (subselect, function, CTE) has no reference."""

    parent: Scope | None
    ctes: frozenset[str] = frozenset()
    items: list[tuple[str | None, Reference | None]] = field(default_factory=list)

    def outward(self) -> Iterator[Scope]:
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def column(self, column_ref: Node) -> tuple[Reference, str] | None:
        """Reference and column of a ColumnRef at this level; None where that cannot be told."""
        names = names_of(column_ref["fields"])
        if "*" in names:
            return None
        reference = self._of_name(names)
        return None if reference is None else (reference, names[-1])

    def note_column(self, column_ref: Node) -> None:
        """Writes a named column, or `*`, down at the relation it belongs to, looking outward."""
        names = names_of(column_ref["fields"])
        if names == ["*"]:
            for _, reference in self.items:
                if reference is not None:
                    reference.name("*")
            return
        if len(names) == 1:
            self._note_possible(names[0])
        for scope in self.outward():
            reference = scope._of_name(names)
            if reference is not None:
                reference.name(names[-1])
            if reference is not None or (len(names) == 1 and scope.items):
                return

    def _of_name(self, names: list[str]) -> Reference | None:
        """The reference that `column`, `alias.column` or `schema.table.column` belongs to at this level."""
        if len(names) == 1:
            return self.items[0][1] if len(self.items) == 1 else None
        for alias, reference in self.items:
            if alias == names[-2] and (len(names) == 2 or (reference is not None and reference.schema == names[-3])):
                return reference
        return None

    def _note_possible(self, name: str) -> None:
        """A name alone may be a column of any relation in sight, or the whole row of the one that it names."""
        for scope in self.outward():
            for alias, reference in scope.items:
                if reference is not None and alias == name:
                    reference.name("*")
                elif reference is not None and (scope is not self or len(self.items) > 1):
                    reference.possible[name] = None


def names_of(fields: list[Node]) -> list[str]:
    """The parts of a qualified name; a star is `*`."""
    return [part["String"].get("sval", "") if "String" in part else "*" for part in fields]
