"""Where sessions begin: of each session in an extract the first record, for its database and for each who acted in it.

Of a session that goes on in another extract there is one there too: it began with the earliest of them. Where a first record
is told anew by another extract, the session's own records say which is the first then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from lineage.extracts import Indexes
from lineage.extracts.blocks import Content
from lineage.extracts.cards import Cards
from lineage.extracts.postings import Hashes, Postings, among, hash_of

BY_INDEX, BEGUN = "actors.post", "begun.post"
KINDS = ("session", "query", "change")


class Acted(NamedTuple):
    """What of one record says whose session it is."""

    record: int
    at: int | None
    environment: str | None
    datasource: str | None
    session: str | None
    told_id: str | None
    db_user: str | None
    kind: str


PLACES = ("index", "occurred_at", "environment", "datasource", "session", "told_id", "db_user", "kind")


def acted(columns: Sequence[str], contents: Sequence[Content], session: int) -> Iterator[Acted]:
    """The acts of the session with this hash among these records."""
    places = [columns.index(name) for name in PLACES]
    for row, _ in contents:
        one = msgspec.convert([row[place] for place in places], Acted)
        if one.kind in KINDS and one.session is not None and hash_of("session", one.session) == session:
            yield one


def again(
    parts: Sequence[Path], dropped: Sequence[Indexes], made: Cards, rows: Postings
) -> dict[str, tuple[Hashes, Indexes]]:
    """The beginnings of sessions of which a part's is dropped, as the merged records have them, as terms of both files."""
    pairs: dict[str, list[tuple[int, int]]] = {BY_INDEX: [], BEGUN: []}
    for session in _lost(parts, dropped):
        found = made.contents(rows.find(session))
        contents = [found[index] for index in sorted(found)]
        first: dict[tuple[object, ...], Acted] = {}
        for one in acted(made.columns, contents, session):
            for group in _groups(one):
                if group not in first or (one.at or 0, one.record) < (first[group].at or 0, first[group].record):
                    first[group] = one
        for (_, kind, *named), one in first.items():
            pairs[BY_INDEX].append((hash_of(str(kind), *named), one.record))
            pairs[BEGUN].append((session, one.record))
    return {
        name: (np.array([h for h, _ in some], np.uint64), np.array([i for _, i in some], np.int64))
        for name, some in pairs.items()
    }


def _lost(parts: Sequence[Path], dropped: Sequence[Indexes]) -> set[int]:
    found: set[int] = set()
    for part, gone in zip(parts, dropped, strict=True):
        if len(gone):
            sessions, indexes = Postings(part / BEGUN).between(0, 1 << 64)
            found |= set(sessions[among(indexes, gone)].tolist())
    return found


def _groups(one: Acted) -> Iterator[tuple[object, ...]]:
    yield one.environment, "begin", one.datasource
    if one.told_id is not None:
        yield one.environment, "begin told", one.told_id
    elif one.db_user is not None:
        yield one.environment, "begin login", one.datasource, one.db_user


class Begun:
    """Which session a beginning is of."""

    def __init__(self, postings: Postings) -> None:
        sessions, indexes = postings.between(0, 1 << 64)
        order = np.argsort(indexes, kind="stable")
        self.indexes, self.sessions = indexes[order], sessions[order]

    def of(self, indexes: Indexes) -> Hashes:
        """The session of each of these; all of them are beginnings."""
        if not len(indexes):
            return np.empty(0, np.uint64)
        return self.sessions[np.searchsorted(self.indexes, indexes)]
