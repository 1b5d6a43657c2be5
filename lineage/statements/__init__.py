"""What SQL text does: verbs, relations, columns and the rows that equality fixes (docs/statements.md).

PostgreSQL's own parser reads the text; a visitor of ours names the effects. What hides its effect is `opaque`, with the
reason: a reader must take it for a possible write. Everything here is *parsed*, never reported: views, triggers and
search paths are the database's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lineage.events import Op
from lineage.statements import capture, keys, parser, tags
from lineage.statements.cache import Cache
from lineage.statements.commands import Commands
from lineage.statements.keys import Key
from lineage.statements.parser import Node
from lineage.statements.scope import Reference

__all__ = ["Effect", "Key", "Statement", "analyse", "analyse_in_session", "forget"]

_WEIGHT: tuple[Op, ...] = (
    "privilege", "ddl", "truncate", "delete", "update", "insert", "import", "procedural", "export", "read",
)  # fmt: skip
"""The op of a statement with several effects is the first of these."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a statement does to one relation in one way.

    `verb` is read, insert, update, delete, truncate, ddl, privilege, export, import or procedural. `schema` is None where
    the text names none, `relation` None where the effect is on no relation. `columns` are those named for the relation
    where that can be told (`*` for all), `written` those it assigns. `keys` is None where the rows are unknown; else each
    touched row matches at least one key, and all keys name the same columns.
    """

    verb: str
    schema: str | None = None
    relation: str | None = None
    columns: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    keys: tuple[Key, ...] | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """The analysis of one text, which may hold several statements.

    `opaque` with `reason`: the text does, or may do, more than `effects` say. `fingerprint` is the same for texts that
    differ in literals only, None where the text cannot be parsed. `redacted` has no literals and no comments. `calls` are
    functions that are not known to be harmless. `emitted_message` is the content of a context message, `role_set` the
    role that SET ROLE or SET SESSION AUTHORIZATION chose (`none` for RESET). `weakens` says in phrases what the text takes
    away from auditing and change capture.
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


_cache: Cache[Statement] = Cache(limit_bytes=32 * 1024 * 1024)


def forget() -> None:
    """Drops what is remembered of texts, as after an erasure."""
    _cache.clear()


def analyse(sql: str, parameters: Sequence[str | None] = (), dialect: str = "postgresql") -> Statement:
    """What `sql` does, with `parameters` as the values of $1, $2, … (None: unknown). Never raises on any text."""
    key = (sql, tuple(parameters), dialect)
    found = _cache.get(key)
    if found is None:
        found = _analysed(sql, key[1], dialect, None)
        _cache.put(key, found, _size(sql, found))
    return found


def analyse_in_session(sql: str, prepared: dict[str, Node], parameters: Sequence[str | None] = ()) -> Statement:
    """Like `analyse`, where PREPARE adds to `prepared` and EXECUTE of what is there is understood. Not cached."""
    return _analysed(sql, tuple(parameters), "postgresql", prepared)


def _analysed(
    sql: str, parameters: tuple[str | None, ...], dialect: str, prepared: dict[str, Node] | None
) -> Statement:
    if dialect != "postgresql":
        return _unparsed(sql, "the dialect is not understood")
    visitor = Commands(parameters, prepared)
    try:
        parsed = parser.parse(sql)
        for tree in parsed.trees:
            visitor.statement(tree)
    except parser.Unparsable as error:
        return _unparsed(sql, str(error))
    except RecursionError:
        return _unparsed(sql, "nested too deeply")
    effects = _effects(visitor.references)
    return Statement(
        effects=effects,
        fingerprint=parsed.fingerprint,
        opaque=bool(visitor.reasons),
        redacted=parsed.redacted,
        command="; ".join(dict.fromkeys(tags.tag(tree) for tree in parsed.trees))[:512],
        op=_op(effects, bool(visitor.reasons), parsed.trees),
        reason="; ".join(visitor.reasons) or None,
        calls=tuple(visitor.calls),
        emitted_message=visitor.emitted,
        role_set=visitor.role_set,
        weakens=capture.weakened(sql, parsed.trees, parameters),
    )


def _unparsed(sql: str, reason: str) -> Statement:
    size = len(sql.encode("utf-8", "replace"))
    return Statement((), None, True, f"<unparsed statement, {size} bytes>", op="procedural", reason=reason)


def _op(effects: tuple[Effect, ...], opaque: bool, trees: Sequence[Node]) -> Op:
    verbs = {effect.verb for effect in effects} | ({"procedural"} if opaque else set())
    if any("SelectStmt" in tree or "FetchStmt" in tree for tree in trees):
        verbs.add("read")
    return next((op for op in _WEIGHT if op in verbs), "other")


def _effects(references: Sequence[Reference]) -> tuple[Effect, ...]:
    """One effect per relation and verb, in the order of first mention."""
    grouped: dict[tuple[str, str | None, str | None], list[Reference]] = {}
    for reference in references:
        grouped.setdefault((reference.verb, reference.schema, reference.relation), []).append(reference)
    return tuple(
        Effect(
            *name,
            columns=tuple(dict.fromkeys(column for item in items for column in item.columns)),
            written=tuple(dict.fromkeys(column for item in items for column in item.written)),
            keys=keys.frozen(keys.any_of([item.fixed for item in items])),
        )
        for name, items in grouped.items()
    )


def _size(sql: str, found: Statement) -> int:
    """Roughly what an analysis holds in memory, in bytes."""
    pairs = sum(len(key) for effect in found.effects for key in effect.keys or ())
    return 2048 + 4 * len(sql) + 200 * pairs
