"""The fields of a search, and the DuckDB condition of each over `activity` (by event) or `touches` (by touch)."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from lineage import events
from lineage.search import guide
from lineage.search.terms import Node, Not, Or, Query, Term

By: TypeAlias = Literal["event", "touch"]
Sql: TypeAlias = tuple[str, list[Any]]
Ask: TypeAlias = Callable[[Term, By, dt.datetime], Sql]

NUMBER_LIMIT = 2**53


class ValueUnknown(ValueError):
    """A value outside a closed vocabulary; `nearest` is the one that was probably meant, or ""."""

    def __init__(self, message: str, nearest: str) -> None:
        super().__init__(message)
        self.nearest = nearest


@dataclass(frozen=True)
class Field:
    """One field: what a reader may write after its colon. `values` closes the vocabulary when not empty."""

    name: str
    description: str
    ask: Ask
    values: tuple[str, ...] = ()
    measured: bool = False
    comparable: bool = False
    of_column: bool = False

    @property
    def label(self) -> str:
        return f"{self.name}.COLUMN" if self.of_column else self.name


def fields() -> list[tuple[str, str]]:
    """Every field with one line of description, for completion and help."""
    return [(field.label, field.description) for field in FIELDS.values()]


def to_sql(query: Query, by: By = "event", now: dt.datetime | None = None) -> Sql:
    """A DuckDB condition over the relation `activity` (by event) or `touches` (by touch), and its parameters.

    Relative times count from `now` (aware; the clock when None). A condition on something that a record does not
    know is not met, and its negation is: `-ticket:*` finds records without a ticket.
    """
    if query.root is None:
        return "true", []
    return _ask(query.root, by, now or dt.datetime.now(dt.UTC))


def check(term: Term) -> None:
    """Refuses with ValueError a value that the field cannot have, so that `to_sql` cannot fail later."""
    if not term.name:
        if not term.value:
            raise ValueError("A star alone asks for nothing; name a field that must be known, such as ticket:*")
        return
    field = FIELDS[term.name]
    if field.measured and term.prefix:
        raise ValueError(f"{field.label} takes no star")
    try:
        field.ask(term, "event", dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    except OverflowError:
        raise ValueError(f"This value of {field.label} is out of range") from None
    if field.values and not any(_in_vocabulary(value, term) for value in field.values):
        near = guide.nearest(term.value, field.values)
        probably = f"; the nearest is {near}" if near else ""
        raise ValueUnknown(
            f"{field.label} has no value {term.value}; it is one of {', '.join(field.values)}{probably}", near
        )


def _in_vocabulary(value: str, term: Term) -> bool:
    wanted = term.value.lower()
    return value.startswith(wanted) if term.prefix else value == wanted


def _ask(node: Node, by: By, now: dt.datetime) -> Sql:
    if isinstance(node, Term):
        return FIELDS[node.name].ask(node, by, now) if node.name else _word(node, by)
    if isinstance(node, Not):
        # NULL is turned into false under a negation only: elsewhere a bare comparison lets DuckDB prune files.
        text, values = _ask(node.part, by, now)
        return f"(not coalesce({text}, false))", values
    return _joined([_ask(part, by, now) for part in node.parts], " or " if isinstance(node, Or) else " and ")


def _joined(conditions: list[Sql], word: str = " or ") -> Sql:
    return "(" + word.join(text for text, _ in conditions) + ")", [v for _, values in conditions for v in values]


def _matches(expression: str, term: Term, *, fold: bool = True) -> Sql:
    """`expression` equals the value, or starts with it; a lone star asks for anything known."""
    if term.prefix and not term.value:
        return f"({expression} is not null)", []
    left, right = (f"lower({expression})", "lower(?)") if fold else (expression, "?")
    return (f"starts_with({left}, {right})" if term.prefix else f"({left} = {right})"), [term.value]


def _contains(expression: str, term: Term) -> Sql:
    if not term.value:
        return f"({expression} is not null)", []
    return f"contains(lower({expression}), lower(?))", [term.value]


def _in_list(column: str, condition: Callable[[str], Sql]) -> Sql:
    text, values = condition("entry")
    return f"list_bool_or(list_transform({column}, lambda entry: {text}))", values


def _whole_or_after(expression: str, separator: str, term: Term, *, fold: bool = True) -> Sql:
    """The whole name, or what follows its first separator: `customers` for public.customers."""
    after = f"substr({expression}, strpos({expression}, '{separator}') + 1)"
    return _joined([_matches(expression, term, fold=fold), _matches(after, term, fold=fold)])


def _text(column: str, *, fold: bool = True) -> Ask:
    return lambda term, by, now: _matches(column, term, fold=fold)


def _any_text(*columns: str) -> Ask:
    return lambda term, by, now: _joined([_matches(column, term) for column in columns])


def _prose(column: str) -> Ask:
    return lambda term, by, now: _contains(column, term)


def _listed(column: str) -> Ask:
    return lambda term, by, now: _in_list(column, lambda entry: _matches(entry, term))


def _listed_names(column: str) -> Ask:
    return lambda term, by, now: _in_list(column, lambda entry: _whole_or_after(entry, ".", term))


def _person(*columns: str) -> Ask:
    """Identifier, name or address without regard to case, or the part of an address before the @."""
    local = [f"split_part({column}, '@', 1)" for column in columns]
    return _any_text(*columns, *local)


def _session(term: Term, by: By, now: dt.datetime) -> Sql:
    return _whole_or_after("session", "~", term, fold=False)


def _relation(term: Term, by: By, now: dt.datetime) -> Sql:
    if by == "touch":
        return _whole_or_after("relation", ".", term)
    return _in_list("relations", lambda entry: _whole_or_after(entry, ".", term))


def _row_key(term: Term, by: By) -> Sql:
    if by == "touch":
        return _matches('"key"', term, fold=False)
    if not term.prefix:
        return "list_contains(keys, ?)", [term.value]
    return _in_list("keys", lambda entry: _matches(entry, term, fold=False))


def _word(term: Term, by: By) -> Sql:
    """A bare word: anywhere inside prose and names, but whole (or by prefix) for tickets and row keys."""
    relation = _contains("relation", term) if by == "touch" else _in_list("relations", lambda e: _contains(e, term))
    prose = [_contains(column, term) for column in ("statement", "who_name", "error_message")]
    return _joined([*prose, relation, _matches("ticket", term), _row_key(term, by)])


def _policy(term: Term, by: By, now: dt.datetime) -> Sql:
    def entry_matches(entry: str) -> Sql:
        return _joined([_matches(entry, term), _matches(f"split_part({entry}, '/', 1)", term)])

    return _in_list("policies", entry_matches)


def _error(term: Term, by: By, now: dt.datetime) -> Sql:
    return _joined([_matches("error_code", term), _contains("error_message", term)])


def _image(column: str) -> Ask:
    def ask(term: Term, by: By, now: dt.datetime) -> Sql:
        wanted = Term(term.name, f"{term.column}={term.value}", prefix=term.prefix)
        return _in_list(column, lambda entry: _matches(entry, wanted, fold=False))

    return ask


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,16}", text) or int(text) > NUMBER_LIMIT:
        raise ValueError("Write a whole number such as 100")
    return int(text)


_UNITS_US = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}


def _duration_us(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(us|ms|s|m|h)", text)
    if match is None:
        raise ValueError("Write a length of time with its unit, such as 250ms, 1.5s or 2m")
    return round(float(match[1]) * _UNITS_US[match[2]])


def _number(expression: str, read: Callable[[str], int]) -> Ask:
    return lambda term, by, now: (f"({expression} {term.compare or '='} ?)", [read(term.value)])


_RELATIVE = re.compile(r"([0-9]{1,5})([smhdw])")
_RELATIVE_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")


def span(text: str, now: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
    """Start of a day and of the next one (UTC); for a moment, the same moment twice."""
    relative, date = _RELATIVE.fullmatch(text), _DATE.fullmatch(text)
    if relative:
        moment = now - dt.timedelta(seconds=int(relative[1]) * _RELATIVE_SECONDS[relative[2]])
        return moment, moment
    try:
        if date:
            start = dt.datetime(int(date[1]), int(date[2]), int(date[3]), tzinfo=dt.UTC)
            return start, start + dt.timedelta(days=1)
        moment = events.parse_time(text)
    except ValueError:
        raise ValueError("Write a time such as 24h, 7d, 2026-11-01 or 2026-11-01T09:30:00Z") from None
    return moment, moment


def _received(term: Term, by: By, now: dt.datetime) -> Sql:
    start, end = span(term.value, now)
    day = start != end
    forms: dict[str, Sql] = {
        ">": (f"(received_at {'>=' if day else '>'} ?)", [end]),
        ">=": ("(received_at >= ?)", [start]),
        "<": ("(received_at < ?)", [start]),
        "<=": (f"(received_at {'<' if day else '<='} ?)", [end]),
        "": ("(received_at >= ? and received_at < ?)", [start, end]) if day else ("(received_at >= ?)", [start]),
    }
    return forms[term.compare]


def _since(term: Term, by: By, now: dt.datetime) -> Sql:
    return "(occurred_at >= ?)", [span(term.value, now)[0]]


def _until(term: Term, by: By, now: dt.datetime) -> Sql:
    return "(occurred_at < ?)", [span(term.value, now)[1]]


_ROWS = "greatest(rows_returned, rows_affected)"
_FIELDS = (
    Field("kind", "what was recorded", _text("kind"), get_args(events.Kind)),
    Field("class", "how it counts: read, write, ddl, privilege, export …", _text("class"), get_args(events.Class)),
    Field("actor", "who did it: name, e-mail or its part before the @, identifier",
          _person("who_id", "who_name", "who_email")),
    Field("type", "kind of actor", _text("coalesce(who_type, 'unknown')"), get_args(events.ActorType)),
    Field("role", "database role held or used", _listed("roles")),
    Field("for", "the person on whose behalf it was done", _person("on_behalf_of")),
    Field("agent", "AI agent, by name or identifier", _any_text("agent_id", "agent_name")),
    Field("run", "run of an AI agent", _text("agent_run", fold=False)),
    Field("attribution", "why we believe who did it: gateway, context_message, db_login, none …",
          _text("coalesce(attribution, 'none')")),
    Field("db_user", "login that the database saw", _text("db_user")),
    Field("session", "database session", _session),
    Field("transaction", "database transaction id", _text("transaction_id", fold=False)),
    Field("outcome", "how the transaction ended", _text("coalesce(outcome, 'unknown')"), get_args(events.Outcome)),
    Field("source", "feed that reported it", _text("source")),
    Field("environment", "environment such as production", _text("environment")),
    Field("datasource", "database system, by our name", _text("datasource")),
    Field("database", "database inside the system", _text("database")),
    Field("relation", "table or view, with or without its schema", _relation),
    Field("column", "column touched", _listed_names('"columns"')),
    Field("key", "row key; parts of a composite key joined by commas",
          lambda term, by, now: _row_key(term, by)),
    Field("op", "operation", _text("op"), get_args(events.Op)),
    Field("command", "command word as the database reported it", _text("command")),
    Field("verdict", "decision on the access", _text("coalesce(verdict, 'unknown')"), get_args(events.Verdict)),
    Field("masked", "column that was masked", _listed_names("masked_columns")),
    Field("approval", "state of the approval", _text("approval_state")),
    Field("policy", "policy, or policy/rule", _policy),
    Field("ticket", "ticket that was named as the reason", _text("ticket")),
    Field("purpose", "words of the stated purpose", _prose("purpose")),
    Field("app", "client application", _text("client_app")),
    Field("ip", "client address", _text("client_ip")),
    Field("error", "error code, or words of the error message", _error),
    Field("flag", "what we found odd about a record", _listed("flags")),
    Field("tag", "tag of the data touched", _listed("tags")),
    Field("rows", "rows returned or affected, such as rows:>100", _number(_ROWS, _count),
          measured=True, comparable=True),
    Field("duration", "time taken, such as duration:>1s or duration:<250ms", _number("duration_us", _duration_us),
          measured=True, comparable=True),
    Field("index", "place in the signed log", _number('"index"', _count), measured=True, comparable=True),
    Field("fingerprint", "statements of the same form", _text("fingerprint", fold=False)),
    Field("received", "when it reached the log, such as received:>=2026-11-01", _received,
          measured=True, comparable=True),
    Field("since", "happened at or after: 24h, 7d, 2026-11-01, 2026-11-01T09:30:00Z", _since, measured=True),
    Field("until", "happened before; a date includes that whole day", _until, measured=True),
    Field("text", "words anywhere in the statement", _prose("statement")),
    Field("before", "value of a column before a change", _image("before_values"), of_column=True),
    Field("after", "value of a column after a change", _image("after_values"), of_column=True),
)  # fmt: skip
FIELDS = {field.name: field for field in _FIELDS}
