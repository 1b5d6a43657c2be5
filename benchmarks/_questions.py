"""The eight lookups that systems are compared by: ours as pages ask them, the peers' as SQL, and what they are asked for.

The peers hold the joined records (`events`, `touches`, `benchmarks/_peers.py`), as somebody who loads them would: a change
has its person already. Ours joins, and answers the whole page: coverage, totals, who could have read.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable

import msgspec

from benchmarks import _history
from benchmarks._history import Plan
from lineage.events import Event

COUNT_MOST = 10_000
DAY = dt.timedelta(days=1)
ROW = (
    '"index", occurred_at, datasource, who_id, who_name, on_behalf_of, agent_name, verdict, touch_op, session, ticket, '
    "attribution, transaction_id, outcome, relation, key, columns, access, provenance"
)
RECORD = (
    '"index", occurred_at, kind, op, datasource, who_id, who_name, on_behalf_of, agent_name, verdict, ticket, session, '
    "transaction_id, outcome, relations, rows_returned, rows_affected, statement, key, diff, error_code, attribution"
)
DONE = "verdict not in ('blocked', 'error', 'pending')"
TABLE = "datasource = {datasource} and relation = {relation}"
TIME = "occurred_at >= {since} and occurred_at < {until}"
ACCESS = "kind in ('query', 'change') and op <> 'other'"
NEWEST = 'order by occurred_at desc, "index" desc limit'


class Drawn(msgspec.Struct, frozen=True):
    """What one lookup is for: a row that changed until `row_until`, a person who did something until `until`."""

    datasource: str
    relation: str
    key: str
    column: str
    identity: str
    session: str
    text: str
    until: dt.datetime
    row_until: dt.datetime


class Question(msgspec.Struct, frozen=True):
    """One lookup: its name, how far its window reaches back, and the peers' statements.

    What it counts is the rows of the last statement, or with `is_total` the number that this gives.
    """

    name: str
    days: int
    statements: tuple[str, ...]
    is_total: bool = False

    @property
    def most(self) -> int:
        """How far is counted: lists say no more than that there are more."""
        return COUNT_MOST if str(COUNT_MOST + 1) in self.statements[-1] else 2**62


def _capped(table: str, condition: str) -> str:
    return f"select count(*) from (select 1 from {table} where {condition} limit {COUNT_MOST + 1}) found"


def _latest(access: str) -> str:
    """The newest 500 touches of one row with this access."""
    one = f"{TABLE} and key = {{key}} and access = '{access}' and coalesce({DONE}, true)"
    return f'select * from (select {ROW} from touches where {one} order by occurred_at desc, "index" desc limit 500) {access}'


QUESTIONS = (
    Question("row history", 0, (f"{_latest('changed')} union all {_latest('read')}",)),
    Question(
        "table, last 24 h",
        1,
        (
            f"select {ROW} from touches where {TABLE} and {TIME} {NEWEST} 50",
            _capped("touches", f"{TABLE} and {TIME}"),
        ),
        True,
    ),
    Question(
        "identity, last 50",
        0,
        (
            f"select {RECORD} from events where who_id = {{identity}} and {ACCESS} {NEWEST} 50",
            _capped("events", f"who_id = {{identity}} and {ACCESS}"),
        ),
        True,
    ),
    Question(
        "identity, a year",
        365,
        (
            "select min(occurred_at), max(occurred_at), count(*) filter (where kind = 'query'), "
            "count(*) filter (where class = 'write'), count(*) filter (where kind = 'change'), "
            "count(*) filter (where verdict = 'blocked'), count(distinct session) "
            f"from events where who_id = {{identity}} and {TIME}",
            "select relation, date_trunc('week', occurred_at) as week, count(*) from touches "
            f"where who_id = {{identity}} and {TIME} group by relation, week",
            f"select {RECORD} from events where who_id = {{identity}} and {TIME} and {ACCESS} {NEWEST} 50",
            "select datasource, relation, touch_op, count(*), min(occurred_at), max(occurred_at) from touches "
            f"where who_id = {{identity}} and {TIME} group by datasource, relation, touch_op",
        ),
    ),
    Question(
        "session timeline", 0, (f'select {RECORD} from events where session = {{session}} order by occurred_at, "index"',)
    ),
    Question(
        "column's readers",
        0,
        (
            "select access = 'read' as reading, who_id, max(who_name), count(*) as times, max(occurred_at) from touches "
            f"where {TABLE} and access in ('read', 'wrote', 'changed') and {{holds}} "
            "group by reading, who_id order by times desc limit 200",
        ),
    ),
    Question(
        "text, a month",
        30,
        (
            f"select {RECORD} from events where {TIME} and statement like {{pattern}} {NEWEST} 50",
            _capped("events", f"{TIME} and statement like {{pattern}}"),
        ),
        True,
    ),
    Question(
        "dashboard, 90 days",
        90,
        (
            "select date_trunc('day', occurred_at) as day, who_type, verdict, environment, count(*) from events "
            f"where {TIME} and {ACCESS} group by day, who_type, verdict, environment",
            f"select {RECORD} from events where {TIME} and {ACCESS} {NEWEST} 12",
            "select agent_name, count(*) from events "
            f"where {TIME} and {ACCESS} and agent_name <> '' and coalesce(on_behalf_of, '') = '' group by agent_name",
            "select count(*) filter (where kind = 'query'), count(*), count(distinct who_id), count(distinct datasource), "
            "count(*) filter (where kind = 'change'), count(*) filter (where class = 'write'), "
            f"count(*) filter (where verdict = 'blocked') from events where {TIME} and ({ACCESS} or kind = 'session')",
        ),
        True,
    ),
)  # fmt: skip


def _window(drawn: Drawn, days: int) -> tuple[dt.datetime, dt.datetime]:
    """The window of a lookup; the one of a day is a table's, around a change of it."""
    until = drawn.row_until if days == 1 else drawn.until
    return until - days * DAY, until


def ours() -> dict[str, Callable[[Drawn], int]]:
    """Each lookup through `lineage.queries`, for an auditor who sees everything; it gives what is counted."""
    from lineage import queries
    from lineage.access import Viewer

    viewer = Viewer("bench@audit.example", "auditor")

    def window(drawn: Drawn, days: int) -> queries.Window:
        return queries.Window(*_window(drawn, days))

    def row(drawn: Drawn) -> int:
        found = queries.row(viewer, drawn.datasource, drawn.relation, drawn.key, wider=50)
        return len(found["changed"]) + len(found["read"])

    def session(drawn: Drawn) -> int:
        places = queries.session(viewer, drawn.session, limit=100)["places"]
        return sum(len(place["records"]) + len(place["changes"]) for place in places)

    def column(drawn: Drawn) -> int:
        found = queries.column(viewer, drawn.datasource, drawn.relation, drawn.column)
        return len(found["readers"]) + len(found["writers"])

    def table(drawn: Drawn) -> int:
        q = f"datasource:{drawn.datasource} relation:{drawn.relation}"
        return queries.touches(viewer, q, window(drawn, 1)).total.value

    return {
        "row history": row,
        "table, last 24 h": table,
        "identity, last 50": lambda drawn: (
            queries.touched(viewer, queries.Subject(identity=drawn.identity)).total.value
        ),
        "identity, a year": lambda drawn: len(
            queries.identity(viewer, drawn.identity, window(drawn, 365))["tables"]
        ),
        "session timeline": session,
        "column's readers": column,
        "text, a month": lambda drawn: (
            queries.events(viewer, f'text:"{drawn.text}"', window(drawn, 30)).total.value
        ),
        "dashboard, 90 days": lambda drawn: int(queries.overview(viewer, window(drawn, 90))["accesses"]),
    }  # fmt: skip


def draw(plan: Plan, count: int, seed: int = 11) -> list[Drawn]:
    """What `count` lookups are for: rows, people, sessions as often as they occur in the history."""
    drawn = random.Random(seed)
    found: list[Drawn] = []
    whole = max(1, plan.events // plan.chunk)
    while len(found) < count:
        told = _history.chunk(plan, drawn.randrange(whole))
        found += [_drawn(plan, drawn, told) for _ in range(min(10, count - len(found)))]
    return found


def _drawn(plan: Plan, drawn: random.Random, told: dict[str, list[Event]]) -> Drawn:
    change = drawn.choice(told["changes"])
    asked = drawn.choice([event for event in told["gateway"] if event.statement is not None])
    work = drawn.choice(told[drawn.choice(["gateway", "server-log"])])
    text = asked.statement.text or "" if asked.statement else ""
    place = drawn.randrange(max(1, len(text) - 24))
    # A text that may be met anywhere, without what search or LIKE would take for more than a letter.
    part = next((word for word in text[place:].split("'") if len(word) > 8), text)[:24]
    return Drawn(
        datasource=change.datasource or "",
        relation=f"public.{change.resources[0].relation}",
        key=change.key[0].value or "",
        column=(change.after or change.before or change.key)[0].column,
        identity=(asked.actor.id or "") if asked.actor else "",
        session=f"{work.datasource}~{work.session_id or work.db_session_id}",
        text=part.strip(),
        until=_half_a_day_after(plan, asked),
        row_until=_half_a_day_after(plan, change),
    )


def _half_a_day_after(plan: Plan, event: Event) -> dt.datetime:
    return min(dt.datetime.fromisoformat(event.occurred_at or "").replace(microsecond=0) + DAY / 2, plan.until)


def literals(drawn: Drawn, question: Question, time: Callable[[str], str], holds: str) -> dict[str, str]:
    """The values of a peer's statement as it writes them."""
    quoted = {name: _quoted(getattr(drawn, name)) for name in ("datasource", "relation", "key", "identity", "session")}
    pattern = drawn.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    window = _window(drawn, question.days)
    since, until = (time(f"{moment:%Y-%m-%d %H:%M:%S}") for moment in window)
    return quoted | {
        "pattern": _quoted(f"%{pattern}%"), "since": since, "until": until,
        "holds": holds.format(column=_quoted(drawn.column)),
    }  # fmt: skip


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
