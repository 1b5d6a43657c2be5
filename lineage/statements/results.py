"""What an analysis says: effects, statements, and the parts of a text."""

from __future__ import annotations

from typing import Literal

import msgspec

from lineage.events import Op
from lineage.statements.keys import Key

Setting = tuple[str, str | None, bool]
"""Name in lower case, value as the server's own text (None: back to what it was at the start), whether SET LOCAL."""


class Effect(msgspec.Struct, frozen=True):
    """What a statement does to one relation in one way.

    `verb` is read, insert, update, delete, truncate, ddl, privilege, export, import or procedural. `schema` is None where
    the text names none, `relation` None where the effect is on no relation. `columns` are those named for the relation
    where that can be told (`*` for all), `written` those it assigns, `possible` those named without a table among several.
    `keys` is None where the rows are unknown; else each touched row matches at least one key, and all keys name the same
    columns. `unconditional`: an update or delete whose condition is missing, constant, or says nothing about the rows.
    """

    verb: str
    schema: str | None = None
    relation: str | None = None
    columns: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    keys: tuple[Key, ...] | None = None
    unconditional: bool = False
    possible: tuple[str, ...] = ()


class Statement(msgspec.Struct, frozen=True):
    """The analysis of one text, which may hold several statements.

    `opaque` with `reason`: the text does, or may do, more than `effects` say. `fingerprint` is the same for texts that
    differ in literals only, None where the text cannot be parsed. `redacted` has no literals and no comments. `calls` are
    functions that are not known to be harmless, `functions` (schema and name) and `operators` all that are named, as written;
    `attributes` are names after a dot, which may be columns or call functions. `emitted_message` is the content of a context
    message, `role_set` the role that SET ROLE or SET SESSION AUTHORIZATION chose (`none` for RESET). `weakens` says in
    phrases what the text takes away from auditing and change capture.
    """

    effects: tuple[Effect, ...]
    fingerprint: str | None
    opaque: bool
    redacted: str
    command: str = ""
    op: Op = "other"
    reason: str | None = None
    calls: tuple[str, ...] = ()
    emitted_message: str | None = None
    role_set: str | None = None
    weakens: tuple[str, ...] = ()
    functions: tuple[tuple[str | None, str], ...] = ()
    operators: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()


class CopyDetails(msgspec.Struct, frozen=True):
    """A COPY: `direction` out or in, of a relation with its named `columns`, or of `query` (its text).

    `place` is client, file or program. The rest is how values are written; None means PostgreSQL's default for `format`.
    """

    direction: Literal["out", "in"]
    schema: str | None = None
    relation: str | None = None
    columns: tuple[str, ...] = ()
    query: str | None = None
    place: Literal["client", "file", "program"] = "client"
    format: str = "text"
    header: bool = False
    delimiter: str | None = None
    null: str | None = None
    quote: str | None = None
    escape: str | None = None
    encoding: str | None = None


class Part(msgspec.Struct, frozen=True):
    """One statement of a text, from character `text_start` up to `text_end`.

    `tag` is its command; `commands` adds finer names to it such as `SET search_path`, `COPY TO PROGRAM`,
    `ALTER TABLE DROP COLUMN`. `prepares` to `deallocates` are names of prepared statements and cursors (`*`: all of them).
    `creates` are the relations it makes, by a new name too: schema, name, whether temporary.
    `is_uncounted`: rows change in it that its tag does not count, within WITH or EXPLAIN ANALYZE.
    """

    text_start: int
    text_end: int
    statement: Statement
    tag: str = ""
    commands: tuple[str, ...] = ()
    is_transaction_control: bool = False
    sets: tuple[Setting, ...] = ()
    prepares: str | None = None
    executes: str | None = None
    declares: str | None = None
    fetches: str | None = None
    closes: str | None = None
    deallocates: str | None = None
    copies: CopyDetails | None = None
    explains: bool = False
    explains_analyze: bool = False
    creates: tuple[tuple[str | None, str, bool], ...] = ()
    is_uncounted: bool = False
