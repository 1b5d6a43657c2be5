"""What SQL text does: verbs, relations, columns and the rows that equality fixes (docs/statements.md).

PostgreSQL's own parser reads the text; a visitor of ours names the effects. What hides its effect is `opaque`, with the
reason: a reader must take it for a possible write. Everything here is *parsed*, never reported: views, triggers and
search paths are the database's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lineage.events import Op
from lineage.statements import capture, examples, keys, parser, parts, tags, views
from lineage.statements.builtins import SAFE_FUNCTIONS
from lineage.statements.cache import Cache
from lineage.statements.commands import Commands
from lineage.statements.keys import Key
from lineage.statements.parser import Node
from lineage.statements.queries import CALLS
from lineage.statements.results import CopyDetails, Effect, Part, Statement
from lineage.statements.scope import Reference
from lineage.statements.views import Origins

__all__ = [
    "CALLS", "SAFE_FUNCTIONS", "CopyDetails", "Effect", "Key", "Part", "Statement", "analyse", "analyse_each",
    "analyse_in_session", "analyse_rule", "forget", "origins",
]  # fmt: skip

_WEIGHT: tuple[Op, ...] = (
    "privilege", "ddl", "truncate", "delete", "update", "insert", "import", "procedural", "export", "read",
)  # fmt: skip
"""The op of a statement with several effects is the first of these."""


_cache: Cache[Statement] = Cache(limit_bytes=32 * 1024 * 1024)
_parts: Cache[tuple[Part, ...]] = Cache(limit_bytes=32 * 1024 * 1024)
_trees: Cache[parser.Parsed] = Cache(limit_bytes=32 * 1024 * 1024, at_once=True)
"""What was parsed, for texts with parameters, which come again with other values. Nothing changes a tree."""


def forget() -> None:
    """Drops what is remembered of texts, as after an erasure."""
    _cache.clear()
    _parts.clear()
    _trees.clear()
    examples.forget()


def analyse(sql: str, parameters: Sequence[str | None] = (), dialect: str = "postgresql") -> Statement:
    """What `sql` does, with `parameters` as the values of $1, $2, … (None: unknown). Never raises on any text."""
    key = (sql, tuple(parameters), dialect)
    found = _cache.get(key)
    if found is None:
        known = examples.told(sql, key[1], _looked_at) if dialect == "postgresql" else None
        found = known or _analysed(sql, key[1], dialect, None)
        _cache.put(key, found, _size(sql, found))
    return found


def _looked_at(sql: str, parameters: tuple[str | None, ...]) -> Statement:
    return _analysed(sql, parameters, "postgresql", None)


def analyse_in_session(sql: str, prepared: dict[str, Node], parameters: Sequence[str | None] = ()) -> Statement:
    """Like `analyse`, where PREPARE adds to `prepared` and EXECUTE of what is there is understood. Not cached."""
    return _analysed(sql, tuple(parameters), "postgresql", prepared)


def analyse_each(
    sql: str, parameters: Sequence[str | None] = (), prepared: Mapping[str, str] | None = None
) -> tuple[Part, ...]:
    """The statements of a text one by one, in order. Never raises on any text.

    `prepared` are the texts of prepared statements by name, as PREPARE or the bare statement. A text that cannot be parsed is
    one opaque part; an empty one has no parts.
    """
    seen = prepared if prepared and "execute" in sql.lower() else {}
    key = (sql, tuple(parameters), tuple(sorted(seen.items())))
    found = _parts.get(key)
    if found is None:
        found = _each(sql, key[1], {name: tree for name, text in seen.items() if (tree := _prepared(text))})
        _parts.put(key, found, sum(_size(sql[part.text_start : part.text_end], part.statement) for part in found))
    return found


def origins(query: str) -> tuple[Origins, ...] | None:
    """For each column of a query, the columns its value is made of; None where that cannot be told (docs/statements.md)."""
    try:
        trees = parser.parse(query).trees
        return views.origins(trees[0]) if len(trees) == 1 else None
    except (parser.Unparsable, RecursionError):
        return None


def analyse_rule(definition: str) -> Statement:
    """What the actions of a CREATE RULE do when the rule fires."""
    try:
        parsed = parser.parse(definition)
        actions = tuple(action for tree in parsed.trees for action in tree["RuleStmt"].get("actions", ()))
        return _understood(definition, parser.Parsed(actions, (), parsed.fingerprint, parsed.redacted), Commands(()))
    except (parser.Unparsable, RecursionError, KeyError):
        return _unparsed(definition, "a rule that is not understood")


def _prepared(text: str) -> Node | None:
    """The tree of what a PREPARE, or a statement of the protocol, prepares; None where that is not one statement."""
    try:
        trees = parser.parse(text).trees
    except parser.Unparsable:
        return None
    tree = trees[0] if len(trees) == 1 else {}
    return tree["PrepareStmt"]["query"] if "PrepareStmt" in tree else tree or None


def _parsed(sql: str) -> parser.Parsed:
    if "$" not in sql:
        return parser.parse(sql)
    found = _trees.get(sql)
    if found is None:
        found = parser.parse(sql)
        _trees.put(sql, found, 4096 + 200 * len(sql))
    return found


def _each(sql: str, parameters: tuple[str | None, ...], prepared: dict[str, Node]) -> tuple[Part, ...]:
    try:
        parsed = _parsed(sql)
        if len(parsed.trees) == 1:
            alone = parser.Parsed(parsed.trees, ((0, len(sql)),), parsed.fingerprint, parsed.redacted)
            return (_part(sql, alone, (0, len(sql)), parameters, prepared),)
        return tuple(
            _part(sql[start:end], _parsed(sql[start:end]), (start, end), parameters, prepared)
            for start, end in parsed.spans
        )
    except parser.Unparsable as error:
        return (Part(0, len(sql), _unparsed(sql, str(error))),)


def _part(
    text: str,
    parsed: parser.Parsed,
    place: tuple[int, int],
    parameters: tuple[str | None, ...],
    prepared: dict[str, Node],
) -> Part:
    visitor = Commands(parameters, prepared)
    try:
        statement = _understood(text, parsed, visitor)
        return parts.part(text, place, parsed.trees[0], statement, visitor)
    except RecursionError:
        return Part(*place, _unparsed(text, "nested too deeply"))


def _analysed(
    sql: str, parameters: tuple[str | None, ...], dialect: str, prepared: dict[str, Node] | None
) -> Statement:
    if dialect != "postgresql":
        return _unparsed(sql, "the dialect is not understood")
    try:
        return _understood(sql, parser.parse(sql), Commands(parameters, prepared))
    except parser.Unparsable as error:
        return _unparsed(sql, str(error))
    except RecursionError:
        return _unparsed(sql, "nested too deeply")


def _understood(sql: str, parsed: parser.Parsed, visitor: Commands) -> Statement:
    for tree in parsed.trees:
        visitor.statement(tree)
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
        weakens=capture.weakened(sql, parsed.trees, visitor.parameters),
        functions=tuple(visitor.functions),
        operators=tuple(visitor.operators),
        attributes=tuple(name for name in visitor.attributes if name != "*"),
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
            unconditional=any(item.unconditional for item in items),
            possible=tuple(dict.fromkeys(column for item in items for column in item.possible)),
        )
        for name, items in grouped.items()
    )


def _size(sql: str, found: Statement) -> int:
    """Roughly what an analysis holds in memory, in bytes."""
    pairs = sum(len(key) for effect in found.effects for key in effect.keys or ())
    return 2048 + 4 * len(sql) + 200 * pairs
