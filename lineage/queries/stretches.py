"""The sessions that some records are of, those active last, out of codes: as `heads.SESSION_COLUMNS` says them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lineage.extracts import Indexes
from lineage.extracts.coding import Coding, Rows
from lineage.extracts.looking import Wanted
from lineage.extracts.postings import Hashes, among
from lineage.extracts.terms import BY_TIME
from lineage.queries import tallies
from lineage.queries.tallies import Acts

MOST = 20
DETAILED = ("client_app", "client_ip", "ticket", "close_reason")


def sessions(coding: Coding, mine: Rows, wanted: Wanted) -> list[dict[str, Any]]:
    """The rows of those of which some record is wanted last; the newest first."""
    of = np.unique(mine.sessions[mine.sessions != 0])
    chosen = _latest(coding, of, wanted)
    rows = coding.rows(lambda layer: [layer.postings[BY_TIME].find_all(chosen)], wanted) if len(chosen) else None
    if rows is None:
        return []
    order = np.argsort(rows.sessions, kind="stable")
    rows = rows.chosen(order)
    ends = np.searchsorted(rows.sessions, chosen, side="right").tolist()
    starts = np.searchsorted(rows.sessions, chosen).tolist()
    each = [rows.chosen(slice(start, end)) for start, end in zip(starts, ends, strict=True)]
    # All that is read of cards at once.
    coding.look.contents(np.concatenate([_telling(one) for one in each]))
    found = [_session(coding, one) for one in each]
    return sorted(found, key=lambda row: -row["last_index"])


def _latest(coding: Coding, of: Hashes, wanted: Wanted) -> Hashes:
    """Those whose last wanted record is the newest. A session has none behind the last of all, so few are looked at."""
    lasts = np.full(len(of), -1)
    for layer in coding.look.layers:
        lasts = np.maximum(lasts, layer.lasts(of))
    order = np.argsort(lasts)[::-1]
    chosen: list[tuple[int, int]] = []
    for start in range(0, len(order), MOST):
        some = order[start : start + MOST]
        if len(chosen) == MOST and chosen[-1][0] >= lasts[some[0]]:
            break
        ends = zip(_last(coding, of[some], wanted).tolist(), of[some].tolist(), strict=True)
        chosen = sorted([*chosen, *ends], reverse=True)[:MOST]
    return np.sort(np.array([session for _, session in chosen], np.uint64))


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


def _telling(rows: Rows) -> Indexes:
    """The first record of each kind of detail."""
    _, first = np.unique(rows.details, return_index=True)
    return rows.indexes[np.sort(first)]


def _session(coding: Coding, rows: Rows) -> dict[str, Any]:
    acts, best = Acts(rows), tallies.strongest(coding, rows)
    actors = [coding.actors[number] for number in tallies.firsts_of(rows.actors, rows.indexes)]
    places = [coding.places[number] for number in tallies.firsts_of(rows.places, rows.indexes)]
    manners = [coding.manners[number] for number in np.unique(rows.manners).tolist()]
    verdicts = [one.verdict for one in coding.manners]
    counted = dict(zip(*(each.tolist() for each in np.unique(rows.manners, return_counts=True)), strict=True))
    is_end = np.array([one.is_end for one in coding.manners], bool)[rows.manners]
    acted = [one for one in manners if one.kind in ("query", "change")]
    _, ended_at = tallies.spans(rows.chosen(is_end))
    started_at, last_at = tallies.spans(rows)
    details = _details(coding, rows)
    relations = coding.meanings.relations.held.named(rows.shapes)
    return {
        "session": details.pop("session"), "datasource": tallies.any_of(place[1] for place in places),
        "environment": tallies.any_of(place[0] for place in places), "who_id": best["id"], "who_name": best["name"],
        "who_type": best["type"], "attribution": best["attribution"],
        **{name: tallies.any_of(getattr(one, name) for one in actors) for name in ("on_behalf_of", "agent_name", "db_user")},
        "started_at": started_at, "ended_at": ended_at, "last_at": last_at, **tallies.done(acts),
        **{
            name: sum(n for manner, n in counted.items() if verdicts[manner] == name)
            for name in ("approved", "pending", "masked")
        },
        "relations": tallies.listed(relations) or [],
        "verdicts": (tallies.listed(one.verdict for one in acted) or []) if acted else None,
        **details, "last_index": int(rows.indexes[-1]),
    }  # fmt: skip


def _details(coding: Coding, rows: Rows) -> dict[str, Any]:
    """What is written but on cards, of which one of each kind is read."""
    look = coding.look
    cards = [content[0] for content in look.contents(_telling(rows))]
    told: dict[str, Sequence[Any]] = {
        name: [card[look.columns.index(name)] for card in cards] for name in (*DETAILED, "session")
    }
    return {
        "session": told["session"][0], "client_app": tallies.any_of(told["client_app"]),
        "client_ip": tallies.any_of(told["client_ip"]), "tickets": tallies.listed(told["ticket"]),
        "close_reason": tallies.any_of(told["close_reason"]),
    }  # fmt: skip
