"""Codes: of each record of an extract, as numbers, who it was, how, what of which tables, and of which session and transaction.

In the order of the cards, so that of the records that some term finds everything that is counted is told without a card or a
row of Parquet. What a number of an actor, a manner or a shape stands for is kept as text once; sessions, transactions and
details (`DETAIL`) are hashes, the same in every file.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import zstandard
from numpy.typing import NDArray

from lineage import acts, durable
from lineage.extracts import Cursor, Indexes, Making
from lineage.extracts.blocks import TOUCHED, Content
from lineage.extracts.cards import Cards
from lineage.extracts.postings import Damaged, Hashes, Postings, among, hash_of, hash_sql, hashes_of, mapped
from lineage.extracts.sums import CALLS
from lineage.extracts.terms import CARDS

FILE = "codes.bin"
VERSION = "1"
"""Raise it with every change of what is written."""
FOOT = struct.Struct("<16sQ")
MAGIC = b"touchstone code1"

MINE, STATEMENT, WRITE, CHANGE, REFUSED, QUERY, CALLED = (1 << n for n in range(7))
BITS = {
    MINE: "not list_has_any(flags, ['claim', 'canary']) and kind <> 'decision'", STATEMENT: acts.STATEMENT, WRITE: acts.WRITING,
    CHANGE: "kind = 'change'", REFUSED: acts.REFUSED, QUERY: f"kind = 'query' and not {acts.TWICE}",
    CALLED: "correlation_id is not null",
}  # fmt: skip
"""What is asked of a record; a condition that is null does not hold."""
ACTOR = ("told_id", "told_name", "told_email", "told_type", "told_by", "db_user", "on_behalf_of", "agent_name")
DETAIL = ("client_app", "client_ip", "ticket", "close_reason")
_BITS = " + ".join(f"case when {condition} then {bit} else 0 end" for bit, condition in BITS.items())
TOUCH = tuple(TOUCHED.index(name) for name in ("relation", "touch_op", "access", "touch_columns"))
NEEDED = (
    *ACTOR, *DETAIL, "kind", "class", "op", "verdict", "flags", "emitted", "session_phase", "session", "transaction_id", "correlation_id",
    "relations",
)  # fmt: skip
TEXTS = ("actors", "manners", "shapes")
HASHES = ("sessions", "transactions", "details", "calls")
EACH = f"""
select m.index, json_array({", ".join(ACTOR)})::varchar as actors,
       json_array({_BITS}, kind, verdict, coalesce(session_phase = 'end', false))::varchar as manners,
       json_array(relations, coalesce(t.touches, []))::varchar as shapes,
       case when session is null then 0 else {hash_sql("session", "session")} end as sessions,
       case when transaction_id is null then 0 else {hash_sql("transaction", "transaction_id")} end as transactions,
       md5_number_lower(json_array({", ".join(DETAIL)})::varchar) as details,
       case when {BITS[QUERY]} and correlation_id is not null then {hash_sql("call", "correlation_id")} else 0 end as calls
from made m left join (
    select index, list_sort(list(distinct json_array(relation, touch_op, access, touch_columns)::varchar)) as touches
    from made_touches group by index
) t using (index) order by m.index
"""  # noqa: S608 - our own columns
"""`made` and `made_touches` as `lineage.extracts.Making` has them. A shape is what a record names, and its distinct touches."""

Numbers = NDArray[Any]
NO_HASHES = np.empty(0, np.uint64)


class Coded(NamedTuple):
    """Some records in the order of their indexes: for actors, manners and shapes numbers of `texts`, and hashes (0 for none).

    `calls`: where they are known.
    """

    numbers: Sequence[Numbers]
    texts: Sequence[Sequence[str]]
    sessions: Hashes
    transactions: Hashes
    details: Hashes
    calls: Hashes
    parsed: dict[str, Any]
    """What was made of shapes before, as long as the file is open."""


class Whole(NamedTuple):
    """What a file holds. A unit is a session, a transaction and a detail together, by their numbers or hash."""

    actors: Numbers
    manners: Numbers
    shapes: Numbers
    units: Numbers
    unit_sessions: Numbers
    unit_details: Numbers
    transactions: Hashes
    sessions: Hashes
    lasts: Indexes
    details: Hashes
    crossing: Hashes


class Said(msgspec.Struct, array_like=True):
    """What the end of a file says: type, length and width of each column, and of how many bytes the texts are."""

    columns: list[tuple[str, int, int]]
    words: int


def coded(cursor: Cursor) -> tuple[Indexes, Coded]:
    """Of all records of `made`."""
    found: pa.Table = cursor.sql(EACH).to_arrow_table()
    numbers, texts = [], []
    for name in TEXTS:
        column = found[name].combine_chunks().dictionary_encode()
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        numbers.append(column.indices.to_numpy().astype(np.int64))
        texts.append(column.dictionary.to_pylist())
    sessions, transactions, details, calls = (found[name].to_numpy().astype(np.uint64) for name in HASHES)
    return found["index"].to_numpy(), Coded(numbers, texts, sessions, transactions, details, calls, {})


def of_contents(columns: Sequence[str], contents: Sequence[Content]) -> Coded:
    """The same of what cards hold; a test compares both."""
    place = {name: number for number, name in enumerate(columns)}
    rows = [{name: row[place[name]] for name in NEEDED} for row, _ in contents]
    bits = [_bits(row) for row in rows]
    touched = [sorted({_text(touch[n] for n in TOUCH) for touch in touches}) for _, touches in contents]
    told = (
        [_text(row[name] for name in ACTOR) for row in rows],
        [
            _text((bit, row["kind"], row["verdict"], row["session_phase"] == "end"))
            for bit, row in zip(bits, rows, strict=True)
        ],
        [_text((row["relations"], some)) for row, some in zip(rows, touched, strict=True)],
    )
    texts = [list(dict.fromkeys(some)) for some in told]
    numbers = []
    for some, each in zip(told, texts, strict=True):
        known = {text: number for number, text in enumerate(each)}
        numbers.append(np.array([known[text] for text in some], np.int64))
    calls = [row["correlation_id"] if bit & QUERY else None for bit, row in zip(bits, rows, strict=True)]
    return Coded(
        numbers, texts, _hashed("session", [row["session"] for row in rows]),
        _hashed("transaction", [row["transaction_id"] for row in rows]),
        hashes_of(("detail", _text(row[name] for name in DETAIL)) for row in rows), _hashed("call", calls), {},
    )  # fmt: skip


def _text(values: Iterable[Any]) -> str:
    return msgspec.json.encode(list(values)).decode()


def _hashed(kind: str, names: Iterable[str | None]) -> Hashes:
    return np.array([0 if name is None else hash_of(kind, name) for name in names], np.uint64)


def _bits(row: Mapping[str, Any]) -> int:
    flags, kind = set(row["flags"] or ()), row["kind"]
    is_query = kind == "query" and not flags & acts.SECOND
    is_statement = is_query and row["op"] != "other" and row["emitted"] is None and "canary" not in flags
    held = {
        MINE: not flags & {"claim", "canary"} and kind != "decision", STATEMENT: is_statement,
        WRITE: is_query and row["class"] == "write", CHANGE: kind == "change",
        REFUSED: row["verdict"] == "blocked" and not flags & acts.SECOND, QUERY: is_query, CALLED: row["correlation_id"] is not None,
    }  # fmt: skip
    return sum(bit for bit, holds in held.items() if holds)


def write(making: Making) -> None:
    """Of an extract that is made anew, whose cards and calls are written."""
    indexes, all_ = coded(making.cursor)
    calls = np.unique(all_.calls[all_.calls != 0])
    met = [Postings(folder / CALLS).among(calls) for folder in making.earlier]
    crossing = np.unique(np.concatenate([NO_HASHES, *met]))
    (sessions, transactions, details), units = _distinct([all_.sessions, all_.transactions, all_.details])
    lasts = _lasts(all_.sessions, indexes)
    whole = _whole(all_.numbers, units, (sessions, transactions, details), lasts, crossing)
    durable.write_from(making.folder / FILE, 0, _content(whole, all_.texts))


def merge(making: Making) -> None:
    """Of an extract that is merged of others, whose cards are."""
    files = [Codes(part) for part in making.parts]
    made = Cards(making.folder / CARDS)
    first = np.cumsum([0, *(len(file.whole.transactions) for file in files)])
    columns = [np.concatenate(some) for some in zip(*(file.by_unit() for file in files), strict=True)]
    of_units, renumbered = _distinct(columns)
    numbers: tuple[dict[str, int], ...] = ({}, {}, {})
    told = [np.zeros(made.count, np.uint32) for _ in TEXTS]
    units = np.zeros(made.count, np.uint32)
    for part, file, gone, start in zip(making.parts, files, making.dropped, first[:-1].tolist(), strict=True):
        cards = Cards(part / CARDS)
        places = np.flatnonzero(~among(cards.indexes(0, cards.count), gone))
        target = made.positions(cards.indexes(0, cards.count)[places])
        for column, own, texts, known in zip(told, file.whole[:3], file.texts, numbers, strict=True):
            again = np.array([known.setdefault(text, len(known)) for text in texts], np.uint32)
            column[target] = again[wide(own, places)]
        units[target] = renumbered[start + wide(file.whole.units, places)]
    sessions = np.concatenate([file.whole.sessions for file in files])
    lasts = _lasts(sessions, np.concatenate([file.whole.lasts for file in files]))
    crossing = np.unique(np.concatenate([file.whole.crossing for file in files]))
    whole = _whole(told, units, of_units, lasts, crossing)
    durable.write_from(making.folder / FILE, 0, _content(whole, [list(known) for known in numbers]))


def _distinct(columns: Sequence[NDArray[Any]]) -> tuple[list[NDArray[Any]], Numbers]:
    """The distinct values of these columns together, and of each row the number of its own."""
    order = np.lexsort(columns)
    ordered = [column[order] for column in columns]
    is_new = np.zeros(len(order), bool)
    is_new[:1] = True
    for column in ordered:
        is_new[1:] |= column[1:] != column[:-1]
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(is_new) - 1
    return [column[is_new] for column in ordered], numbers


def _lasts(sessions: Hashes, indexes: Indexes) -> tuple[Hashes, Indexes]:
    """Each session once, with the greatest index."""
    order = np.lexsort((indexes, sessions))
    sessions, indexes = sessions[order], indexes[order]
    is_last = np.ones(len(sessions), bool)
    is_last[:-1] = sessions[1:] != sessions[:-1]
    return sessions[is_last], indexes[is_last]


def _whole(
    numbers: Sequence[Numbers],
    units: Numbers,
    of_units: Sequence[Hashes],
    lasts: tuple[Hashes, Indexes],
    crossing: Hashes,
) -> Whole:
    sessions, transactions, details = of_units
    known = np.unique(details)
    actors, manners, shapes = numbers
    return Whole(
        actors, manners, shapes, units, np.searchsorted(lasts[0], sessions),
        np.searchsorted(known, details), transactions, lasts[0], lasts[1], known, crossing,
    )  # fmt: skip


NARROW = 6
"""So many columns, the first, are numbers in as few bytes as they need."""


def _narrow(numbers: Numbers) -> NDArray[np.uint8]:
    most = int(numbers.max(initial=0))
    width = 1 if most < 1 << 8 else 2 if most < 1 << 16 else 3 if most < 1 << 24 else 4
    return np.ascontiguousarray(numbers.astype("<u4").view("u1").reshape(-1, 4)[:, :width])


def wide(column: NDArray[np.uint8], places: NDArray[Any] | slice) -> NDArray[np.int64]:
    """The numbers at these places."""
    written = column[places]
    whole = np.zeros((len(written), 4), np.uint8)
    whole[:, : column.shape[1]] = written
    return whole.view("<u4").ravel().astype(np.int64)


def _content(whole: Whole, texts: Sequence[Sequence[str]]) -> Iterator[bytes]:
    told = []
    for number, column in enumerate(whole):
        column = _narrow(column) if number < NARROW else column.astype(column.dtype.newbyteorder("<"))
        told.append((column.dtype.str, len(column), column.shape[1] if number < NARROW else 1))
        yield (data := column.tobytes())
        yield bytes(-len(data) % 8)
    words = zstandard.ZstdCompressor(level=6).compress(msgspec.msgpack.encode(texts))
    yield words
    yield (end := msgspec.msgpack.encode(Said(told, len(words))))
    yield FOOT.pack(MAGIC, len(end))


class Codes:
    """One file, mapped, and the calls beside it. Raises FileNotFoundError and Damaged. Nothing that it returns refers to the file."""

    def __init__(self, folder: Path) -> None:
        view = mapped(folder / FILE)
        self.parsed: dict[str, Any] = {}
        self.calls = Postings(folder / CALLS)
        try:
            magic, length = FOOT.unpack_from(view, len(view) - FOOT.size)
            end = len(view) - FOOT.size - length
            said = msgspec.msgpack.decode(view[end : end + length], type=Said)
            at, columns = 0, []
            for number, (kind, count, width) in enumerate(said.columns):
                column = np.frombuffer(view, kind, count * width, at)
                columns.append(column.reshape(-1, width) if number < NARROW else column)
                at += column.nbytes + -column.nbytes % 8
            self.whole = Whole(*columns)
            words = zstandard.decompress(view[at : at + said.words])
            self.texts = msgspec.msgpack.decode(words, type=tuple[list[str], list[str], list[str]])
        except (struct.error, ValueError, TypeError, msgspec.DecodeError, zstandard.ZstdError) as error:
            raise Damaged(f"{FILE} is not a file of codes.") from error
        if magic != MAGIC or at + said.words != end:
            raise Damaged(f"{FILE} is not a file of codes.")

    def by_unit(self) -> tuple[Hashes, Hashes, Hashes]:
        """Session, transaction and detail of each unit."""
        whole = self.whole
        return self._of_units(np.arange(len(whole.transactions)))

    def _of_units(self, units: Numbers) -> tuple[Hashes, Hashes, Hashes]:
        whole = self.whole
        return (
            whole.sessions[wide(whole.unit_sessions, units)], whole.transactions[units],
            whole.details[wide(whole.unit_details, units)],
        )  # fmt: skip

    def coded(self, places: NDArray[np.intp]) -> Coded:
        """Of the records at these places of the cards; which call they are of is not told."""
        whole = self.whole
        numbers = [wide(column, places) for column in whole[:3]]
        calls = np.zeros(len(places), np.uint64)
        return Coded(numbers, self.texts, *self._of_units(wide(whole.units, places)), calls, self.parsed)

    @functools.cached_property
    def told_together(self) -> tuple[Hashes, Indexes]:
        """Of the calls that several records here tell of, each record, in order of indexes, with its call."""
        return _by_index(*self.calls.pairs(self.calls.several()))

    def several(self, crossing: Hashes) -> list[tuple[Hashes, Indexes]]:
        """The same with that of these calls, which other files tell of."""
        return [self.told_together, _by_index(*self.calls.pairs(crossing))]

    def lasts(self, sessions: Hashes) -> Indexes:
        """The greatest index that some record here of each of these sessions has; -1 where none is of it."""
        whole = self.whole
        if not len(whole.sessions):
            return np.full(len(sessions), -1)
        places = np.minimum(np.searchsorted(whole.sessions, sessions), len(whole.sessions) - 1)
        return np.where(whole.sessions[places] == sessions, whole.lasts[places], -1)


def _by_index(hashes: Hashes, indexes: Indexes) -> tuple[Hashes, Indexes]:
    order = np.argsort(indexes)
    return hashes[order], indexes[order]
