"""Which sources told of which database, when, and what was told of their own completeness: what `coverage` needs of records.

SQL over `EVENTS` rows, kept beside them at the seal (docs/coverage.md). It follows from each record alone, so rows of any parts of
the log may be put together; what is read of them takes the least and the greatest.
"""

from __future__ import annotations

import pyarrow as pa

VERSION = "2"
"""Raise it with every change of what follows; rows of another version are made again from the events when they are needed."""
OWN = "touchstone"
BUSY = 20_000
"""From so many records of a day on, a row group, its hours are kept too: at the ends of a window records are looked at."""

TIME, TEXT = pa.timestamp("us", tz="UTC"), pa.string()
SCHEMA = pa.schema(
    [("what", TEXT), ("day", pa.int64())]
    + [(name, TEXT) for name in ("environment", "datasource", "source", "kind")]
    + [(name, TIME) for name in ("first_at", "last_at", "arrived_at")]
    + [(name, pa.int64()) for name in ("index", "last_index")]
    + [(name, pa.bool_()) for name in ("busy", "unauthorised", "beats")]
    + [("custody", TEXT), ("weakens", pa.list_(pa.string()))]
)
"""`what`: `ever` of all records, `day` and `hour` of those of one (UTC; days since 1970), `told` a record of `TELLS`."""

READ = (
    "index occurred_at received_at environment datasource source kind custody_type custody_subject custody weakens verdict flags"
).split()
"""What of `EVENTS` is looked at."""
TELLS = f"""((kind = 'custody' and custody_type in ('gap', 'silence', 'finding')
        and (custody_type <> 'finding' or (source = '{OWN}' and custody_subject is distinct from 'around-the-gateway'
            and custody_subject is distinct from 'sign-off-late'
            and not starts_with(custody_subject, 'finding '))))
    or (len(weakens) > 0 and coalesce(verdict, 'allowed') in ('allowed', 'unknown')))"""
"""A record that tells how complete a source was. A finding that is kept (`finding 7`) tells of what somebody did."""

_PLACE = "environment, datasource, source"
_SPAN = "min(occurred_at) as first_at, max(occurred_at) as last_at, min(index) as index, max(index) as last_index"
_EVER = """list_contains(flags, 'unauthorised_assertion') as unauthorised,
            bool_or(coalesce(custody_type, '') = 'heartbeat') as beats, max(received_at) as arrived_at"""
_TOLD = f"""select 'told' as what, {_PLACE}, kind, occurred_at as first_at, occurred_at as last_at, index, index as last_index,
            custody, weakens"""
_AGAIN = "min(first_at) as first_at, max(last_at) as last_at, min(index) as index, max(last_index) as last_index"
_HOUR = "((epoch_us({}) + 345_600_000_000_000_000) // 3_600_000_000 - 96_000_000)"
"""The number of the hour of a time: also before 1970 the one that it lies in, while `//` cuts towards zero."""
_DAY = "((hour + 96_000_000) // 24 - 4_000_000)"
DAY = _DAY.replace("hour", _HOUR)
"""The number of the day of a time."""
_NAMES = ", ".join(SCHEMA.names)


def made_of(events: str) -> str:
    """SQL that makes the rows of a relation with the columns of `EVENTS`: columns as in `SCHEMA`."""
    return f"""
    with hours as materialized (
        select {_HOUR.format("occurred_at")} as hour, {_PLACE}, {_SPAN}, count(*) as n from {events} group by all),
    days as materialized (
        select {_DAY} as day, {_PLACE}, {_AGAIN}, sum(sum(n)) over (partition by {_DAY}) >= {BUSY} as busy
        from hours group by {_DAY}, {_PLACE}),
    told as ({_TOLD} from {events} where {TELLS})
    select {_NAMES} from (
        select 'ever' as what, {_PLACE}, kind, {_EVER}, {_SPAN}
        from {events} group by {_PLACE}, kind, unauthorised
        union all by name select 'day' as what, * from days
        union all by name select 'hour' as what, * exclude (hour, n), {_DAY} as day from hours
            where {_DAY} in (select day from days where busy)
        union all by name from told)
    """  # noqa: S608 - our own columns


def at_once(events: str) -> str:
    """The same of few records, planned in half the time: days by kind too, none of them busy, which read no other."""
    return f"""
    select {_NAMES} from (
        select unnest(['ever', 'day']) as what, false as busy, {DAY.format("occurred_at")} as day, {_PLACE}, kind, {_EVER}, {_SPAN}
        from {events} group by day, {_PLACE}, kind, unauthorised
        union all by name {_TOLD} from {events} where {TELLS})
    """  # noqa: S608 - our own columns


def telling(events: str) -> str:
    """SQL of those of these records that tell how complete a source was, in rows of their own."""
    return f"{_TOLD} from {events} where {TELLS}"


AGREE = f"""
with made as materialized ({made_of("events")})
select not exists (from made except all select {_NAMES} from heard)
   and not exists (select {_NAMES} from heard except all from made) as agree
"""  # noqa: S608 - our own columns
"""Whether `heard` are those of `events`."""
