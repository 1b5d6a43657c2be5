"""How many of each kind a search for persons or tables finds, out of codes: as `counts.kinds_counted` asks it in SQL over the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lineage import search
from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import persons
from lineage.extracts.beginnings import BY_INDEX
from lineage.extracts.coding import Coding, Rows
from lineage.extracts.looking import Lookup, Unable, Wanted
from lineage.extracts.meanings import Who
from lineage.extracts.postings import Hashes, among
from lineage.extracts.terms import ACT, REAL
from lineage.queries import candidates, sought
from lineage.queries.ask import COUNT_MOST, Window


class Asked(sought.Sought, frozen=True):
    """The same of searches that may name persons too, or instead: each of them with all others."""

    actor: tuple[search.Term, ...]

    def means(self, who: Who) -> bool:
        """Whether it is each of these persons."""
        told = persons.words((who.id, who.name, who.email))
        return all(any(_is(word, term) for word in told) for term in self.actor)


def _is(word: str, term: search.Term) -> bool:
    wanted = persons.folded(term.value)
    return word.startswith(wanted) if term.prefix else word == wanted


def _spelled(relation: str) -> set[str]:
    folded = persons.folded(relation)
    return {folded, folded.partition(".")[2] or folded}


def _chosen(names: Sequence[str | None], numbers: NDArray[np.int64], wanted: str) -> NDArray[np.bool_]:
    """Which of these numbers are of tables of this name."""
    met = np.unique(numbers)
    is_so = [name is not None and wanted in _spelled(name) for name in (names[number] for number in met.tolist())]
    return np.isin(numbers, met[np.array(is_so, bool)])


def read(q: str) -> Asked | None:
    """None where the search asks for something else too."""
    told = sought.named(q, "actor")
    if told is None or not (told[1] or told[0]["relation"]):
        return None
    return Asked(**told[0], actor=tuple(told[1]))


def kinds(question: Question, viewer: Viewer, q: str, window: Window) -> dict[str, int] | None:
    """How many records, sessions, identities, accesses (above 10,000 maybe fewer than there are) and tables; None: ask in SQL."""
    asked, scope = read(q), candidates.wanted(viewer, window)
    if asked is None or scope is None:
        return None
    return candidates.told(question, lambda look: _Figures(question, look, asked, scope).kinds())


def sessions(question: Question, look: Lookup, q: str, scope: Wanted) -> Hashes | None:
    """The sessions of matching records; None as `read` says it. Raises Unable and Damaged."""
    asked = read(q)
    return _Figures(question, look, asked, scope).sessions() if asked is not None else None


class _Figures:
    def __init__(self, question: Question, look: Lookup, asked: Asked, scope: Wanted) -> None:
        self.look, self.asked = look, asked
        self.coding = coding = Coding(look, question.snapshot.logins)
        wanted = asked.wanted(look, scope)
        hashes = np.unique(np.array([*self._terms(question)], np.uint64))
        found = coding.rows(lambda layer: [layer.postings[BY_INDEX].find_all(hashes)], wanted)
        meant = [who for who in np.unique(found.who).tolist() if asked.means(coding.people[who])]
        self.rows = found.chosen(np.isin(found.who, meant))

    def _terms(self, question: Question) -> Iterator[int]:
        if self.asked.actor:
            yield from (term.hash for term in sought.of_person(self.look, question.snapshot, self.asked.actor[0]))
            return
        for layer in self.look.layers:
            for one in layer.of.tables.of(self.asked.relation[0]):
                yield from (term for term, _ in one.terms(""))

    def kinds(self) -> dict[str, int]:
        rows, coding = self.rows, self.coding
        if not len(rows.indexes):
            return dict.fromkeys(("event", "session", "identity", "touch", "relation"), 0)
        events, sessions = self._named(rows), self.sessions()
        is_decision = np.array([one.kind == "decision" for one in coding.manners], bool)
        acting = np.unique(events.who[~is_decision[events.manners]]).tolist()
        met, relations = self._touched(rows)
        return {
            "event": len(events.indexes), "session": len(sessions),
            "identity": len({coding.people[who].id for who in acting} - {None}), "touch": met, "relation": relations,
        }  # fmt: skip

    def sessions(self) -> Hashes:
        events = self._named(self.rows)
        found: Hashes = np.unique(events.sessions[((events.marks & ACT) != 0) & (events.sessions != 0)])
        return found

    def _named(self, rows: Rows) -> Rows:
        """The records that name each of the tables."""
        values, at = self.coding.meanings.relations.held.spread(rows.shapes)
        names = self.coding.meanings.relations.held.values
        kept = np.ones(len(rows.indexes), bool)
        for wanted in self.asked.relation:
            here = _chosen(names, values, wanted)
            kept &= np.bincount(at[here], minlength=len(kept)).astype(bool)
        return rows.chosen(kept)

    def _touched(self, rows: Rows) -> tuple[int, int]:
        """How many accesses, and of how many tables."""
        values, at = self.coding.meanings.tables.held.spread(rows.shapes)
        names = self.coding.meanings.tables.held.values
        for wanted in self.asked.relation:
            here = _chosen(names, values, wanted)
            values, at = values[here], at[here]
        if not len(at):
            return 0, 0
        datasources = list(dict.fromkeys(place[1] for place in self.coding.places))
        of_place = np.array([datasources.index(place[1]) for place in self.coding.places], np.int64)
        where = of_place[rows.places[at]] * len(names) + values
        real = np.unique(where[(rows.marks[at] & REAL) != 0]).tolist()
        relations = sum(names[pair % len(names)] is not None for pair in real)
        if len(at) > COUNT_MOST:
            return len(at), relations
        pairs = {pair: names[pair % len(names)] for pair in np.unique(where).tolist()}
        if None in pairs.values():
            raise Unable
        return self._times(rows.indexes[at], where, pairs), relations

    def _times(self, indexes: NDArray[np.int64], where: NDArray[np.int64], pairs: dict[int, str | None]) -> int:
        """How often these records touched each of these tables: mostly once."""
        count = len(indexes)
        for layer in self.look.layers:
            repeats = layer.of.repeats
            here = ~among(repeats.indexes, layer.hidden)
            for pair, relation in pairs.items():
                if relation in repeats.names:
                    told = here & (repeats.tables == repeats.names.index(relation))
                    count += int(repeats.more[told & np.isin(repeats.indexes, indexes[where == pair])].sum())
        return count
