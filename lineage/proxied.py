"""The database session behind a proxy's session, exactly or not at all (docs/life-of-an-event.md, Joining).

DuckDB over `facts`, and over `reports` of `lineage.joins`. `gateway_sessions` are those of gateways (`upstream`) and those that a
proxy names, marked `by_proxy`; `told_twice` the lines of the server's log whose statement the proxy of that session told too.
"""

from __future__ import annotations

from lineage.coverage import LOGS

PROXIES = "('teleport', 'events')"
"""Formats that may name a session of the server; hoop's records name none."""
WITHIN_SECONDS = 300
"""Process numbers and ports are used again: how far apart the two beginnings may be, as much as a clock may be wrong."""
LOG_FORMATS = f"({', '.join(repr(name) for name in sorted(LOGS))})"
LINE = f"n.kind = 'query' and n.source_format in {LOG_FORMATS}"
TOP_LEVEL = "not regexp_matches(coalesce(n.correlation_id, ''), '[.]([2-9]|[1-9][0-9]+)$')"
"""Not what a function did inside a statement: that only the server's log tells."""

NO_SESSIONS = """
create view gateway_sessions as select *, false as by_proxy from upstream;
create table told_twice (index bigint);
"""
NAMES = (
    f"kind = 'session' and source_format in {PROXIES} and session_phase = 'start' and not unauthorised "
    "and actor_id is not null and session_id is not null and db_session_id is not null"
)
"""Records that name the person of a database session."""

SESSIONS = f"""
create table proxied as
    select environment, datasource, session_id, db_session_id as named, max(db_user) as db_user, min(began) as began,
           arg_min(struct_pack(id := actor_id, name := actor_name, email := actor_email, type := actor_type,
               behalf := on_behalf_of, agent_id := agent_id, agent_name := agent_name, at := index), index) as person,
           arg_min(purpose, index) as purpose, arg_min(ticket, index) as ticket, arg_min(agent_run, index) as run
    from facts where fact = 'proxy'
    group by environment, datasource, session_id, db_session_id having count(distinct actor_id) = 1;

create table proxy_sessions as
with reached as (
    select environment, datasource, db_session_id, max(db_user) as db_user,
           unnest(list_distinct([db_session_id, 'pid:' || try_cast('0x' || split_part(db_session_id, '.', 2) as bigint),
               'client:' || max(client_ip) || ':' || max(client_port)])) as named,
           try_cast('0x' || split_part(db_session_id, '.', 1) as bigint) as began
    from facts
    where fact = 'session'
      and (split_part(db_session_id, '.', 2) in (select printf('%x', try_cast(named[5:] as bigint)) from proxied where named[:4] = 'pid:')
        or client_port in (select try_cast(regexp_extract(named, '[0-9]+$') as bigint) from proxied where named[:7] = 'client:')
        or db_session_id in (select named from proxied))
    group by environment, datasource, db_session_id)
select p.*, r.db_session_id
from proxied p join reached r on r.environment = p.environment and r.datasource = p.datasource and r.named = p.named
where coalesce(p.db_user = r.db_user, p.named = r.db_session_id)
  and (p.named = r.db_session_id or abs(p.began - r.began) <= {WITHIN_SECONDS})
qualify count(*) over (partition by p.environment, p.datasource, p.session_id) = 1
    and count(*) over (partition by p.environment, p.datasource, r.db_session_id) = 1;

create table by_proxies as
    select environment, datasource, db_session_id, person as gateway, session_id as gateway_session, purpose as gateway_purpose,
           ticket as gateway_ticket, run as gateway_run
    from proxy_sessions p
    where not exists (select 1 from upstream g where g.environment = p.environment and g.datasource = p.datasource
        and g.db_session_id = p.db_session_id);

create view gateway_sessions as
    select *, false as by_proxy from upstream union all by name select *, true as by_proxy from by_proxies;

create table told_twice as
with told as (
    select p.environment, p.datasource, p.db_session_id, e.statement, count(*) as times
    from proxy_sessions p join reports e
        on e.environment = p.environment and e.datasource = p.datasource and e.session_id = p.session_id
    where e.kind = 'query' and e.source_format in {PROXIES} and coalesce(e.op, '') <> 'other' and e.statement is not null
      and not e.unauthorised
    group by all),
line as (
    select n.index, t.times, dense_rank() over (
        partition by n.environment, n.datasource, n.db_session_id, n.statement
        order by regexp_replace(coalesce(n.correlation_id, n.event_id), '[.][0-9]+$', '')) as place
    from told t join reports n on n.environment = t.environment and n.datasource = t.datasource
        and n.db_session_id = t.db_session_id and n.statement = t.statement
    where {LINE} and {TOP_LEVEL})
select index from line where place <= times;
"""  # noqa: S608 - our own conditions
