"""What all questions share: window, scope, paging, the shape of an event row, and how complete an answer is."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
import numpy as np

from lineage import errors, search
from lineage.access import Viewer
from lineage.acts import ACCESSES as ACCESSES
from lineage.acts import LISTED, REFUSED, STATEMENT, WRITING
from lineage.acts import SECOND as SECOND
from lineage.acts import TWICE as TWICE
from lineage.engine import Question
from lineage.events import Kind

LIMIT = 50
LIMIT_MOST = 1_000
COUNT_MOST = 10_000
VALUE_FIELDS = ("", "text", "before", "after", "error")
"""Fields that look into statements, messages and row values; "" is a bare word."""
OWN = "touchstone"


class Window(msgspec.Struct, frozen=True):
    """Narrows a question by event time (until is exclusive) and environment; None is everything in scope."""

    since: dt.datetime | None = None
    until: dt.datetime | None = None
    environment: str | None = None


def between(since: dt.datetime | None, until: dt.datetime | None, environment: str | None) -> Window:
    """The window that somebody asks for. Raises QueryInvalid where it ends before it begins, since nothing lies in that."""
    if since and until and since >= until:
        raise errors.QueryInvalid(
            f"The time asked for ends ({until:%Y-%m-%d %H:%M} UTC) before it begins ({since:%Y-%m-%d %H:%M} UTC). "
            "Exchange since and until, or leave one out.",
            since="not before until",
        )
    return Window(since, until, environment)


class Total(msgspec.Struct, frozen=True):
    """How many there are; not exact above 10,000, and of findings while older records wait to be judged."""

    value: int
    exact: bool


class Span(msgspec.Struct, frozen=True):
    """A time in which one source was not complete; without end it lasts, with equal ends it is a moment."""

    state: str
    from_at: dt.datetime
    to_at: dt.datetime | None
    detail: str


class Coverage(msgspec.Struct, frozen=True):
    """How complete one source is in the window: its first and last record there, and what is known to be amiss.

    `state` is complete, gap, silent, weakened, late or unknown; the worst of `spans` (docs/coverage.md).
    """

    source: str
    datasource: str
    environment: str
    from_at: dt.datetime | None
    to_at: dt.datetime | None
    state: str
    detail: str
    spans: tuple[Span, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    items: list[dict[str, Any]]
    next: str | None
    total: Total
    as_of: int
    coverage: list[Coverage]
    previous: str | None = None


EVENT_COLUMNS = (
    "index, event_id, kind, class, op, command, occurred_at, received_at, occurred_at_quality, environment, source, "
    "datasource, database, who_id, who_name, who_type, on_behalf_of, agent_id, agent_name, agent_run, db_user, attribution, "
    "attribution_index, claimed, purpose, ticket, client_app, client_ip, session, transaction_id, outcome, verdict, "
    "relations, relations_provenance, rows_returned, rows_affected, duration_us, error_code, error_message, flags, "
    "statement, redacted, statement_state, opaque, fingerprint, key, key_columns, diff, approval, decision, custody, "
    "correlation_id, session_phase, db_system"
)
SHOWN = (*EVENT_COLUMNS.split(", "), "policy", "masked")

STATEMENT_COUNT = (
    f"(count(distinct correlation_id) filter ({STATEMENT}) + count(*) filter (correlation_id is null and {STATEMENT}))"
)
"""Statements, by correlation id, since pgAudit writes a line for each relation of one."""

WRITE_COUNT = f"count(distinct correlation_id) filter ({WRITING})"
"""Writing statements, counted likewise."""

REFUSED_COUNT = f"count(*) filter ({REFUSED})"

_ASKED = f"kind = 'query' and not {TWICE}"
TIMES = (
    f"coalesce(nullif(count(distinct correlation_id) filter ({_ASKED}) "
    f"+ count(distinct index) filter (correlation_id is null and {_ASKED}), 0), "
    "count(distinct transaction_id) + count(distinct index) filter (transaction_id is null))"
)
"""How often something was done: statements; where none was seen, transactions that changed it. Never both."""


def scoped(viewer: Viewer, window: Window) -> tuple[str, list[Any]]:
    """The condition that viewer and window put on `activity`."""
    condition, values = viewer.scope()
    if window.since:
        condition, values = f"{condition} and occurred_at >= ?", [*values, window.since]
    if window.until:
        condition, values = f"{condition} and occurred_at < ?", [*values, window.until]
    if window.environment:
        condition, values = f"{condition} and environment = ?", [*values, window.environment]
    return f"({condition})", values


def searched(viewer: Viewer, q: str, window: Window, by: str, now: dt.datetime | None = None) -> tuple[str, list[Any]]:
    """Scope, window and search text as one condition. Store-own records only when the text asks for them.

    Relative times count from `now`, by default the clock.
    """
    condition, values = scoped(viewer, window)
    matching, more = meant(viewer, q, by, now)
    return f"{condition} and {matching}", [*values, *more]


def meant(viewer: Viewer, q: str, by: str, now: dt.datetime | None = None) -> tuple[str, list[Any]]:
    """The same without scope and window. Raises AccessDenied for a search in values that the viewer does not see."""
    query = search.parse(q)
    if not viewer.sees_values and any(t.name in VALUE_FIELDS for t in search.terms(query.root)):
        raise errors.AccessDenied(
            "Your role sees no statement literals and no row values, so it cannot search in them. "
            "Name another field, such as actor, relation, ticket or key."
        )
    matching, values = search.to_sql(query, "touch" if by == "touch" else "event", now)
    kinds, rest = left_out(query)
    not_asked = "".join(f"kind <> '{kind}' and " for kind in kinds)
    return f"{not_asked}{rest}({matching})", values


def left_out(query: search.Query) -> tuple[tuple[Kind, ...], str]:
    """What a question does not ask for unless it says so: kinds of records, and a further condition."""
    asked = search.names(query)
    kinds: tuple[Kind, ...] = ()
    rest = ""
    if not asked & {"kind", "flag", "source", "environment"}:
        kinds += ("custody",)
        rest += f"{LISTED} and "
    if not asked:
        kinds += ("state",)
        rest += "coalesce(op, '') <> 'other' and "
    return kinds, rest


def limited(limit: int | None) -> int:
    return max(1, min(limit or LIMIT, LIMIT_MOST))


def make_cursor(size: int, last: int | str | list[Any]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([size, last])).decode().rstrip("=")


Place = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]


def read_cursor(cursor: str | None, form: Any = Place) -> tuple[int | None, Any]:
    """(log size the paging began with, last value seen). Raises QueryInvalid for a text that we did not make."""
    if not cursor:
        return None, None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        size, last = msgspec.json.decode(text, type=tuple[Place, form])
    except (ValueError, msgspec.DecodeError) as error:
        raise errors.QueryInvalid("The cursor is not one of ours. Start again without it.") from error
    return size, last


def shown(row: dict[str, Any], viewer: Viewer) -> dict[str, Any]:
    """One event row as pages and API give it: JSON members opened, values withheld from roles that may not see them."""
    for member in ("diff", "policy", "approval", "masked", "decision", "custody"):
        if member in row:
            row[member] = (
                msgspec.json.decode(row[member]) if row[member] else [] if member in ("diff", "policy") else None
            )
    redacted = row.pop("redacted", None)
    if not viewer.sees_values:
        row["statement"] = redacted
        row["statement_state"] = "withheld" if row.get("statement_state") else None
        row["error_message"] = None
        for column in row.get("diff") or []:
            column.update(before=None, after=None, state_before="masked", state_after="masked")
    return row


def fetch(question: Question, viewer: Viewer, found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The event rows of the indexes in `found`, in its order.

    Two steps, since a literal list of indexes is pushed into the scans: only these rows are joined and widened.
    """
    if not found:
        return []
    by_index = question.records(np.array([row["index"] for row in found], np.int64), SHOWN)
    if by_index is None:
        indexes = ", ".join(str(int(row["index"])) for row in found)
        rows = question.rows(f"select {', '.join(SHOWN)} from activity where index in ({indexes})")  # noqa: S608 - integers
        by_index = {row["index"]: row for row in rows}
    return [shown(by_index[row["index"]], viewer) for row in found]


def total(question: Question, relation: str, condition: str, values: Sequence[Any]) -> Total:
    """Counted up to 10,000; beyond that not exact."""
    sql = f"select count(*) as n from (select 1 from {relation} where {condition} limit {COUNT_MOST + 1})"  # noqa: S608
    count = question.rows(sql, values)[0]["n"]
    return Total(min(count, COUNT_MOST), count <= COUNT_MOST)


def one(question: Question, sql: str, values: Sequence[Any] = ()) -> dict[str, Any]:
    return question.rows(sql, values)[0]


def page_of(
    rows: list[dict[str, Any]], limit: int, size: int, key: str, *more: str
) -> tuple[list[dict[str, Any]], str | None]:
    """Cuts limit + 1 rows to a page and its next cursor; with `more` columns it holds [-key, *more]."""
    if len(rows) <= limit:
        return rows, None
    last = rows[limit - 1]
    return rows[:limit], make_cursor(size, [-last[key], *(last[name] for name in more)] if more else last[key])


def iso(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.datetime) else value


def names(values: Iterable[Any]) -> list[str]:
    """Distinct non-empty texts in their order."""
    return [v for v in dict.fromkeys(values) if v]
