"""The sessions that hold a matching record, those active last, out of codes: as `people.session_rows` asks it in SQL over the log.

Which match is told by the records of whom or what a search names, else by the newest records on until more are found than are
counted. Then the rows of those on the page alone are made, so a page goes by what its sessions did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts.codes import NO_HASHES
from lineage.extracts.coding import Coding
from lineage.extracts.grouping import Grouping
from lineage.extracts.groups import Alike
from lineage.extracts.looking import Lookup, Unable, Wanted
from lineage.extracts.postings import Hashes, hashes_of
from lineage.extracts.terms import ACT, BY_TIME, LISTED
from lineage.queries import alike, candidates, figures, sought, stretches
from lineage.queries.ask import COUNT_MOST, Total, Window, searched

SQL = "session is not null and kind in ('session', 'query', 'change')"
"""What of a session says that somebody did something in it."""
SPAN_MOST = 1 << 18
"""Of more records of somebody who did something the log is asked whether an earlier one of their sessions matches."""


class Page(NamedTuple):
    """Session rows, the last active first, and how many sessions match in all."""

    rows: list[dict[str, Any]]
    total: Total


def page(question: Question, viewer: Viewer, q: str, window: Window, before: int | None, most: int) -> Page | None:
    """At most so many, whose last record in scope and window lies `before`, where that is given; None where the log is to be asked."""
    scope = candidates.wanted(viewer, window)
    if scope is None:
        return None
    named = None if figures.read(q) is not None else _named(question, viewer, q, window)

    def tell(look: Lookup) -> Page | None:
        coding = Coding(look, question.snapshot.logins)
        found = named if named is not None else figures.sessions(question, look, q, scope)
        newest = _Newest(question, coding, q, scope) if found is None and alike.read(q) is not None else None
        of = found if newest is None else newest.found
        if of is None:
            return None
        chosen = stretches.latest(coding, of, scope, most, before)
        if newest is not None and not newest.is_all:
            chosen = newest.mended(chosen, most, before)
        is_exact = len(of) <= COUNT_MOST
        return Page(stretches.rows(coding, chosen.sessions, scope), Total(min(len(of), COUNT_MOST), is_exact))

    return candidates.told(question, tell)


def _named(question: Question, viewer: Viewer, q: str, window: Window) -> Hashes | None:
    """Those that few records match, which are found by what the search names; None where it names nothing, or they are many."""
    condition, values = searched(viewer, q, window, "event")
    with sought.matching(question, viewer, q, window, "event") as few:
        if few == sought.ALL:
            return None
        asked = f"select distinct session from activity where {few} and {SQL} and {condition}"  # noqa: S608
        return hashes_of(("session", row["session"]) for row in question.rows(asked, values))


class _Newest:
    """Sessions of which a record matches, from the newest records on: all, or more than are counted."""

    def __init__(self, question: Question, coding: Coding, q: str, scope: Wanted) -> None:
        asked = alike.read(q)
        if asked is None:
            raise Unable
        self.asked, self.coding, self.scope = asked, coding, scope
        self.wanted = asked.wanted(msgspec.structs.replace(scope, marked=scope.marked | LISTED))
        self.grouping = Grouping(coding.look, coding, question.snapshot.identities, self.wanted)
        self.found, self.is_all = NO_HASHES, True
        for some, sessions in self.grouping.newest(ACT):
            self.found = _together(self.found, sessions[asked.of(coding, some)])
            if len(self.found) > COUNT_MOST:
                self.is_all = False
                break

    def mended(self, chosen: stretches.Latest, most: int, before: int | None) -> stretches.Latest:
        """With those that are as new, of which only an earlier record matches than were looked at. Raises Unable."""
        size = self.coding.look.size
        least, top = chosen.lasts[-1] if len(chosen.lasts) == most else 0, size if before is None else min(size, before)
        acts = msgspec.structs.replace(self.scope, marked=self.scope.marked | ACT)
        others = np.setdiff1d(self.grouping.sessions_between(acts, int(least), top, SPAN_MOST), self.found)
        rows = self.coding.rows(lambda layer: [layer.postings[BY_TIME].find_all(others)], self.wanted)
        kept = self.asked.of(self.coding, Alike(rows.who, rows.actors, rows.places, rows.manners, rows.marks))
        more = np.intersect1d(rows.sessions[kept & ((rows.marks & ACT) != 0)], others)
        if not len(more):
            return chosen
        return stretches.latest(self.coding, np.union1d(chosen.sessions, more), self.scope, most, before)


def _together(found: Hashes, sessions: Sequence[int] | Hashes) -> Hashes:
    some = np.asarray(sessions, np.uint64)
    return np.union1d(found, some[some != 0])
