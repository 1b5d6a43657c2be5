"""An object of another product: each member in the type that is wanted, else absent. Nothing here raises but `object_of`."""

from __future__ import annotations

import datetime as dt
from typing import Any

from lineage import events
from lineage.events import Parameter, Principal, Statement, format_time
from lineage.sources import feed, pgaudit, sql_words
from lineage.sources.feed import Item, JsonRefused, short
from lineage.sources.pgoutput import without_nul

LIST_LIMIT = 256
PARAMETER_LIMIT_BYTES = 4096
SYSTEMS = {
    "postgres": "postgresql", "postgresql": "postgresql", "cockroachdb": "cockroachdb", "redshift": "redshift",
    "mysql": "mysql", "mariadb": "mariadb", "mssql": "sqlserver", "sqlserver": "sqlserver", "oracledb": "oracle",
    "oracle": "oracle", "mongodb": "mongodb", "mongo": "mongodb",
}  # fmt: skip
"""What products call a database system, and what it is called here."""


class Members:
    """One JSON object whose writer is not ours."""

    def __init__(self, said: Any) -> None:
        self.said: dict[str, Any] = said if isinstance(said, dict) else {}

    def __bool__(self) -> bool:
        return bool(self.said)

    def text(self, *names: str) -> str | None:
        """The first of these members that is text or a number and not empty."""
        for name in names:
            value = self.said.get(name)
            if isinstance(value, str) and value:
                return value
            if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**30:
                return str(value)
        return None

    def name(self, *names: str) -> str | None:
        return short(self.text(*names))

    def number(self, name: str) -> int | None:
        """A count: a whole number that is not negative and within 2^53."""
        value = self.said.get(name)
        is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
        return value if is_count else None

    def flag(self, name: str) -> bool | None:
        value = self.said.get(name)
        return value if isinstance(value, bool) else None

    def part(self, name: str) -> Members:
        return Members(self.said.get(name))

    def parts(self, name: str) -> list[Members]:
        value = self.said.get(name)
        return [Members(one) for one in value[:LIST_LIMIT] if isinstance(one, dict)] if isinstance(value, list) else []

    def names(self, name: str) -> tuple[str, ...]:
        value = self.said.get(name)
        texts = value[:LIST_LIMIT] if isinstance(value, list) else ()
        return tuple(one[: feed.NAME_LIMIT] for one in texts if isinstance(one, str) and one)

    def time(self, *names: str) -> str | None:
        """The first of these that is a time with a zone; the year 1 is how Go writes that there is none."""
        for name in names:
            try:
                found = feed.when(self.text(name))[0]
            except ValueError:
                continue
            if found is not None and found >= "1970":
                return found
        return None


def object_of(item: Item, code: str) -> tuple[Members, str, tuple[str, ...]]:
    """The object that an item is, its hash and flags. Raises `JsonRefused`, for what comes twice too."""
    said, sha256, flags = feed.json_item(item.raw)
    if not isinstance(said, dict):
        raise JsonRefused(code, "an item is a JSON object")
    if "doubled_key" in flags:
        raise JsonRefused("doubled-key", "a key comes twice in one object")
    if b"\\u0000" in item.raw:
        said, flags = without_nul(said), (*flags, "nul_removed")
    return Members(said), sha256, flags


def person(text: str | None, kind: Any = None) -> Principal | None:
    """A person, service or agent as a product names it: an e-mail address is one too."""
    return Principal(id=short(text), email=short(feed.email(text)), type=kind) if text else None


def statement(text: str | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What a statement's text gives an event (`statement`, `command`, `op`), and its flags."""
    if not text:
        return {"op": "procedural"}, ()
    shown, flags = pgaudit.bounded(text)
    word, op = sql_words.command(text)
    return {"statement": shown, "command": word, "op": op or "procedural"}, flags


def withheld() -> Statement:
    """Stands for a text that the product does not tell."""
    return Statement(state="withheld", redaction="withheld_by_source")


def parameters(values: Any) -> tuple[Parameter, ...]:
    """Bind values as text; each at most 4 KiB, at most 256 of them."""
    found = []
    for position, value in enumerate(values[:LIST_LIMIT] if isinstance(values, list) else (), 1):
        if value is None:
            found.append(Parameter(position=position, state="null"))
            continue
        raw = (value if isinstance(value, str) else str(value)).encode("utf-8", "surrogatepass")
        state: Any = "present" if len(raw) <= PARAMETER_LIMIT_BYTES else "truncated"
        found.append(Parameter(position=position, state=state, value=events.cut(raw, PARAMETER_LIMIT_BYTES)))
    return tuple(found)


def moment(number: int, per_second: int) -> str | None:
    """A count of fractions of a second since 1970 as the model's time; none for 0 and outside the calendar."""
    try:
        when = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=number * 1_000_000 // per_second)
    except OverflowError:
        return None
    return format_time(when) if number > 0 else None
