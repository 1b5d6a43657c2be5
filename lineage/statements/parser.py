"""The one door to PostgreSQL's parser: text in, plain dictionaries out, and no text takes the process down.

The parser recurses in C, so deep text overflows an ordinary thread's stack and kills the process. It therefore runs in one
long-lived thread with a large stack; a text too short to be deep runs where it is asked, which saves the way there and back.
Its JSON output is used, because protobuf refuses honest statements of more than
about 47 chained operators.
"""

from __future__ import annotations

import os
import re
import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import postgast  # noqa: TID251
from postgast import native  # noqa: TID251
from postgast.errors import check_error  # noqa: TID251
from postgast.pg_query_pb2 import Token  # noqa: TID251

from lineage.events import STATEMENT_LIMIT_BYTES

T = TypeVar("T")
Node = dict[str, Any]
"""A parse-tree node: its fields, or where any node may stand, one pair of type name and fields."""

STACK_BYTES = 64 * 1024 * 1024
SHORT = 1024
"""Bytes of text that half a MiB of stack is enough for, whatever they say (a test tries what nests most densely)."""
ORDINARY_STACK_BYTES = 4 * 1024 * 1024
COMMENT_LIMIT = 100
"""Nested comments cost quadratic time: 64 KiB of them take 1.5 s."""

_COMMENTS = frozenset({Token.SQL_COMMENT, Token.C_COMMENT})
_LITERALS = frozenset({Token.SCONST, Token.USCONST, Token.BCONST, Token.XCONST, Token.FCONST, Token.ICONST})


_PLAIN_NUMBER = re.compile(r"(?<![\w.$])[0-9]+(?:\.[0-9]+)?(?![\w.])")
_OTHER_NUMBER = re.compile(r"(?:^|[^A-Za-z0-9_$])[0-9]")
_PLAIN_REST = re.compile(r"(?:[A-Za-z0-9_ \n\t\r,;*=<>+%().?/|:!~@#&^\[\]-]|\$[0-9])*+")
_PREFIX = re.compile(r"[\w&$]\Z")


class Unparsable(Exception):
    """The text is not understood; the message says why and quotes nothing of it."""


@dataclass(frozen=True)
class Parsed:
    """The trees of the statements in one text with their places (characters from, up to), its fingerprint, and the text
    without literals and comments."""

    trees: tuple[Node, ...]
    spans: tuple[tuple[int, int], ...]
    fingerprint: str
    redacted: str


class _Worker:
    """The parsing thread. Started at first use, again in a forked child (threads do not survive a fork)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def run(self, function: Callable[[str], T], text: str) -> T:
        return (self._executor or self._start()).submit(function, text).result()

    def _start(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None:
                executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sql-parser")
                before = threading.stack_size(STACK_BYTES)
                try:
                    # The thread starts with the first task, so this decides its stack.
                    executor.submit(bool).result()
                finally:
                    threading.stack_size(before)
                self._executor = executor
            return self._executor


_worker = _Worker()


def _has_room() -> bool:
    """Whether ordinary threads of this process have several times the stack that a short text can need."""
    soft = resource.getrlimit(resource.RLIMIT_STACK)[0]
    # Without a limit the C library chooses, and not the same everywhere.
    return soft != resource.RLIM_INFINITY and soft >= ORDINARY_STACK_BYTES


_SHORT = SHORT if _has_room() else 0


def _after_fork() -> None:
    global _worker
    _worker = _Worker()


os.register_at_fork(after_in_child=_after_fork)


def parse(text: str) -> Parsed:
    """Trees, fingerprint and redacted form of `text`. Raises `Unparsable`."""
    _refuse_dangerous(text)
    try:
        return _parse(text) if len(text) <= _SHORT // 4 or len(text.encode()) <= _SHORT else _worker.run(_parse, text)
    except postgast.PgQueryError as error:
        raise Unparsable("PostgreSQL's grammar does not know this statement") from error
    except (RecursionError, ValueError) as error:
        # ValueError: msgspec's and protobuf's decode errors, and text that is not Unicode (lone surrogates).
        raise Unparsable("the statement is nested too deeply or is not Unicode text") from error


def inner(text: str) -> str:
    """What stands between the first bracket of a text that parses and the one that closes it."""
    return _worker.run(_inner, text)


def _inner(text: str) -> str:
    depth, start, raw = 0, 0, text.encode()
    for token in postgast.scan(text).tokens:
        if token.token == Token.ASCII_40:
            depth, start = depth + 1, start or token.end
        elif token.token == Token.ASCII_41:
            depth -= 1
            if depth == 0:
                return raw[start : token.start].decode().strip()
    return ""


def _refuse_dangerous(text: str) -> None:
    if len(text) > STATEMENT_LIMIT_BYTES or len(text.encode("utf-8", "replace")) > STATEMENT_LIMIT_BYTES:
        raise Unparsable("longer than 64 KiB")
    if "\0" in text:
        # The parser would stop at the first NUL and call the rest unseen.
        raise Unparsable("holds a NUL character")
    if text.count("/*") > COMMENT_LIMIT:
        raise Unparsable("opens more than 100 comments")


def _parse(text: str) -> Parsed:
    raw = text.encode()
    result = native.lib.pg_query_parse(raw)
    try:
        check_error(result)
        tree = msgspec.json.decode(result.parse_tree)
    finally:
        native.lib.pg_query_free_parse_result(result)
    statements = tree.get("stmts", ())
    trees = tuple(statement.get("stmt", {}) for statement in statements)
    return Parsed(trees, tuple(_spans(statements, raw)), postgast.fingerprint(text).hex, _redacted(text, raw))


def _spans(statements: Sequence[Node], raw: bytes) -> Iterator[tuple[int, int]]:
    """Places in characters, from the places in bytes; a length that is not given means up to the end."""
    for statement in statements:
        start = statement.get("stmt_location", 0)
        end = start + statement["stmt_len"] if "stmt_len" in statement else len(raw)
        first = len(raw[:start].decode())
        yield first, first + len(raw[start:end].decode())


def _redacted(text: str, raw: bytes) -> str:
    """The text with `?` for every literal, without comments, with single spaces where anything was blank."""
    return _redacted_plainly(text) or _redacted_by_token(text, raw)


def _redacted_plainly(text: str) -> str | None:
    """The same for a text in which literals are found without the lexer; None where anything but the plainest stands."""
    if text.startswith("/*"):
        comment, _, text = text[2:].partition("*/")
        text = comment + text if "/*" in comment else text
    if "--" in text or "/*" in text:
        return None
    parts = text.split("'")[::2]
    # Strings side by side may be one, and what stands right before one may say how it is written.
    if text.count("'") % 2 or any(not p or p.isspace() for p in parts[1:-1]) or any(map(_PREFIX.search, parts[:-1])):
        return None
    found = _PLAIN_NUMBER.sub("?", "?".join(parts))
    return None if _OTHER_NUMBER.search(found) or not _PLAIN_REST.fullmatch(found) else " ".join(found.split())


def _redacted_by_token(text: str, raw: bytes) -> str:
    parts: list[bytes] = []
    before = 0
    for token in postgast.scan(text).tokens:
        kind, start, end = token.token, token.start, token.end
        if kind in _COMMENTS:
            continue
        if start > before and parts:
            parts.append(b" ")
        parts.append(b"?" if kind in _LITERALS else raw[start:end])
        before = end
    return b"".join(parts).decode()
