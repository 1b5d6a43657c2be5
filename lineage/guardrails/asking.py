"""What the rules are asked about a statement, and what they answer."""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal["allow", "block", "approve", "limit", "mask"]
UNKNOWN = "unknown"
"""The class of a column, and of a relation, that the catalog does not know: rules that forbid take it for any."""


class Touch(msgspec.Struct, frozen=True):
    """What a statement does to one relation in one way.

    `verb` is one of a statement's verbs. `kind` is the relation's (table, view, …). `keys` counts the keys that fix the rows,
    None where none does. `certainty` is exact, assumed (the name was not found, or a part of what stands behind a relation)
    or unknown (the search path is not known). `classes` are those of the columns.
    """

    verb: str
    database: str = ""
    schema: str | None = None
    relation: str | None = None
    kind: str | None = None
    columns: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    keys: int | None = None
    certainty: Literal["exact", "assumed", "unknown"] = "exact"
    classes: tuple[str, ...] = ()
    unconditional: bool = False

    @property
    def name(self) -> str:
        """`schema.relation`; empty where it is on no relation."""
        if self.relation is None:
            return f"{self.schema}.*" if self.schema else ""
        return f"{self.schema}.{self.relation}" if self.schema else self.relation


class Asked(msgspec.Struct, frozen=True):
    """A statement, and who wants it where. `commands` are command tags and finer names of what it does."""

    actor_id: str
    actor_type: str
    actor_email: str | None = None
    roles: tuple[str, ...] = ()
    on_behalf_of: str | None = None
    environment: str = ""
    datasource: str = ""
    database: str = ""
    account: str = ""
    purpose: str | None = None
    ticket: str | None = None
    commands: tuple[str, ...] = ()
    touches: tuple[Touch, ...] = ()
    opaque: bool = False
    reason: str | None = None
    weakens: tuple[str, ...] = ()


class Decision(msgspec.Struct, frozen=True):
    """What the rules say: the gravest outcome of all that match, and by which rule (empty where none does).

    `sentence` says it in words, `object` on what, `hint` what to do instead. `rows_over` caps the rows of an outcome limit or
    approve. `mask` are the classes to mask whatever the outcome (`*`: every class). `matched` are all rules that match.
    """

    outcome: Outcome
    rule: str
    version: int
    sentence: str
    hint: str
    object: str
    sqlstate: str = "42501"
    rows_over: int | None = None
    mask: frozenset[str] = frozenset()
    matched: tuple[tuple[str, str], ...] = ()
