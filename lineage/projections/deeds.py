"""What records did: what is reported of it, what the parser finds in the statement, and the touches that follow.

Many records of a part of the log say the same of it: each different deed is looked at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from lineage import statements
from lineage.projections import fields, touches
from lineage.projections.fields import ActionGroup, ChangeGroup, Head, Read, Shared, StatementGroup
from lineage.projections.touches import Touch
from lineage.statements import Statement

CONTEXT = "CONTEXT MESSAGE"
MOST_KEYS = 1000


class Deed(NamedTuple):
    """The statement as it was told and as it was parsed, relations that were reported, and all that was touched."""

    held: StatementGroup
    parsed: Statement | None
    reported: Sequence[str]
    touched: Sequence[Touch]


def read(found: Read) -> Shared[Deed]:
    """The deeds of these records. Raises msgspec.DecodeError where a resource is none."""
    places: dict[Any, int] = {}
    each: list[Deed] = []
    at = []
    relations: dict[bytes, list[str]] = {}
    told = zip(found.heads, found.actions, found.statements, found.changes, strict=True)
    for number, (head, action, held, change) in enumerate(told):
        resources = bytes(action.resources)
        # A row that changed, or that was met, is a deed of its own.
        key = _key(head, action, held, resources) if change is fields.NO_CHANGE else number
        place = places.setdefault(key, len(each))
        if place == len(each):
            if resources not in relations:
                relations[resources] = touches.reported(_resources(resources)) if resources else []
            each.append(_deed(head, action, held, change, relations[resources]))
        at.append(place)
    return Shared(each, at)


_resources = msgspec.json.Decoder(tuple[fields.Resource, ...]).decode
_parameters = msgspec.json.Decoder(tuple[fields.Parameter, ...]).decode


def _key(head: Head, action: ActionGroup, held: StatementGroup, resources: bytes) -> tuple[Any, ...]:
    """All that a deed is made of where no row is told."""
    told = held.statement, bytes(held.parameters), held.error_message, resources
    return *told, head.kind, action.op, action.command == CONTEXT


def _deed(head: Head, action: ActionGroup, held: StatementGroup, change: ChangeGroup, reported: Sequence[str]) -> Deed:
    is_access = head.kind == "query" and action.command != CONTEXT
    parsed = _analysed(held) if is_access else None
    touched: Sequence[Touch] = ()
    if head.kind == "change":
        touched = touches.of_change(action.op, change, reported)
    elif is_access:
        touched = touches.of_query(action.op, change.effects, parsed, reported)
    return Deed(held, parsed, reported, touched)


def _analysed(held: StatementGroup) -> Statement | None:
    """The parsed statement, or None where there is no whole text."""
    statement = held.statement
    if not statement.text or statement.state == "truncated":
        return None
    values = tuple(p.value for p in _parameters(held.parameters)) if held.parameters else ()
    return statements.analyse(statement.text, values)


def gathered(each: Sequence[Deed]) -> dict[str, list[Any]]:
    """What the touches of each deed say of it as a whole, by the columns of `EVENTS`."""
    relations = [deed.reported or _distinct([touch[0] for touch in deed.touched]) for deed in each]
    provenances = [
        ("reported" if deed.reported else "parsed") if named else None
        for deed, named in zip(each, relations, strict=True)
    ]
    return {
        "relations": relations,
        "relations_provenance": provenances,
        "columns": [sorted({column for touch in deed.touched for column in touch[7]}) for deed in each],
        "keys": [_distinct([touch[1] for touch in deed.touched if touch[1]])[:MOST_KEYS] for deed in each],
    }


def _distinct(names: list[str]) -> list[str]:
    return names if len(names) < 2 else list(dict.fromkeys(names))
