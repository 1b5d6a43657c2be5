"""The sessions that some records are of, those active last, out of codes: as `heads.SESSION_COLUMNS` says them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lineage.extracts import Indexes
from lineage.extracts.cards import NO_TIME
from lineage.extracts.coding import Coding, Rows
from lineage.extracts.groups import LATE
from lineage.extracts.looking import Wanted
from lineage.extracts.numbering import dense
from lineage.extracts.postings import Hashes, among
from lineage.extracts.terms import BY_TIME
from lineage.queries import tallies
from lineage.queries.heads import STRENGTHS
from lineage.queries.tallies import Acts

MOST = 20
DETAILED = ("client_app", "client_ip", "ticket", "close_reason")


class Latest(NamedTuple):
    """Some sessions with the index of the last wanted record of each, the greatest first."""

    sessions: Hashes
    lasts: Indexes


def sessions(coding: Coding, mine: Rows, wanted: Wanted) -> list[dict[str, Any]]:
    """The rows of those of which some record is wanted last; the newest first."""
    return rows(coding, latest(coding, np.unique(mine.sessions[mine.sessions != 0]), wanted, MOST).sessions, wanted)


def rows(coding: Coding, chosen: Hashes, wanted: Wanted) -> list[dict[str, Any]]:
    """The rows of these sessions; the last active first."""
    if not len(chosen):
        return []
    ascending = np.sort(chosen)
    found = coding.rows(lambda layer: [layer.postings[BY_TIME].find_all(ascending)], wanted)
    told = _Sessions(coding, found.chosen(np.argsort(found.sessions, kind="stable"))).told()
    return sorted(told, key=lambda row: -row["last_index"])


def latest(coding: Coding, of: Hashes, wanted: Wanted, most: int, before: int | None = None) -> Latest:
    """Those whose last wanted record is the newest, and lies `before`. A session has none behind the last of all, so few are looked at."""
    lasts = np.full(len(of), -1)
    for layer in coding.look.layers:
        lasts = np.maximum(lasts, layer.lasts(of))
    order, end = np.argsort(lasts)[::-1], coding.look.size if before is None else before
    chosen: list[tuple[int, int]] = []
    start, step = 0, most
    while start < len(order):
        some = order[start : start + step]
        if len(chosen) == most and chosen[-1][0] >= lasts[some[0]]:
            break
        ends = zip(_last(coding, of[some], wanted).tolist(), of[some].tolist(), strict=True)
        chosen = sorted([*chosen, *(one for one in ends if 0 <= one[0] < end)], reverse=True)[:most]
        start, step = start + step, 2 * step
    return Latest(
        np.array([session for _, session in chosen], np.uint64), np.array([last for last, _ in chosen], np.int64)
    )


def _last(coding: Coding, some: Hashes, wanted: Wanted) -> Indexes:
    """The greatest index of each of these sessions' records that are wanted; -1 where none is."""
    ascending, again = np.unique(some, return_inverse=True)
    last = np.full(len(ascending), -1)
    for layer in coding.look.layers:
        sessions, found = layer.postings[BY_TIME].pairs(ascending)
        there = layer.directory(np.unique(found[~among(found, layer.hidden)]))
        is_kept = among(found, there.indexes[wanted.mask(layer, coding.look.size)(there)])
        np.maximum.at(last, np.searchsorted(ascending, sessions[is_kept]), found[is_kept])
    return last[again]


class _Sessions:
    """All at once: records of one behind those of another, each's by index."""

    def __init__(self, coding: Coding, rows: Rows) -> None:
        self.coding, self.rows = coding, rows
        self.starts = tallies.starts_of(rows.sessions)
        self.count = len(self.starts)
        self.of = np.repeat(np.arange(self.count), np.diff(self.starts, append=len(rows.sessions)))

    def told(self) -> list[dict[str, Any]]:
        coding, rows, starts = self.coding, self.rows, self.starts
        details, places = self._details(), coding.places
        members: dict[str, Sequence[Any]] = {
            "session": details.pop("session"),
            "datasource": tallies.firsts_in(starts, rows.places, lambda number: places[number][1]),
            "environment": tallies.firsts_in(starts, rows.places, lambda number: places[number][0]),
            **self._who(),
            **{
                name: tallies.firsts_in(starts, rows.actors, tallies.member_of(coding.actors, name))
                for name in ("on_behalf_of", "agent_name", "db_user")
            },
            **self._times(), **tallies.done(Acts(rows), self.of, self.count), **self._verdicts(), **details,
            "last_index": np.maximum.reduceat(rows.indexes, starts).tolist(),
        }  # fmt: skip
        return [dict(zip(members, row, strict=True)) for row in zip(*members.values(), strict=True)]

    def _who(self) -> dict[str, list[Any]]:
        """Who it was by what tells it best, the earliest of these; each member for itself, as `heads.STRENGTH` says."""
        people, rows = self.coding.people, self.rows
        strengths, again = tallies.told_of(rows.who, lambda number: STRENGTHS.get(people[number].attribution or "", 0))
        best = np.lexsort((-np.array(strengths, np.int64)[again], self.of))
        names = {"who_id": "id", "who_name": "name", "who_type": "type", "attribution": "attribution"}
        return {
            name: tallies.firsts_in(self.starts, rows.who[best], tallies.member_of(people, own))
            for name, own in names.items()
        }

    def _times(self) -> dict[str, list[dt.datetime | None]]:
        times, starts = self.rows.times, self.starts
        is_end, again = tallies.told_of(self.rows.manners, lambda number: self.coding.manners[number].is_end)
        first = np.minimum.reduceat(np.where(times == NO_TIME, LATE, times), starts)
        ended = np.maximum.reduceat(np.where(np.array(is_end, bool)[again], times, NO_TIME), starts)
        return {
            "started_at": tallies.moments_of(np.where(first == LATE, NO_TIME, first)),
            "ended_at": tallies.moments_of(ended), "last_at": tallies.moments_of(np.maximum.reduceat(times, starts)),
        }  # fmt: skip

    def _verdicts(self) -> dict[str, list[Any]]:
        manners, again = tallies.told_of(self.rows.manners, self.coding.manners.__getitem__)
        counts = np.bincount(self.of * len(manners) + again, minlength=self.count * len(manners))
        found = counts.reshape(self.count, len(manners)).tolist()
        acted = [
            [one.verdict for one, times in zip(manners, each, strict=True) if times and one.kind in ("query", "change")]
            for each in found
        ]
        return {
            **{
                name: [sum(times for one, times in zip(manners, each, strict=True) if one.verdict == name) for each in found]
                for name in ("approved", "pending", "masked")
            },
            "relations": self._relations(),
            "verdicts": [(tallies.listed(each) or []) if each else None for each in acted],
        }  # fmt: skip

    def _relations(self) -> list[list[str]]:
        held = self.coding.meanings.relations.held
        shapes, again = dense(self.rows.shapes)
        pairs = np.unique(self.of * len(shapes) + again)
        numbers, at = held.spread(shapes[pairs % len(shapes)])
        found: list[list[str | None]] = [[] for _ in range(self.count)]
        for number, of in zip(numbers.tolist(), (pairs // len(shapes))[at].tolist(), strict=True):
            found[of].append(held.values[number])
        return [tallies.listed(each) or [] for each in found]

    def _details(self) -> dict[str, list[Any]]:
        """What is written but on cards, of which the first of each kind of detail is read."""
        rows, look = self.rows, self.coding.look
        order = np.lexsort((rows.details, self.of))
        is_new = np.ones(len(order), bool)
        is_new[1:] = (np.diff(rows.details[order]) != 0) | (np.diff(self.of[order]) != 0)
        telling = np.sort(order[is_new])
        by_index = {card[look.columns.index("index")]: card for card, _ in look.contents(rows.indexes[telling])}
        cards: list[list[list[Any]]] = [[] for _ in range(self.count)]
        for index, of in zip(rows.indexes[telling].tolist(), self.of[telling].tolist(), strict=True):
            cards[of].append(by_index[index])
        told = {
            name: [[card[look.columns.index(name)] for card in each] for each in cards]
            for name in (*DETAILED, "session")
        }
        return {
            "session": [each[0] for each in told["session"]],
            **{name: [tallies.any_of(each) for each in told[name]] for name in ("client_app", "client_ip")},
            "tickets": [tallies.listed(each) for each in told["ticket"]],
            "close_reason": [tallies.any_of(each) for each in told["close_reason"]],
        }
