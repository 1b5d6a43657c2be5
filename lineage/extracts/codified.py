"""What codes say of each record, as text: by SQL over records, and of what cards hold; a test compares both.

`lineage.extracts.codes` makes numbers of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lineage import acts, snapshots
from lineage.extracts import Cursor, Indexes
from lineage.extracts.blocks import TOUCHED, Content
from lineage.extracts.postings import Hashes, hash_of, hash_sql
from lineage.extracts.sums import OF_CALLS

MINE, STATEMENT, WRITE, CHANGE, REFUSED, QUERY, CALLED, IMAGED, APPROVED, GAP, OWN = (1 << n for n in range(11))
BITS = {
    MINE: "not list_has_any(flags, ['claim', 'canary']) and kind <> 'decision'", STATEMENT: acts.STATEMENT, WRITE: acts.WRITING,
    CHANGE: "kind = 'change'", REFUSED: acts.REFUSED, QUERY: f"kind = 'query' and not {acts.TWICE}",
    CALLED: "correlation_id is not null", IMAGED: "kind = 'change' and len(before_values) > 0", APPROVED: "approval is not null",
    GAP: "custody_type = 'gap'", OWN: f"source = '{snapshots.OWN}' and kind = 'decision'",
}  # fmt: skip
"""What is asked of a record; a condition that is null does not hold."""
ACTOR = ("told_id", "told_name", "told_email", "told_type", "told_by", "db_user", "on_behalf_of", "agent_name")
DETAIL = ("client_app", "client_ip", "ticket", "close_reason")
_BITS = " + ".join(f"case when {condition} then {bit} else 0 end" for bit, condition in BITS.items())
TOUCH, PICK = (
    tuple(TOUCHED.index(name) for name in names)
    for names in (("relation", "touch_op", "access"), ("relation", "access", "touch_columns"))
)
NEEDED = (
    *ACTOR, *DETAIL, "kind", "class", "op", "verdict", "flags", "emitted", "session_phase", "session", "transaction_id", "correlation_id",
    "relations", "before_values", "approval", "custody_type", "source",
)  # fmt: skip
TEXTS = ("actors", "manners", "shapes", "picks")
HASHES = ("sessions", "transactions", "details", "calls")
EACH = f"""
select m.index, json_array({", ".join(ACTOR)})::varchar as actors,
       json_array({_BITS}, kind, verdict, coalesce(session_phase = 'end', false), op)::varchar as manners,
       json_array(relations, coalesce(t.touches, []))::varchar as shapes,
       to_json(coalesce(p.picks, []))::varchar as picks,
       case when session is null then 0 else {hash_sql("session", "session")} end as sessions,
       case when transaction_id is null then 0 else {hash_sql("transaction", "transaction_id")} end as transactions,
       md5_number_lower(json_array({", ".join(DETAIL)})::varchar) as details,
       case when correlation_id is not null and ({OF_CALLS}) then {hash_sql("call", "correlation_id")} else 0 end as calls
from made m left join (
    select index, list_sort(list(json_array(relation, touch_op, access, n)::varchar)) as touches
    from (select index, relation, touch_op, access, count(*) filter (access = 'changed') as n from made_touches group by all)
    group by index
) t using (index) left join (
    select index, list_sort(list(distinct json_array(relation, access, touch_columns)::varchar)) as picks
    from made_touches where len(touch_columns) > 0 and relation is not null group by index
) p using (index) order by m.index
"""  # noqa: S608 - our own columns
"""`made` and `made_touches` as `lineage.extracts.Making` has them. A shape is what a record names, and what was done to which table: by
which operation, as which access, and how many rows changed.
"""

Numbers = NDArray[Any]


class Told(NamedTuple):
    """Some records in the order of their indexes: numbers of `texts` for each of `TEXTS`, and hashes (0 for none)."""

    numbers: Sequence[Numbers]
    texts: Sequence[Sequence[str]]
    sessions: Hashes
    transactions: Hashes
    details: Hashes
    calls: Hashes


def told(cursor: Cursor) -> tuple[Indexes, Told]:
    """Of all records of `made`."""
    found: pa.Table = cursor.sql(EACH).to_arrow_table()
    numbers, texts = [], []
    for name in TEXTS:
        column = found[name].combine_chunks().dictionary_encode()
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        numbers.append(column.indices.to_numpy().astype(np.int64))
        texts.append(column.dictionary.to_pylist())
    sessions, transactions, details, calls = (found[name].to_numpy().astype(np.uint64) for name in HASHES)
    return found["index"].to_numpy(), Told(numbers, texts, sessions, transactions, details, calls)


class One(NamedTuple):
    """The same of one record."""

    texts: tuple[str, str, str, str]
    hashes: tuple[int, int, int, int]


def each(columns: Sequence[str], contents: Iterable[Content]) -> Iterator[One]:
    """Of what cards hold; a test compares it with `told`."""
    place = {name: columns.index(name) for name in NEEDED}
    for values, touches in contents:
        row = {name: values[number] for name, number in place.items()}
        bits = _bits(row)
        picks = {_text(touch[n] for n in PICK) for touch in touches if touch[PICK[2]] and touch[PICK[0]] is not None}
        texts = (
            _text(row[name] for name in ACTOR),
            _text((bits, row["kind"], row["verdict"], row["session_phase"] == "end", row["op"])),
            _text((row["relations"], _touched(touches))), _text(sorted(picks)),
        )  # fmt: skip
        call = row["correlation_id"] if bits & (QUERY | CHANGE) else None
        detail = hash_of("detail", _text(row[name] for name in DETAIL))
        named = (("session", row["session"]), ("transaction", row["transaction_id"]), ("call", call))
        session, transaction, of_call = (0 if name is None else hash_of(kind, name) for kind, name in named)
        yield One(texts, (session, transaction, detail, of_call))


def together(some: Sequence[One]) -> Told:
    """These as `told` gives all."""
    texts, numbers = [], []
    for column in range(len(TEXTS)):
        known: dict[str, int] = {}
        numbers.append(
            np.fromiter((known.setdefault(one.texts[column], len(known)) for one in some), np.int64, len(some))
        )
        texts.append(list(known))
    hashes = np.array([one.hashes for one in some], np.uint64).reshape(-1, len(HASHES))
    return Told(numbers, texts, *hashes.T)


def _touched(touches: Sequence[Sequence[Any]]) -> list[str]:
    """As `EACH` says it: of each table, operation and access how many rows changed."""
    changed: dict[tuple[Any, ...], int] = {}
    for touch in touches:
        told = tuple(touch[n] for n in TOUCH)
        changed[told] = changed.get(told, 0) + (told[2] == "changed")
    return sorted(_text((*told, count)) for told, count in changed.items())


def _text(values: Iterable[Any]) -> str:
    return msgspec.json.encode(list(values)).decode()


def _bits(row: Mapping[str, Any]) -> int:
    flags, kind = set(row["flags"] or ()), row["kind"]
    is_query = kind == "query" and not flags & acts.SECOND
    is_statement = is_query and row["op"] != "other" and row["emitted"] is None and "canary" not in flags
    held = {
        MINE: not flags & {"claim", "canary"} and kind != "decision", STATEMENT: is_statement,
        WRITE: is_query and row["class"] == "write", CHANGE: kind == "change",
        REFUSED: row["verdict"] == "blocked" and not flags & acts.SECOND, QUERY: is_query, CALLED: row["correlation_id"] is not None,
        IMAGED: kind == "change" and bool(row["before_values"]), APPROVED: row["approval"] is not None,
        GAP: row["custody_type"] == "gap", OWN: row["source"] == snapshots.OWN and kind == "decision",
    }  # fmt: skip
    return sum(bit for bit, holds in held.items() if holds)
