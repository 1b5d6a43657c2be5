"""Counts over a window out of sums, as numbers and not yet as an answer: what a process keeps for them, and the addition.

Whole hours come from sums; records are read of the hours that an end of the window cuts, or in which a login changes hands.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineage.extracts import Cursor, Extract, naming, reading, standing, sums
from lineage.extracts.cards import NO_TIME
from lineage.extracts.fresh import Fresh
from lineage.extracts.looking import Unable, Wanted
from lineage.extracts.postings import Damaged
from lineage.extracts.standing import Held, Standing
from lineage.extracts.sums import NO_HOUR, Actor, Counted, Named, Numbers, Sums, Totals
from lineage.moments import microseconds, moment

HOUR = 3_600_000_000
PARTS_MOST = 64
"""So many times a window may be divided by logins that change hands."""
CUT = f"""
select hour, {{part}} as part, {", ".join((*sums.ACTOR, *sums.MANNER))}, call, bool_or(is_statement), bool_or(is_write),
       count(*) filter (is_statement and call is null), count(*), max(index), max(moment) from each group by all
"""  # noqa: S608 - our own columns
ACTORS = slice(2, 2 + len(sums.ACTOR))
MANNERS = slice(ACTORS.stop, ACTORS.stop + len(sums.MANNER))


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

    def holds(self, at: int | None) -> bool:
        if at is None or self.is_timeless:
            return at is None and self.is_timeless
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


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

    def of_file(self, folder: str, file: Sums, moment: int | None) -> Named:
        turn = sum(at <= moment for at in self.turns) if moment is not None else -1
        key = folder, turn
        if key not in self.known:
            self.known[key] = self.of(file.said.actors, moment)
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
        self, cursor: Cursor, state: str, every: Sequence[Extract], told: Fresh, identities: pa.Table
    ) -> Summed | None:
        """For a question whose state has this name; None where a file is damaged."""
        try:
            with self.lock:
                self.files = {one.folder: self.files.get(one.folder) or _open(one) for one in every}
                if self.standing is None or self.standing[0] != state:
                    hidden = [reading.together([told.stale, later]) for later in reading.dropped(every)]
                    self.standing = state, standing.found(cursor, every, list(self.files.values()), hidden, told)
                if self.names is None or self.names.identities is not identities:
                    self.names = Names(identities)
                present = set(self.files)
                self.names.known = {key: one for key, one in self.names.known.items() if key[0] in present}
                return Summed(cursor, dict(self.files), self.standing[1], self.names)
        except (Damaged, FileNotFoundError):
            # The keeper makes it anew; the whole log answers meanwhile.
            return None


def _open(one: Extract) -> Sums:
    return Sums(reading.folder(one.folder))


class Summed:
    """The sums of one question, whose cursor has `resolved`."""

    def __init__(self, cursor: Cursor, files: Mapping[str, Sums], stands: Standing, names: Names) -> None:
        self.cursor, self.files, self.stands, self.names = cursor, files, stands, names

    def totals(self, wanted: Wanted) -> Totals:
        """Everything that is counted in a window and at places. Raises Unable."""
        adding = _Adding(self, wanted)
        parts = divided(wanted.since, wanted.until, sorted(self.names.turns))
        for part in parts:
            if part.is_whole:
                adding.add_whole(part)
        cut = [part for part in parts if not part.is_whole]
        if cut:
            adding.add_cut(cut, _asked(self.cursor, cut))
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


def _asked(cursor: Cursor, cut: Sequence[Part]) -> list[tuple[Any, ...]]:
    spans = " or ".join(f"occurred_at >= '{_time(one.since)}' and occurred_at < '{_time(one.until)}'" for one in cut)
    sums.of(cursor, f"(from resolved where {spans})")
    number = " + ".join(f"(moment >= {one.since})::integer" for one in cut) + " - 1"
    rows: list[tuple[Any, ...]] = cursor.execute(CUT.format(part=number)).fetchall()
    return rows


def _time(at: int | None) -> str:
    return moment(at or 0).isoformat()


class _Adding:
    """One addition."""

    def __init__(self, summed: Summed, wanted: Wanted) -> None:
        self.summed, self.wanted, self.names = summed, wanted, summed.names
        self.rows: list[Counted] = []
        self.statements = self.writes = 0
        self.calls: dict[str, tuple[bool, bool]] = {}
        self.last_index, self.last_at = -1, NO_TIME

    def add_whole(self, part: Part) -> None:
        first, following = part.hours
        for folder, file in self.summed.files.items():
            cells = sums.between(file.cells, first, following)
            named = self.names.of_file(folder, file, part.moment)
            self._count(named, cells.hours, cells.actors, file.said.manners, cells.manners, cells.counts)
            self._add_hours(file, sums.between(file.hours, first, following))
        self._add_changed(part)
        for (hour, place), (statements, writes) in self.summed.stands.calls.items():
            if first <= hour < following and self.wanted.at(place):
                self.statements, self.writes = self.statements + statements, self.writes + writes

    def _add_hours(self, file: Sums, hours: sums.Hours) -> None:
        allowed = np.array([self.wanted.at(place) for place in file.said.places], bool)
        if not allowed.all():
            hours = type(hours)(*(column[allowed[hours.places]] for column in hours))
        if len(hours.hours):
            self.statements += int(hours.statements.sum())
            self.writes += int(hours.writes.sum())
            self._last(int(hours.last_index.max()), int(hours.last_at.max()))

    def _add_changed(self, part: Part) -> None:
        rows = [row for row in self.summed.stands.changed if part.holds(row.at)]
        self._held(rows, part)
        for row in rows:
            if self.wanted.at(row.place):
                self.statements += row.n * (row.is_statement and row.call is None)
                if row.n > 0:
                    self._last(row.record, NO_TIME if row.at is None else row.at)

    def _held(self, rows: Sequence[Held], part: Part) -> None:
        self._listed([row.hour for row in rows], [row.actor for row in rows], [row.manner for row in rows],
                     [row.n for row in rows], part)  # fmt: skip

    def _listed(
        self, hours: list[int], actors: Sequence[Actor], manners: Sequence[Actor], n: list[int], part: Part
    ) -> None:
        who, how = Numbers(), Numbers()
        actor, manner = [who(one) for one in actors], [how(one) for one in manners]
        if actor:
            self._count(self.names.of(list(who.of), part.moment), np.array(hours), np.array(actor), list(how.of),
                        np.array(manner), np.array(n))  # fmt: skip

    def add_cut(self, cut: Sequence[Part], rows: Sequence[tuple[Any, ...]]) -> None:
        for number, part in enumerate(cut):
            here = [row for row in rows if row[1] == number and self.wanted.at((row[ACTORS][0], row[ACTORS][1]))]
            counts = [row[MANNERS.stop :] for row in here]
            self._listed([row[0] for row in here], [row[ACTORS] for row in here], [row[MANNERS] for row in here],
                         [one[4] for one in counts], part)  # fmt: skip
            for call, is_statement, is_write, statements, _, last_index, last_at in counts:
                self.statements += statements
                self._last(last_index, last_at)
                if call is not None:
                    self._call(call, is_statement, is_write)

    def _count(
        self, named: Named, hours: NDArray[Any], actors: NDArray[Any], manners: Sequence[Actor], manner: NDArray[Any],
        n: NDArray[Any],
    ) -> None:  # fmt: skip
        if not len(hours):
            return
        of = Named(*(column[actors] for column in named))
        told = np.array([self.names.manners(one) for one in manners])[manner]
        rows = Counted(of, hours.astype(np.int64), told, n.astype(np.int64))
        if self.wanted.environments is not None or self.wanted.datasources is not None:
            kept = self._allowed("environment", self.wanted.environments, of.environment)
            kept &= self._allowed("datasource", self.wanted.datasources, of.datasource)
            rows = Counted(Named(*(column[kept] for column in of)), *(column[kept] for column in rows[1:]))
        self.rows.append(rows)

    def _allowed(self, name: str, some: frozenset[str] | None, column: NDArray[Any]) -> NDArray[Any]:
        if some is None:
            return np.ones(len(column), bool)
        numbers = self.names.numbers[name].of
        return np.isin(column, [numbers[value] for value in some if value in numbers])

    def _call(self, call: str, is_statement: bool, is_write: bool) -> None:
        before = self.calls.get(call, (False, False))
        self.calls[call] = before[0] or is_statement, before[1] or is_write

    def _last(self, index: int | None, at: int | None) -> None:
        self.last_index = max(self.last_index, -1 if index is None else index)
        self.last_at = max(self.last_at, NO_TIME if at is None else at)

    def totals(self) -> Totals:
        wanted, stands = self.wanted, self.summed.stands
        windows = [Part(wanted.since, wanted.until), Part(None, None, is_timeless=True)][
            : 1 + (wanted.since is wanted.until is None)
        ]
        for one in stands.listed:
            if any(window.holds(one.at) for window in windows) and wanted.at((one.environment, one.datasource)):
                self._call(one.call, one.is_statement, one.is_write)
        if self.last_index in stands.gone or self.last_at in stands.gone.values():
            raise Unable
        statements, writes = (sum(call[number] for call in self.calls.values()) for number in (0, 1))
        return Totals(
            self.rows, self.names.numbers, list(self.names.manners.of),
            self.statements + statements, self.writes + writes, None if self.last_index < 0 else self.last_index,
            None if self.last_at == NO_TIME else moment(self.last_at),
        )  # fmt: skip
