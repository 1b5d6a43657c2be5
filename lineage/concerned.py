"""Which transactions, sessions and virtual ids newer facts concern; joined tables with those made again alone.

While sources report, what is settled stays as it is: its tables (of a schema `settled`) are kept, and each look makes only what
`facts_newer` concerns, in a schema `fresh`, of those facts and of the `facts_settled` with the same keys (docs/joining.md). SQL only.
"""

from __future__ import annotations

TRANSACTION = "environment datasource xid"
SESSION = "environment datasource db_session_id"
VIDS = f"{SESSION} vid"
ACTS = "('line', 'emission', 'change', 'claim', 'gateway')"
PATCHED = {
    "vids": ("vids_concerned", VIDS.split()),
    "gateway_transactions": ("concerned", TRANSACTION.split()),
    "upstream": ("sessions_concerned", SESSION.split()),
    "claims": ("concerned", "environment datasource transaction_id".split()),
    "transactions": ("concerned", "environment datasource transaction_id".split()),
}
"""Each joined table with the keys of it that are made again."""


def _same(one: str, columns: list[str], other: str) -> str:
    """A row's key is among those concerned; a transaction is called xid there."""
    names = [(column, "xid" if column == "transaction_id" else column) for column in columns]
    return " and ".join(f"{one}.{mine} = {other}.{theirs}" for mine, theirs in names)


def _among(row: str, concerned: str, columns: str) -> str:
    return f"exists (select 1 from {concerned} c where {_same(row, columns.split(), 'c')})"  # noqa: S608 - our own names


def keys(settled: str) -> str:
    """Makes, in the present schema, what is concerned, and `facts`: all that is needed to make it again."""
    return f"""
create table newer_vids as
    select distinct environment, datasource, db_session_id, vid from facts_newer where fact = 'line' and vid is not null;

create table concerned as
    select environment, datasource, xid from facts_newer where fact in {ACTS} and xid is not null
    union
    -- A line with a virtual id belongs to the transaction that another line names for it; a later name may be another one.
    select environment, datasource, xid from facts_settled s where fact = 'line' and xid is not null and {_among("s", "newer_vids", VIDS)}
    union
    -- A call of which an inner part is told now no longer proves a claim.
    select e.environment, e.datasource, coalesce(e.xid, v.xid) from facts_settled e
    left join {settled}.vids v using (environment, datasource, db_session_id, vid)
    where e.fact = 'emission' and coalesce(e.xid, v.xid) is not null
      and exists (select 1 from facts_newer n where n.fact = 'nested' and n.source = e.source and n.call = e.call);

create table vids_concerned as
    from newer_vids union
    select environment, datasource, db_session_id, vid from facts_settled s
    where fact = 'line' and vid is not null and {_among("s", "concerned", TRANSACTION)};

create table sessions_concerned as
    select distinct environment, datasource, db_session_id from facts_newer where fact = 'gateway-session';

create table facts as
    from facts_newer union all by name
    select * from facts_settled s where fact in {ACTS} and {_among("s", "concerned", TRANSACTION)} union all by name
    select * from facts_settled s where fact in ('line', 'emission') and {_among("s", "vids_concerned", VIDS)} union all by name
    select * from facts_settled s where fact = 'gateway-session' and {_among("s", "sessions_concerned", SESSION)};

insert into facts by name
    select * from facts_settled n where fact = 'nested'
    and exists (select 1 from facts e where e.fact = 'emission' and e.source = n.source and e.call = n.call);
"""  # noqa: S608 - our own names


def only_concerned() -> str:
    """Leaves in the tables of the present schema only what is whole: of other keys some of the facts were not there."""
    return "".join(
        f"delete from {name} t where not exists (select 1 from {concerned} c where {_same('t', columns, 'c')});\n"  # noqa: S608
        for name, (concerned, columns) in PATCHED.items()
    )


def patched(settled: str, fresh: str) -> str:
    """Makes the views of the joined tables in the present schema: what `fresh` has, and the rest from `settled`."""
    return "".join(
        f"create view {name} as select * from {fresh}.{name} union all select * from {settled}.{name} t "  # noqa: S608
        f"where not exists (select 1 from {fresh}.{name} f where {_equal(columns)});\n"
        for name, (_, columns) in PATCHED.items()
    )


def _equal(columns: list[str]) -> str:
    return " and ".join(f"f.{column} = t.{column}" for column in columns)
