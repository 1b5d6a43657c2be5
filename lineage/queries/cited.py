"""Which tickets were cited last, out of what a process keeps of each extract: as `review.approvals` asks it in SQL over the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes, cites
from lineage.extracts.cards import Directory
from lineage.extracts.filed import Filed
from lineage.extracts.looking import Lookup, Seen, Unable, Wanted
from lineage.extracts.meeting import Condition
from lineage.extracts.postings import NOTHING, Hashes, among, hash_of, hash_sql
from lineage.queries import candidates, paging, sought
from lineage.queries.ask import COUNT_MOST, OWN, Total, Window, meant, scoped

CITED = f"""
    select *, unnest(list_distinct(list_filter([ticket, case when attribution = 'gateway' then approval_request end],
                                               lambda cited: cited is not null))) as cited
    from activity where environment <> '{OWN}' and (ticket is not null or approval_request is not null)
    and not (attribution = 'gateway' and kind = 'query' and coalesce(verdict, '') in ('pending', 'blocked'))"""  # noqa: S608 - our own names
"""Records by what they cite: a ticket, and the request under which a gateway let them run. What it did not let run is no access."""
SPAN = 1 << 16
"""So many citations are looked at first."""
SPARE = 3
"""So many tickets more are read than are shown: one record may cite two, which stand in the order of their names."""
Mask = NDArray[np.bool_]


class Told(NamedTuple):
    """Citations in no order: record, hash of what it cites, whether it is in scope, and `cites.Cites.bits`. Others decide."""

    indexes: Indexes
    hashes: Hashes
    here: Mask
    bits: NDArray[np.uint8]

    def that(self, are: Any) -> Told:
        """Those of these, by mask or by place."""
        return Told(self.indexes[are], self.hashes[are], self.here[are], self.bits[are])


class Tickets(NamedTuple):
    """The last record that cites each ticket, and whether some record of it matches."""

    hashes: Hashes
    last: Indexes
    meets: Mask

    def that(self, are: Mask) -> Tickets:
        """Those of these for which it is so."""
        return Tickets(self.hashes[are], self.last[are], self.meets[are])


def page(question: Question, viewer: Viewer, window: Window, place: Any, count: int) -> paging.Page | None:
    """One page forwards: `ticket` and `last_index` of each, as `paging.keyset` has it; None where only records can tell."""
    wanted = candidates.wanted(viewer, window)
    if wanted is None:
        return None
    return candidates.told(question, lambda look: _Page(question, look, viewer, window, wanted).told(place, count))


class Citing:
    """Who asks, and what records cite: in one file, and in none."""

    def __init__(self, question: Question, look: Lookup, viewer: Viewer, window: Window, wanted: Wanted) -> None:
        self.question, self.look, self.wanted = question, look, wanted
        self.scope = scoped(viewer, window)
        condition, values = meant(viewer, "", "event")
        bits = (
            f"if({condition}, {cites.MEETS}, 0) + if(kind = 'decision', {cites.DECIDES}, 0) "
            f"+ if(kind = 'query' and approval_request = cited, {cites.ASKS}, 0)"
        )
        self.asked: Condition = f"select index, {hash_sql('cited', 'cited')} as hash, {bits} as bits", tuple(values)
        self.files = [(layer, layer.of) for layer in look.layers if isinstance(layer.of, Filed)]
        self.ends = [0, *(file.cards.last + 1 for _, file in self.files)]
        if not self.files or self.ends[-1] > look.size:
            raise Unable

    def known(self, file: Filed) -> cites.Cites:
        """What its records cite, as a process keeps it. Raises Damaged."""
        sql, values = self.asked
        asked, snap = (f"{sql} from ({CITED})", values), self.question.snapshot
        file.cites = known = self.question.of_file(
            lambda cursor: cites.cites(cursor, file.folder, file.cards, snap, asked, file.cites)
        )
        return known

    def filed(self, layer: Seen, file: Filed) -> Told:
        known = self.known(file)
        places = known.places.astype(np.intp)
        numbers, marks = file.cards.numbers[places].astype(np.int64), np.zeros(len(places), np.int64)
        there = Directory(known.indexes, file.cards.times(places), numbers, marks)
        here = self.wanted.mask(layer, self.look.size)(there)
        kept = (here | (known.bits & cites.DECIDES != 0)) & ~among(known.indexes, layer.hidden)
        return Told(known.indexes, known.hashes, here, known.bits).that(kept)

    def lasts(self, layer: Seen, file: Filed) -> Told:
        """The same; where all counts, of what is cited several times the last alone, with the bits of all."""
        if self.wanted != Wanted() or among(self.known(file).indexes, layer.hidden).any():
            return self.filed(layer, file)
        known = self.known(file)
        here = np.ones(len(known.last), bool)
        return Told(known.indexes[known.last], known.hashes[known.last], here, known.all_bits)

    def newer(self) -> Told:
        """Of what is in no extract, or told anew."""
        every = [
            layer.between(0, self.look.size).indexes for layer in self.look.layers if not isinstance(layer.of, Filed)
        ]
        rest = np.concatenate([NOTHING, *every])
        if len(rest) > sought.NAMED_MOST:
            raise Unable
        (sql, values), (scope, bounds) = self.asked, self.scope
        with sought.among(self.question, rest) as few:
            found = self.question.arrow(
                f"{sql}, coalesce({scope}, false) as here from ({CITED} and {few})", [*values, *bounds]
            )
        bits, here = found["bits"].to_numpy().astype(np.uint8), found["here"].to_numpy(zero_copy_only=False)
        indexes, hashes = found["index"].to_numpy().astype(np.int64), found["hash"].to_numpy().astype(np.uint64)
        return Told(indexes, hashes, here, bits).that(here | (bits & cites.DECIDES != 0))


class _Page(Citing):
    def told(self, place: Any, count: int) -> paging.Page | None:
        parts, looked, span = [self.newer()], 0, SPAN
        for number, (layer, file) in reversed([*enumerate(self.files)]):
            parts.append(self.lasts(layer, file))
            looked += len(parts[-1].indexes)
            if number and looked < span:
                continue
            span *= 4
            found, is_whole = _tickets(parts), number == 0
            total = int(found.meets.sum())
            if is_whole:
                found = found.that(found.meets)
            some = _first(found, -place[0] if place else None, count + SPARE)
            # What lies below `ends[number]` is not looked at yet.
            is_sure = len(some) == count + SPARE and bool(
                (found.last[some] >= self.ends[number]).all() and found.meets[some].all()
            )
            if is_whole or (is_sure and total > COUNT_MOST):
                rows = self._named(found, some, place)
                cut = paging.cut(self.question, rows[: count + 1], ("ticket",), place, False, count)
                return *cut, Total(min(total, COUNT_MOST), total <= COUNT_MOST)
        return None

    def _named(self, found: Tickets, some: NDArray[np.intp], place: Any) -> list[dict[str, Any]]:
        """Rows of these tickets, behind `place`, in order. Raises Unable."""
        indexes = found.last[some]
        records = self.question.records(indexes, ["ticket", "approval_request"]) if len(some) else {}
        rows = []
        for index, wanted in zip(indexes.tolist(), found.hashes[some].tolist(), strict=True):
            names = {
                name for name in (records or {}).get(index, {}).values() if name and hash_of("cited", name) == wanted
            }
            if len(names) != 1:
                raise Unable
            rows.append({"ticket": names.pop(), "last_index": index})
        rows.sort(key=lambda row: (-row["last_index"], row["ticket"]))
        return [row for row in rows if not place or (-row["last_index"], row["ticket"]) > tuple(place)]


def together(parts: Sequence[Told]) -> Told:
    return Told(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _tickets(parts: Sequence[Told]) -> Tickets:
    told = together(parts)
    indexes, hashes, meets = told.indexes, told.hashes, told.here & (told.bits & cites.MEETS != 0)
    order = np.lexsort((indexes, hashes))
    starts = np.flatnonzero(np.diff(hashes[order], prepend=~hashes[order][:1]))
    if not len(starts):
        return Tickets(hashes, indexes, meets)
    ends = np.append(starts[1:], len(order)) - 1
    return Tickets(hashes[order][starts], indexes[order][ends], np.logical_or.reduceat(meets[order], starts))


def _first(found: Tickets, upto: int | None, most: int) -> NDArray[np.intp]:
    """So many that were cited last, up to a record."""
    some = np.flatnonzero(found.last <= upto) if upto is not None else np.arange(len(found.last))
    return np.asarray(some[np.argsort(-found.last[some])], np.intp)[:most]
