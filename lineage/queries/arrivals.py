"""Who touched which table for the first time: out of first accesses that extracts know of where these can tell, else over records."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.coding import Coding
from lineage.extracts.firsts import First, Firsts
from lineage.extracts.looking import Login, Lookup, Unable, person
from lineage.extracts.postings import Hashes, Postings, among
from lineage.extracts.tables import NAMED
from lineage.extracts.terms import REAL
from lineage.moments import moment
from lineage.queries import candidates
from lineage.queries.ask import (
    COUNT_MOST,
    OWN,
    TIMES,
    TWICE,
    Answer,
    Place,
    Total,
    Window,
    fetch,
    limited,
    one,
    page_of,
    read_cursor,
    scoped,
    total,
)
from lineage.queries.covering import coverage
from lineage.queries.tallies import Acts

Rows = list[dict[str, Any]]


def _touching(viewer: Viewer, window: Window) -> tuple[str, list[Any]]:
    """The touches that count as somebody's access to a table."""
    condition, values = scoped(viewer, window)
    return (
        f"{condition} and environment <> '{OWN}' and who_id is not null and relation is not null "
        f"and not list_has_any(flags, ['claim', 'canary']) and not {TWICE} and coalesce(op, '') <> 'snapshot'",
        values,
    )


def _firsts(viewer: Viewer, window: Window) -> tuple[str, list[Any]]:
    """Each identity × table with its first access, where that lies in the window. What lies before it is looked at too."""
    condition, values = _touching(viewer, msgspec.structs.replace(window, since=None))
    since = " where first_at >= ?" if window.since else ""
    sql = f"""select * from (select who_id, datasource, relation, arg_min(index, (occurred_at, index)) as index,
        min(occurred_at) as first_at from touches where {condition} group by who_id, datasource, relation){since}"""  # noqa: S608
    return sql, [*values, *([window.since] if window.since else [])]


def _known(question: Question, viewer: Viewer) -> Firsts | None:
    """What extracts and what is newer know of them; None where only records can tell."""
    # To whom nothing before a time is shown, everybody's first access is another one.
    look = question.look() if viewer.from_at is None else None
    return look.first_accesses() if look is not None else None


def first_accesses(question: Question, viewer: Viewer, window: Window) -> int:
    """How many there are."""
    wanted = candidates.wanted(viewer, window)
    known = _known(question, viewer) if wanted is not None else None
    if known is not None and wanted is not None:
        return known.count(wanted)
    sql, values = _firsts(viewer, window)
    return int(one(question, f"select count(*) as n from ({sql})", values)["n"])  # noqa: S608


def firsts(viewer: Viewer, window: Window = Window(), limit: int | None = None, cursor: str | None = None) -> Answer:
    """Event rows of each identity's first access to a table, newest first, each with that `relation` and its `accesses` since."""
    as_of, last = read_cursor(cursor, tuple[Place, str, str])
    count = limited(limit)
    with Question(as_of=as_of) as question:
        told = _looked_up(question, viewer, window, last, count + 1)
        rows, whole = told or _asked(question, viewer, window, last, count + 1)
        pairs, following = page_of(rows, count, question.size, "index", "datasource", "relation")
        events = {row["index"]: row for row in fetch(question, viewer, pairs)}
        times = _counted(question, viewer, window, pairs) if told else None
        if times is None:
            times = _times(question, viewer, window, pairs)
        items = [
            events[pair["index"]] | {"relation": pair["relation"], "accesses": times[_pair(pair)]} for pair in pairs
        ]
        return Answer(items, following, whole, question.size, coverage(question, viewer, window))


def _looked_up(
    question: Question, viewer: Viewer, window: Window, last: tuple[Any, ...] | None, most: int
) -> tuple[Rows, Total] | None:
    """The next so many, and how many there are in all; None where only records can tell."""
    wanted = candidates.wanted(viewer, window)
    known = _known(question, viewer) if wanted is not None else None
    if known is None or wanted is None:
        return None
    found = sorted(known.newest(wanted, -last[0] if last else None, most + 1), key=_ordered)
    rows = [_row(each) for each in found if last is None or _ordered(each) > last]
    n = known.count(wanted)
    # Of one record there may be more than are asked for, so that the page before held some of them.
    if len(rows) < most and len(found) > most:
        return None
    return rows[:most], Total(min(n, COUNT_MOST), n <= COUNT_MOST)


def _ordered(one: First) -> tuple[int, str, str]:
    return -one.record, one.datasource or "", one.relation


def _row(one: First) -> dict[str, Any]:
    return {
        "who_id": one.who_id, "datasource": one.datasource, "relation": one.relation, "index": one.record,
        "first_at": moment(one.at),
    }  # fmt: skip


def _asked(
    question: Question, viewer: Viewer, window: Window, last: tuple[Any, ...] | None, most: int
) -> tuple[Rows, Total]:
    """The same of records."""
    inner, values = _firsts(viewer, window)
    after, place = ("(-index, datasource, relation) > (?, ?, ?)", list(last)) if last else ("true", [])
    question.rows(f"create temp table firsts as {inner}", values)
    asked = f"select * from firsts where {after} order by -index, datasource, relation limit {most}"  # noqa: S608
    return question.rows(asked, place), total(question, "firsts", "true", [])


def _pair(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["who_id"], row["datasource"], row["relation"]


def _times(question: Question, viewer: Viewer, window: Window, pairs: Sequence[dict[str, Any]]) -> dict[Any, int]:
    """How often each of these did it since: nothing of theirs lies before the window."""
    if not pairs:
        return {}
    condition, values = _touching(viewer, window)
    asked = [sorted({row[name] for row in pairs}) for name in ("who_id", "relation")]
    since: dt.datetime = min(row["first_at"] for row in pairs)
    rows = question.rows(
        f"select who_id, datasource, relation, {TIMES} as times from touches where {condition} and occurred_at >= ? "  # noqa: S608
        "and list_contains(?, who_id) and list_contains(?, relation) group by who_id, datasource, relation",
        [*values, since, *asked],
    )
    return {_pair(row): row["times"] for row in rows}


def _counted(question: Question, viewer: Viewer, window: Window, pairs: Rows) -> dict[Any, int] | None:
    """The same, out of codes; None where these cannot tell."""
    wanted = candidates.wanted(viewer, window, REAL)
    numbers = {_pair(row): number for number, row in enumerate(pairs)}

    def tell(look: Lookup) -> dict[Any, int] | None:
        coding = Coding(look, question.snapshot.logins)
        logins = question.snapshot.identities.to_pylist()
        if wanted is None:
            return None
        whose = {who: _theirs(look, logins, who) for who, _, _ in numbers}
        asked = [(whose[who], _hashes(look, *table)) for who, *table in numbers]
        rows = coding.rows(lambda layer: [_met(layer.postings[BY_INDEX], *one) for one in asked], wanted)
        is_meant = np.array([one.op != "snapshot" for one in coding.manners], bool)[rows.manners]
        is_meant &= np.array([place[0] not in (None, OWN) for place in coding.places], bool)[rows.places]
        tables = coding.meanings.tables.held
        values, at = tables.spread(rows.shapes)
        kept = is_meant[at]
        values, at = values[kept], at[kept]
        named = zip(
            (coding.people[who].id for who in rows.who[at].tolist()),
            (coding.places[place][1] for place in rows.places[at].tolist()),
            (tables.values[value] for value in values.tolist()),
            strict=True,
        )
        group = np.array([numbers.get(each, -1) for each in named], np.int64)
        tally = Acts(rows).tally(group[group >= 0], at[group >= 0])
        found = dict(zip(tally.groups.tolist(), tally.times.tolist(), strict=True))
        return {pair: found[number] for pair, number in numbers.items()} if len(found) == len(numbers) else None

    return candidates.told(question, tell) if pairs else {}


def _theirs(look: Lookup, logins: Sequence[Login], who: str) -> Hashes:
    return np.array([term.hash for term in person(who, logins, look.datasources()) if term.spans != ()], np.uint64)


def _hashes(look: Lookup, datasource: str | None, relation: str) -> Hashes:
    """The terms of records that touched a table. Raises Unable for a name with letters that may be folded in two ways."""
    if not relation.isascii():
        raise Unable
    known = {one for layer in look.layers for one in layer.of.tables.of(relation.lower())}
    of = [one for one in known if (one.datasource, one.relation) == (datasource, relation)]
    return np.array(sorted({term for one in of for term, _ in one.terms(NAMED)}), np.uint64)


def _met(posted: Postings, whose: Hashes, of_table: Hashes) -> Indexes:
    """The records that have one of the first terms and one of the second, ascending."""
    theirs = posted.find_all(of_table)
    return theirs[among(theirs, posted.find_all(whose))]
