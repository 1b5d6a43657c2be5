"""By which keys a record is joined, as postings: where the facts of a key are told, and which records take what they say.

A key is a transaction, a virtual id of a session, a session of the server, or a call. In `keys.post` it has two terms: one,
`told`, of the first records in the extract that tell each distinct fact with it, and one of the other records that carry it,
as they were reported or as they were resolved. Nothing personal is in it: hashes and indexes. SQL and a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from lineage import facts
from lineage.extracts import Indexes, Making, postings
from lineage.extracts.postings import Hashes, Postings

VERSION = "2"
"""Raise it with every change of what is a key; extracts are made anew."""
FILE = "keys.post"
NONE = np.uint64(0)
TOLD = np.uint64(1)
"""Set in the term of those who tell; not in that of those who only carry."""


def _key(kind: str, *parts: str) -> str:
    """A key's term; what names no database, or has no such id, is joined with nothing."""
    known = " and ".join(f"{part} is not null" for part in parts)
    return f"case when {known} then {postings.hash_sql(kind, *parts)} & 18446744073709551614::ubigint end"


def _placed(row: str) -> tuple[str, str]:
    return f"{row}.environment", f"{row}.datasource"


def transaction(row: str, xid: str = "xid") -> str:
    return _key("tx", *_placed(row), f"{row}.{xid}")


def virtual(row: str) -> str:
    return _key("vid", *_placed(row), f"{row}.db_session_id", f"{row}.vid")


def session(row: str, session_id: str = "db_session_id") -> str:
    return _key("session", *_placed(row), f"{row}.{session_id}")


ACTS = "('line', 'emission', 'change', 'claim', 'gateway')"
OF_FACTS = f"""
select *, case when fact in {ACTS} then {transaction("f")} end as tx_key,
       case when fact in ('line', 'emission') then {virtual("f")} end as vid_key,
       case when fact in ('line', 'gateway-session') then {session("f")} end as session_key,
       case when fact in ('nested', 'emission') then {_key("call", "f.source", "f.call")} end as call_key
from {{facts}} f where fact not in ('session', 'proxy')"""  # noqa: S608 - our own columns
"""Facts with the keys that they lead to. A line leads to its session, of which it tells nothing."""

REPORTED = f"""
select index, {transaction("n")} as tx_key, case when xid is null then {virtual("n")} end as vid_key, {session("n")} as session_key
from (select index, environment, datasource, nullif(xid, '0') as xid, vid, db_session_id, flags from {{records}}) n
where not coalesce(list_contains(flags, 'unauthorised_assertion'), false)"""  # noqa: S608 - our own columns
"""Records with their keys as they were reported; what says more than its source may is joined with nothing."""

RESOLVED = f"""
select r.index, {transaction("r", "transaction_id")} as tx_key, r.vid_key, {session("r", "session_id")} as session_key
from (
    select n.index, n.environment, n.datasource, coalesce(n.xid, v.xid) as transaction_id,
           case when n.xid is null then {virtual("n")} end as vid_key, coalesce(n.db_session_id, t.line_session) as session_id
    from (
        select index, environment, datasource, nullif(xid, '0') as xid, vid, db_session_id, flags from {{records}}) n
    left join vids v on v.environment = n.environment and v.datasource = n.datasource
        and v.db_session_id = n.db_session_id and v.vid = n.vid
    left join transactions t on t.environment = n.environment and t.datasource = n.datasource
        and t.transaction_id = coalesce(n.xid, v.xid)
    where not coalesce(list_contains(n.flags, 'unauthorised_assertion'), false)) r"""  # noqa: S608 - our own columns
"""The same as they are resolved, over the joined tables of the present schema."""

LED_TO = f"""
select {
    ", ".join(
        f"coalesce({key}, {NONE}::ubigint) as {name}"
        for name, key in (
            ("tx_key", transaction("n")),
            ("vid_key", virtual("n")),
            ("call_key", _key("call", "n.source", "n.call")),
            ("session_key", session("n")),
        )
    )
}
from (select environment, datasource, nullif(xid, '0') as xid, vid, db_session_id, source, {facts.CALL} as call
      from {{records}}) n"""  # noqa: S608 - our own columns
"""The keys of records that tell facts, `NONE` where there is none; the session last."""

CHANGED = """
with calls as (select call_key from turned where fact = 'nested'),
emitted as (select tx_key, vid_key from {told} where fact = 'emission' and call_key in (from calls)),
vids as (select vid_key from turned union select vid_key from emitted)
select unnest([tx_key, vid_key, case when fact = 'gateway-session' then session_key end]) as key from turned
union select unnest([tx_key, vid_key]) from emitted
-- What has only a virtual id is told of the transaction that a line names for it, of several the greatest.
union select tx_key from {told} where fact = 'line' and vid_key in (from vids where vid_key is not null)"""
"""The keys of which the facts in `turned` tell, where all facts with these keys are in `told`."""

EACH = "unnest([tx_key, vid_key, session_key])"
TELLS = "unnest([tx_key, vid_key, call_key, case when fact = 'gateway-session' then session_key end])"


def turned(told: str, first: int, following: int) -> str:
    """SQL of the facts that are told in this range and by no record before it; a claim counts each time."""
    said = ", ".join(name for name in facts.SCHEMA.names if name != "index")
    content = f"select {said}, tx_key, vid_key, session_key, call_key, case when fact = 'claim' then index end as claimed from {told}"  # noqa: S608
    return f"{content} where index >= {first} and index < {following} except {content} where index < {first}"


def of_rows(told: str, records: str) -> str:
    """SQL of all postings (key, index) of these facts and records, over the joined tables of the present schema."""
    return f"""
with told as (select distinct key, index from (select {TELLS} as key, index from {told}) where key is not null),
carried as (select distinct key, index from (select {EACH} as key, index from ({RESOLVED.format(records=records)})) where key is not null)
select key | 1::ubigint as key, index from told union all select key, index from (from carried except from told)"""  # noqa: S608


def write(making: Making) -> None:
    """Writes the keys of an extract: the view `made_keys` of its cursor, which `lineage.extracts.fresh` gave."""
    made = making.cursor.sql("select key, index from made_keys").to_arrow_table()
    postings.write(making.folder / FILE, *columns(made))


def merge(making: Making) -> None:
    """Writes the keys of a merged extract. Nothing is dropped: a record that was resolved anew tells what it told before."""
    postings.merged(making.folder / FILE, [part / FILE for part in making.parts])


def columns(made: pa.Table) -> tuple[Hashes, Indexes]:
    return made["key"].to_numpy().astype(np.uint64), made["index"].to_numpy().astype(np.int64)


class Held:
    """Postings in memory, looked up as a file of them is."""

    def __init__(self, terms: Hashes, indexes: Indexes) -> None:
        places = np.argsort(terms)
        self.indexes = indexes[places]
        self.hashes, starts = np.unique(terms[places], return_index=True)
        self.starts = np.append(starts, len(terms))

    def find_all(self, terms: Hashes) -> Indexes:
        found = np.flatnonzero(np.isin(self.hashes, terms))
        parts = [self.indexes[self.starts[place] : self.starts[place + 1]] for place in found]
        return np.unique(np.concatenate([postings.NOTHING, *parts]))


class Posted:
    """The keys of all extracts, and of rows in memory, looked up together. Raises FileNotFoundError and `postings.Damaged`."""

    def __init__(self, files: Sequence[Path], held: Sequence[Held] = ()) -> None:
        self.files: list[Postings | Held] = [*map(Postings, files), *held]

    def met(self, keys: Hashes) -> Hashes:
        """Those of these keys, ascending, that any record has: one look for each, since its two terms lie side by side."""
        found = np.zeros(len(keys), bool)
        for file in self.files:
            if len(file.hashes):
                places = np.minimum(np.searchsorted(file.hashes, keys), len(file.hashes) - 1)
                found |= file.hashes[places] & ~TOLD == keys
        return keys[found]

    def telling(self, keys: Hashes, below: int) -> Indexes:
        """The records below this index that first told the facts with these keys."""
        return self._of(keys | TOLD, below)

    def carrying(self, keys: Hashes, below: int) -> Indexes:
        """All records below this index that may be joined by one of these keys."""
        return self._of(np.concatenate([keys, keys | TOLD]), below)

    def _of(self, terms: Hashes, below: int) -> Indexes:
        found = np.unique(np.concatenate([postings.NOTHING, *(file.find_all(terms) for file in self.files)]))
        return found[: np.searchsorted(found, below)]
