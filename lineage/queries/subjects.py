"""Whom a question is about: one identity, or one run of an agent; and everything that it touched in a window."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from lineage import acts, errors
from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import terms
from lineage.extracts.layers import Term
from lineage.extracts.looking import Lookup, Unable, Wanted, by_index, person
from lineage.queries import candidates, handled, paging, sought, walking
from lineage.queries.ask import (
    ACCESSES,
    REFUSED_COUNT,
    STATEMENT_COUNT,
    TIMES,
    WRITE_COUNT,
    Answer,
    Place,
    Total,
    Window,
    fetch,
    limited,
    one,
    scoped,
)
from lineage.queries.covering import coverage

By: TypeAlias = Literal["statements", "rows", "tables"]
REAL = f"{acts.REAL} and kind <> 'decision'"


class Subject(msgspec.Struct, frozen=True):
    """One identity, or one run of an agent. Exactly one of the two is set."""

    identity: str | None = None
    run: str | None = None

    def condition(self) -> tuple[str, list[Any]]:
        """The condition on `activity` or `touches` that a record is theirs, with its parameter."""
        return ("agent_run = ?", [self.run]) if self.run is not None else ("who_id = ?", [self.identity])

    def terms(self, question: Question, look: Lookup) -> list[Term]:
        """What their records are found by."""
        if self.run is not None:
            return [by_index("run", self.run)]
        return person(str(self.identity), question.snapshot.logins_about(self.identity), look.datasources())

    def has(self, row: Mapping[str, Any]) -> bool:
        """The condition on an event row."""
        return bool(row["agent_run"] == self.run if self.run is not None else row["who_id"] == self.identity)

    @property
    def name(self) -> str:
        return f"run {self.run}" if self.run is not None else str(self.identity)


def theirs(viewer: Viewer, subject: Subject, window: Window) -> tuple[str, list[Any]]:
    """The condition on records of the subject within scope and window."""
    mine, own = subject.condition()
    scope, values = scoped(viewer, window)
    return f"{mine} and {scope} and {REAL}", [*own, *values]


RUN = f"""list_sort(list_distinct(list(distinct who_id) filter (who_id is not null))) as identities, any_value(who_name) as who_name,
    any_value(who_id) as who_id, any_value(who_type) as who_type, any_value(agent_id) as agent_id, any_value(agent_name) as agent_name,
    any_value(attribution) as attribution,
    list_sort(list_distinct(list(distinct on_behalf_of) filter (on_behalf_of is not null))) as worked_for,
    list_sort(list_distinct(list(distinct environment))) as environments,
    list_sort(list_distinct(list(distinct session) filter (session is not null))) as sessions,
    list_sort(list_distinct(list(distinct ticket) filter (ticket is not null))) as tickets,
    list_sort(list_distinct(list(distinct purpose) filter (purpose is not null))) as purposes,
    {STATEMENT_COUNT} as statements, {WRITE_COUNT} as writes, count(*) filter (kind = 'change') as rows_changed,
    {REFUSED_COUNT} as refused, count(*) filter (verdict = 'approved') as approved, min(occurred_at) as first_at,
    max(occurred_at) as last_at"""


def few(question: Question, viewer: Viewer, subject: Subject, window: Window) -> contextlib.AbstractContextManager[str]:
    """As `sought.few`: the subject's records."""
    return sought.few(question, viewer, window, lambda look: subject.terms(question, look))


def run(viewer: Viewer, run_id: str, window: Window = Window()) -> dict[str, Any]:
    """One run of an agent: who ran it and for whom, sessions, tickets, counts. Raises NotFound outside scope or window."""
    mine, values = theirs(viewer, Subject(run=run_id), window)
    subject = Subject(run=run_id)
    with Question() as question, few(question, viewer, subject, window) as some:
        found = one(question, f"select count(*) as records, {RUN} from activity where {some} and {mine}", values)  # noqa: S608
    if not found["records"]:
        raise errors.NotFound
    return found


GROUPED = {
    "tables": ("datasource, relation", "count(distinct key) as rows, "),
    "rows": ("datasource, relation, key", "arg_max(key_columns, index) as key_columns, "),
}


def touched(
    viewer: Viewer,
    subject: Subject,
    by: By = "statements",
    window: Window = Window(),
    limit: int | None = None,
    cursor: str | None = None,
) -> Answer:
    """Everything the subject touched: its statements (event rows), the rows with their keys, or the tables; newest first.

    Rows and tables say how: `ops`, `access`, how many `times`, and the first and last time with the last record's index.
    """
    return _statements(viewer, subject, window, limit, cursor) if by == "statements" else _grouped(
        viewer, subject, by, window, limit, cursor
    )  # fmt: skip


Page = tuple[list[dict[str, Any]], str | None, str | None, Total]
"""Rows, the cursors of the next and the previous page, and how many there are."""


class _LookedUp(paging.Listed):
    """The same list by look-ups: its walks go along what has one of the terms."""

    def __init__(
        self, question: Question, mine: tuple[str, list[Any]], look: Lookup, own: Sequence[Term], asked: Wanted
    ) -> None:
        super().__init__(question, "activity", *mine, [(0, question.size)])
        self.look, self.terms, self.asked = look, own, asked

    def _walk(self, ranges: Sequence[walking.Range], most: int, is_up: bool = False) -> list[int]:
        if is_up:
            raise Unable
        found: list[int] = (
            self.look.newest(self.terms, self.asked, most, upto=ranges[-1][1] - 1).tolist() if ranges else []
        )
        return found


def _statements(viewer: Viewer, subject: Subject, window: Window, limit: int | None, cursor: str | None) -> Answer:
    as_of, place, is_back = paging.asked(cursor, paging.Boundary)
    mine, values = theirs(viewer, subject, window)
    condition = f"{mine} and {ACCESSES}"
    with Question(as_of=as_of) as question:

        def of_all() -> Page:
            listed = paging.Listed(question, "activity", condition, values, walking.ranges(question, viewer, window))
            found, following, previous = listed.page("index", place, is_back, limited(limit))
            return fetch(question, viewer, found), following, previous, listed.total()

        def looked_up(look: Lookup) -> Page | None:
            asked = candidates.wanted(viewer, window, terms.ACCESS, terms.DECISION)
            if asked is None:
                return None
            listed = _LookedUp(question, (condition, values), look, subject.terms(question, look), asked)
            found, following, previous = listed.page("index", place, is_back, limited(limit))
            rows = fetch(question, viewer, found)
            if any(not subject.has(row) for row in rows):
                # Two terms with one hash.
                return None
            return rows, following, previous, listed.total()

        rows, following, previous, whole = candidates.told(question, looked_up) or of_all()
        return Answer(rows, following, whole, question.size, coverage(question, viewer, window), previous)


def _grouped(viewer: Viewer, subject: Subject, by: By, window: Window, limit: int | None, cursor: str | None) -> Answer:
    as_of, place, is_back = paging.asked(cursor, tuple[Place, str, str, str])
    with Question(as_of=as_of) as question:
        told = coverage(question, viewer, window)
        page = handled.page(question, viewer, subject, by == "rows", window, place, is_back, limited(limit))
        if page is None:
            page = _of_records(question, viewer, subject, by, window, place, is_back, limited(limit))
        rows, following, previous, whole = page
        return Answer(rows, following, whole, question.size, told, previous)


def _of_records(
    question: Question, viewer: Viewer, subject: Subject, by: By, window: Window, place: Any, is_back: bool, count: int
) -> paging.Page:
    """As `handled.page`."""
    mine, values = theirs(viewer, subject, window)
    columns, more = GROUPED[by]
    keyed = " and key is not null" if by == "rows" else ""
    inner = f"""select {columns}, {more}any_value(environment) as environment,
        list_sort(list_distinct(list(distinct touch_op))) as ops, list_sort(list_distinct(list(distinct access))) as access,
        {TIMES} as times, min(occurred_at) as first_at, max(occurred_at) as last_at, max(index) as last_index,
        coalesce(datasource, '') as place, relation as name, {"key" if by == "rows" else "''"} as row
        from touches where {mine} and relation is not null{keyed} group by {columns}"""  # noqa: S608
    rows, following, previous, whole = paging.keyset(question, inner, values, handled.NAMES, place, is_back, count)
    for row in rows:
        del row["place"], row["name"], row["row"]
    return rows, following, previous, whole
