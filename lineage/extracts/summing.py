"""Counts over a window out of sums, as numbers and not yet as an answer: what a process keeps for them, and the addition.

Whole hours come from cells; hours that an end of the window cuts, or in which a login changes hands, of the records one by one.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineage.extracts import Cursor, Extract, Indexes, naming, reading, singles, standing, sums
from lineage.extracts.blocks import Place
from lineage.extracts.cards import NO_TIME
from lineage.extracts.fresh import Fresh
from lineage.extracts.looking import Unable, Wanted
from lineage.extracts.numbering import Numbers
from lineage.extracts.postings import Damaged, among
from lineage.extracts.standing import Standing
from lineage.extracts.sums import NO_HOUR, Actor, Counted, Named, Sums, Told, Totals, Way
from lineage.moments import microseconds, moment

HOUR = 3_600_000_000
PARTS_MOST = 64
"""So many times a window may be divided by logins that change hands."""


class Part(NamedTuple):
    """A time in which no login changes hands; None where it has no end. Either whole hours, or within one hour, or no time."""

    since: int | None
    until: int | None
    is_whole: bool = True
    is_timeless: bool = False

    @property
    def hours(self) -> tuple[int, int]:
        """From which hour to before which."""
        if self.is_timeless:
            return NO_HOUR, NO_HOUR + 1
        first = NO_HOUR + 1 if self.since is None else self.since // HOUR
        return first, 1 << 31 if self.until is None else self.until // HOUR

    @property
    def moment(self) -> int | None:
        """Some time in it."""
        if self.is_timeless:
            return None
        return self.since if self.since is not None else self.until - 1 if self.until is not None else 0

    def holds(self, times: Indexes) -> NDArray[np.bool_]:
        """Which of these times lie in it."""
        if self.is_timeless:
            return np.asarray(times == NO_TIME)
        held = times != NO_TIME
        if self.since is not None:
            held &= times >= self.since
        if self.until is not None:
            held &= times < self.until
        return np.asarray(held)


class Names:
    """Who actors were, by whom logins belong to; remembered as long as logins stay whose they are."""

    def __init__(self, identities: pa.Table) -> None:
        self.identities = identities
        self.people = naming.by_login(identities.to_pylist())
        self.turns: set[int] = set()
        for rows in self.people.values():
            self.turns |= _turns(rows)
        self.numbers = {name: Numbers() for name in ("environment", "datasource", "who", "kind", "agent")}
        self.manners = Numbers()
        self.known: dict[tuple[str, int], Named] = {}

    def kept(self, name: str, actors: Sequence[Actor], moment: int | None) -> Named:
        """The same as `of`; of one name the actors are always the same."""
        turn = sum(at <= moment for at in self.turns) if moment is not None else -1
        key = name, turn
        if key not in self.known:
            self.known[key] = self.of(actors, moment)
        return self.known[key]

    def of(self, actors: Sequence[Actor], moment: int | None) -> Named:
        rows = [self._of(dict(zip(sums.ACTOR, actor, strict=True)), moment) for actor in actors]
        columns = zip(*rows, strict=True) if rows else [()] * len(Named._fields)
        return Named(*(np.array(column, np.int32) for column in columns))

    def _of(self, actor: dict[str, Any], moment: int | None) -> tuple[int, ...]:
        told = {"told_by": "told" if actor["is_told"] else None, "told_email": None, "occurred_at": moment}
        who, name, _, kind, how = naming.named_as(actor | told, self.people)
        is_agent = actor["has_agent"] or kind == "agent"
        agent = (actor["agent_name"] if actor["agent_name"] is not None else name) if is_agent else None
        values = actor["environment"], actor["datasource"], who, kind, agent
        numbered = (
            -1 if value is None else number(value) for value, number in zip(values, self.numbers.values(), strict=True)
        )
        return *numbered, int(actor["is_alone"]), int(how == "none")


def _turns(rows: Sequence[Mapping[str, Any]]) -> set[int]:
    """When a login becomes somebody else's, or gets another name."""
    said: dict[int, list[tuple[int, Any]]] = {}
    for way, name in ((1, "from_at"), (-1, "to_at")):
        for row in rows:
            said.setdefault(microseconds(row[name]), []).append((way, (row["person_id"], row["name"], row["type"])))
    return {at for at, ends in said.items() if len(ends) != 2 or ends[0][1] != ends[1][1] or ends[0][0] == ends[1][0]}


class Summing:
    """What a process keeps: files, and what is newer than they are, for the newest state. All goes with an erasure."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        self.files: dict[str, Sums] = {}
        self.standing: tuple[str, Standing] | None = None
        self.names: Names | None = None

    def take(
        self, cursor: Callable[[], Cursor], state: str, every: Sequence[Extract], told: Fresh, identities: pa.Table
    ) -> Summed | None:
        """For a question whose state has this name; None where a file is damaged. The cursor is asked for in a new state alone."""
        try:
            with self.lock:
                self.files = {one.folder: self.files.get(one.folder) or _open(one) for one in every}
                if self.standing is None or self.standing[0] != state:
                    hidden = [reading.together([told.stale, later]) for later in reading.dropped(every)]
                    self.standing = state, standing.found(cursor(), every, list(self.files.values()), hidden, told)
                if self.names is None or self.names.identities is not identities:
                    self.names = Names(identities)
                present = {state, *self.files}
                self.names.known = {key: one for key, one in self.names.known.items() if key[0] in present}
                return Summed(state, dict(self.files), self.standing[1], self.names)
        except (Damaged, FileNotFoundError):
            # The keeper makes it anew; the whole log answers meanwhile.
            return None


def _open(one: Extract) -> Sums:
    return Sums(reading.folder(one.folder))


class Summed:
    """The sums of one question, for the state of this name."""

    def __init__(self, state: str, files: Mapping[str, Sums], stands: Standing, names: Names) -> None:
        self.state, self.files, self.stands, self.names = state, files, stands, names

    def totals(self, wanted: Wanted) -> Totals:
        """Everything that is counted in a window and at places. Raises Unable and Damaged."""
        adding = _Adding(self, wanted)
        for part in divided(wanted.since, wanted.until, sorted(self.names.turns)):
            (adding.add_whole if part.is_whole else adding.add_cut)(part)
        return adding.totals()


def divided(since: int | None, until: int | None, turns: Sequence[int]) -> list[Part]:
    """The window in parts, in their order. Raises Unable where they are too many."""
    inside = [turn for turn in turns if (since is None or turn > since) and (until is None or turn < until)]
    if len(inside) > PARTS_MOST:
        raise Unable
    ends = [since, *inside, until]
    timeless = [Part(None, None, is_timeless=True)] if since is None and until is None else []
    return timeless + [part for first, last in itertools.pairwise(ends) for part in _hours(first, last)]


def _hours(since: int | None, until: int | None) -> Iterator[Part]:
    first = None if since is None else -(-since // HOUR) * HOUR
    last = None if until is None else until // HOUR * HOUR
    if since is not None and until is not None and first is not None and last is not None and first > last:
        yield Part(since, until, is_whole=False)
        return
    if since is not None and first != since:
        yield Part(since, first, is_whole=False)
    if first is None or last is None or first < last:
        yield Part(first, last)
    if until is not None and last != until:
        yield Part(last, until, is_whole=False)


class _Adding:
    """One addition."""

    def __init__(self, summed: Summed, wanted: Wanted) -> None:
        self.summed, self.wanted, self.names, self.stands = summed, wanted, summed.names, summed.stands
        self.is_anywhere = wanted.environments is None and wanted.datasources is None
        self.rows: list[Counted] = []
        self.statements = self.writes = 0
        self.calls: list[tuple[Indexes, NDArray[Any], NDArray[Any]]] = []
        self.last_index, self.last_at = -1, NO_TIME

    def add_whole(self, part: Part) -> None:
        first, following = part.hours
        for folder, file in self.summed.files.items():
            cells = sums.between(file.cells, first, following)
            named = self.names.kept(folder, file.said.actors, part.moment)
            self._count(named, cells.hours, cells.actors, file.said.manners, cells.manners, cells.counts)
            self._add_hours(file, sums.between(file.hours, first, following))
        self._add_newer(part)
        self._add_told(self.stands.earlier, part, -1)
        back, allowed = self.stands.back, self._places(self.stands.places)
        here = np.flatnonzero((back.hours >= first) & (back.hours < following))
        here = here[allowed[back.places[here]]]
        self.statements += int(back.statements[here].sum())
        self.writes += int(back.writes[here].sum())

    def _places(self, places: Sequence[Place]) -> NDArray[np.bool_]:
        return np.array([self.wanted.at(place) for place in places], bool)

    def _add_hours(self, file: Sums, hours: sums.Hours) -> None:
        allowed = self._places(file.said.places)
        if not allowed.all():
            hours = type(hours)(*(column[allowed[hours.places]] for column in hours))
        if len(hours.hours):
            self.statements += int(hours.statements.sum())
            self.writes += int(hours.writes.sum())
            self._last(hours.last_index, hours.last_at)

    def _add_newer(self, part: Part) -> None:
        self._add_told(self.stands.newer, part, 1)

    def _add_told(self, told: Told, part: Part, n: int) -> None:
        """Adds these records, or takes them back."""
        here = np.flatnonzero(part.holds(told.times))
        named = self.names.kept(self.summed.state, self.stands.actors, part.moment)
        here = here[self._allowed(named)[told.actors[here]]]
        if len(here):
            some = Told(*(column[here] for column in told))
            self._count(named, some.hours, some.actors, self.stands.manners, some.manners, np.full(len(here), n))
            self.statements += n * int(some.is_single.sum())
            if n > 0:
                self._last(some.indexes, some.times)

    def add_cut(self, part: Part) -> None:
        for number, (folder, file) in enumerate(self.summed.files.items()):
            some = file.singles.between(part.since, part.until)
            named = self.names.kept(folder, file.said.actors, part.moment)
            kept = self._allowed(named)[some.actors] & ~among(some.indexes, self.stands.hidden[number])
            some = singles.chosen(some, kept)
            ways = np.array(file.said.ways, np.int64).reshape(-1, len(Way._fields))[some.ways]
            hours, ones = some.times // HOUR, np.ones(len(some.times), np.int64)
            self._count(named, hours, some.actors, file.said.manners, ways[:, 0], ones)
            self.statements += int(ways[:, 1].sum())
            told = ~among(some.indexes, self.stands.apart[number])
            self.calls.append((some.calls[told], ways[told, 2], ways[told, 3]))
            self._last(some.indexes, some.times)
        self._add_newer(part)

    def _count(
        self, named: Named, hours: NDArray[Any], actors: NDArray[Any], manners: Sequence[Actor], manner: NDArray[Any],
        n: NDArray[Any],
    ) -> None:  # fmt: skip
        if not len(hours):
            return
        if not self.is_anywhere:
            kept = self._allowed(named)[actors]
            hours, actors, manner, n = (column[kept] for column in (hours, actors, manner, n))
        of = Named(*(column[actors] for column in named))
        told = np.array([self.names.manners(one) for one in manners], np.int64)[manner]
        self.rows.append(Counted(of, hours.astype(np.int64), told, n.astype(np.int64)))

    def _allowed(self, named: Named) -> NDArray[np.bool_]:
        """Which of these actors were at a place that is asked for."""
        kept = np.ones(len(named.who), bool)
        asked = ("environment", self.wanted.environments), ("datasource", self.wanted.datasources)
        for name, some in asked:
            if some is not None:
                numbers = self.names.numbers[name].of
                kept &= np.isin(getattr(named, name), [numbers[value] for value in some if value in numbers])
        return kept

    def _last(self, indexes: NDArray[Any], times: NDArray[Any]) -> None:
        self.last_index = max(self.last_index, int(indexes.max(initial=-1)))
        self.last_at = max(self.last_at, int(times.max(initial=NO_TIME)))

    def totals(self) -> Totals:
        gone, gone_at = self.stands.gone
        if (gone == self.last_index).any() or (self.last_at != NO_TIME and (gone_at == self.last_at).any()):
            raise Unable
        called = self._called()
        statements, writes = (_distinct((calls, told[number]) for calls, *told in called) for number in (0, 1))
        return Totals(
            self.rows, self.names.numbers, list(self.names.manners.of),
            self.statements + statements, self.writes + writes, None if self.last_index < 0 else self.last_index,
            None if self.last_at == NO_TIME else moment(self.last_at),
        )  # fmt: skip

    def _called(self) -> list[tuple[Indexes, NDArray[Any], NDArray[Any]]]:
        """Calls that are listed, with numbers below zero, and those of cut hours."""
        wanted, listed = self.wanted, self.stands.listed
        here = Part(wanted.since, wanted.until).holds(listed.times)
        if wanted.since is wanted.until is None:
            here = np.ones(len(listed.times), bool)
        here &= self._places(self.stands.places)[listed.places] if len(here) else here
        return [(-1 - listed.calls[here], listed.is_statement[here], listed.is_write[here]), *self.calls]


def _distinct(some: Iterable[tuple[Indexes, NDArray[Any]]]) -> int:
    """How many different calls there are of those that are told as this."""
    return len(np.unique(np.concatenate([calls[told != 0] for calls, told in some])))
