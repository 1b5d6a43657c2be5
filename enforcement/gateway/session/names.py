"""Prepared statements and portals by name, right also while their answers are still on the way."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from enforcement.gateway.effects import Catalog, Scope
from enforcement.gateway.messages import Field
from enforcement.gateway.session.judging import Judgement
from enforcement.gateway.session.outputs import Decided
from enforcement.gateway.session.results import Execution

T = TypeVar("T")


class Prepared(msgspec.Struct):
    """A prepared statement. `ours`: a SET touchstone.* that never reaches the server. `by_sql`: its name, made with PREPARE.

    `temp` and `catalog`: the temporary tables and the catalog that there were when it was made.
    """

    text: str
    temp: frozenset[str]
    catalog: Catalog
    types: tuple[int, ...] = ()
    ours: dict[str, str | None] | None = None
    by_sql: str | None = None


class Portal(msgspec.Struct):
    """A bound statement. Its names mean what they meant in `scope`, when it was bound.

    `asked` is what else its judgement was made with; `execution` one that is suspended.
    """

    prepared: Prepared
    values: tuple[bytes | None, ...]
    formats: tuple[int, ...]
    scope: Scope
    judgement: Judgement | None
    asked: tuple[object, ...] = ()
    decided: Decided | None = None
    fields: tuple[Field, ...] | None = None
    execution: Execution | None = None


class Change(Generic[T]):
    """A change that the server has not confirmed yet. `value` None: the name is given up."""

    def __init__(self, name: str, value: T | None) -> None:
        self.name, self.value = name, value


class Names(Generic[T]):
    """What each name means for the next message, and falls back to when a change on the way fails."""

    def __init__(self) -> None:
        self._known: dict[str, T] = {}
        self._coming: list[Change[T]] = []

    def get(self, name: str) -> T | None:
        for change in reversed(self._coming):
            if change.name == name:
                return change.value
        return self._known.get(name)

    def change(self, name: str, value: T | None) -> Change[T]:
        """What was just sent; then `confirm` or `forget` it."""
        made = Change(name, value)
        self._coming.append(made)
        return made

    def confirm(self, change: Change[T]) -> None:
        if change in self._coming:
            self._coming.remove(change)
        self.set(change.name, change.value)

    def forget(self, change: Change[T]) -> None:
        if change in self._coming:
            self._coming.remove(change)

    def set(self, name: str, value: T | None) -> None:
        if value is None:
            self._known.pop(name, None)
        else:
            self._known[name] = value

    def clear(self, keep_unnamed: bool = False) -> None:
        """All are gone; the unnamed one may stay."""
        unnamed = self._known.get("") if keep_unnamed else None
        self._known.clear()
        self.set("", unnamed)

    def items(self) -> list[tuple[str, T]]:
        """What is known or on its way."""
        found = dict(self._known)
        for change in self._coming:
            if change.value is None:
                found.pop(change.name, None)
            else:
                found[change.name] = change.value
        return list(found.items())
