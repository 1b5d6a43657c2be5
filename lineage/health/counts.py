"""Count commitments: how many leaves of each source and class a sealed range holds, in the log itself (docs/coverage.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec
from django.db import connection, transaction

from lineage import ledger, segments
from lineage.engine import Question
from lineage.events import Custody, Event, HeaderCount


class Header(msgspec.Struct):
    """The members of a leaf that are counted."""

    kind: str
    source_id: str | None = None
    class_: str | None = msgspec.field(name="class", default=None)


Counts = Counter[tuple[str | None, str | None]]
"""Leaves by (source, class)."""

_header = msgspec.json.Decoder(Header).decode
OWN = ("custody", "touchstone")


def counted(leaves: Iterable[bytes]) -> Counts:
    """How many leaves there are of each source and class."""
    return _of_each_source(_of_each_kind(leaves))


def _of_each_kind(leaves: Iterable[bytes]) -> Counter[tuple[str, str | None, str | None]]:
    """Leaves by (kind, source, class), without a step of Python for each."""
    return Counter(map(msgspec.structs.astuple, map(_header, leaves)))


def _of_each_source(found: Counter[tuple[str, str | None, str | None]]) -> Counts:
    counts: Counts = Counter()
    for (_, source, kind), count in found.items():
        counts[source, kind] += count
    return counts


def commit_counts() -> int | None:
    """Commits to the counts of what was sealed since the last time; the index of the record, or None.

    A range of nothing but the store's own custody records waits for the next, or each commitment would call for another.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("select counted_to from coverage_progress where id = 1 for update")
        first, following = int(cursor.fetchone()[0]), segments.sealed_to()
        if following <= first:
            return None
        found = _of_each_kind(leaf for _, leaf in segments.leaves(first, following))
        if all((kind, source) == OWN for kind, source, _ in found):
            return None
        cursor.execute("update coverage_progress set counted_to = %s where id = 1", [following])
        told = commitment(first, following, _of_each_source(found))
        return ledger.record(Event(kind="custody", custody=told)).index


def commitment(first: int, following: int, counts: Counts) -> Custody:
    """The custody record of the range first <= index < following."""
    order = sorted(counts, key=lambda pair: (pair[0] or "", pair[1] or ""))
    return Custody(
        type="count_commitment",
        first=str(first),
        last=str(following - 1),
        count=counts.total(),
        counts=tuple(
            HeaderCount(source_id=source, class_=kind, count=counts[source, kind])  # type: ignore[arg-type]
            for source, kind in order
        ),
    )


def disagreements() -> Iterator[tuple[int, str]]:
    """(index, sentence) of each commitment that the stored leaves, or what a search finds of them, do not bear out."""
    with Question(joined=False) as question:
        rows = question.rows(
            "select index, custody from raw_events where source = 'touchstone' and custody_type = 'count_commitment' "
            "order by index"
        )
        for row in rows:
            said = msgspec.json.decode(row["custody"], type=Custody)
            first, last = int(said.first or 0), int(said.last or -1)
            stated: Counts = Counter({(c.source_id, c.class_): c.count for c in said.counts})
            stored = counted(leaf for _, leaf in segments.leaves(first, last + 1))
            for held, verb in ((stored, "stored"), (_shown(question, first, last), "found by a search")):
                if held != stated or said.count != held.total():
                    yield row["index"], _difference(said, stated, held, verb)
                    break


def tell_disagreements() -> None:
    """Each of them becomes a finding `count-mismatch` in the log, once."""
    with Question(joined=False) as question:
        rows = question.rows(
            "select json_extract_string(custody, '$.first') as first from raw_events "
            "where source = 'touchstone' and custody_subject = 'count-mismatch'"
        )
    told = {row["first"] for row in rows}
    for index, sentence in disagreements():
        if str(index) not in told:
            finding = Custody(type="finding", subject="count-mismatch", detail=sentence, first=str(index))
            ledger.record(Event(kind="custody", custody=finding))


def _shown(question: Question, first: int, last: int) -> Counts:
    rows = question.rows(
        "select source, class, count(*) as n from raw_events where index between ? and ? group by all", [first, last]
    )
    return Counter({(row["source"], row["class"]): row["n"] for row in rows})


def _difference(said: Custody, stated: Counts, held: Counts, verb: str) -> str:
    source, kind = next(iter(sorted((held - stated) + (stated - held), key=str)), (None, None))
    return (
        f"Records {said.first} to {said.last}: the log committed to {stated[source, kind]} of source {source}, "
        f"class {kind}; {held[source, kind]} are {verb}."
    )
