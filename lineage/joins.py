"""Joined facts: who was behind a transaction, as DuckDB tables and views over `facts` and `raw_events` (docs/joining.md).

A join is exact or it is none. `transactions` gathers what the lines, claims and changes of one transaction say;
`resolved` is every event with what follows from the log alone: its session, outcome, who acted as far as records say, and the
index of the record that this comes from. `activity` adds what may change without the log: imported logins, conflicts, tags.
Nothing is matched by time or text, and nothing is written back into an event.

A gateway names the person of a transaction by its id, and of everything in a database session: it has one upstream
session for each client's, so that a session is one person's. What the server's log says of such a session is the second
record of an act that the gateway told of; it is marked `seen_by_gateway` and not counted again. What proxies say of the
database sessions behind theirs is in `lineage.proxied`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lineage import facts, proxied


def _agreed(column: str, records: str = "true") -> str:
    """The value that all these records share, or null: one statement's reason is not another's."""
    return (
        f"case when count(distinct coalesce({column}, '')) filter ({records}) = 1 "
        f"then any_value({column}) filter ({records}) end"
    )


def _gateway(place: str, *writing: str) -> str:
    """What gateways say of each transaction or session. Where two records name two people, nobody is named."""
    reasons = ", ".join(
        f"coalesce({', '.join(_agreed(column, records) for records in (*writing, 'true'))}) as gateway_{name}"
        for name, column in (("purpose", "purpose"), ("ticket", "ticket"), ("run", "agent_run"))
    )
    return f"""
    select environment, datasource, {place},
           case when count(distinct actor_id) = 1 then arg_min(struct_pack(id := actor_id, name := actor_name,
               email := actor_email, type := actor_type, behalf := on_behalf_of, agent_id := agent_id,
               agent_name := agent_name, at := index), index) filter (actor_id is not null) end as gateway,
           min(session_id) as gateway_session, {reasons},
           max(outcome) filter (outcome in ('committed', 'rolled_back')) as gateway_outcome
    from facts where fact = 'gateway' and {place} is not null
    group by environment, datasource, {place}"""  # noqa: S608 - our own columns


PERSON = (
    "gateway struct(id varchar, name varchar, email varchar, type varchar, behalf varchar, agent_id varchar, "
    'agent_name varchar, "at" bigint), gateway_session varchar, gateway_purpose varchar, gateway_ticket varchar, '
    "gateway_run varchar, gateway_outcome varchar"
)
"""What `_gateway` gives, where no gateway told of anything."""
SAYS = "actor_id actor_name actor_email actor_type on_behalf_of agent_id agent_name agent_run purpose ticket".split()
SAID = ", ".join(f"{name} := c.{name}" for name in ("index", *SAYS))
BEST = ", ".join(("index bigint", *(f"{name} varchar" for name in SAYS)))

LINE, TOP_LEVEL = proxied.LINE, proxied.TOP_LEVEL

TRANSACTED = """(
    select f.*, coalesce(f.xid, v.xid) as transaction_id from facts f
    left join vids v using (environment, datasource, db_session_id, vid))"""
"""Facts of lines with their transaction, which those without its id have through session and virtual id."""

VIDS = """
create table vids as
    select environment, datasource, db_session_id, vid, max(xid) as xid from facts
    where fact = 'line' and vid is not null and xid is not null
    group by environment, datasource, db_session_id, vid;
"""

GATEWAYS = f"""
create table gateway_transactions as {_gateway("xid", "writes")};

create table upstream as {_gateway("db_session_id")};
"""

NO_GATEWAYS = f"""
create table gateway_transactions (environment varchar, datasource varchar, xid varchar, {PERSON});
create table upstream (environment varchar, datasource varchar, db_session_id varchar, {PERSON});
"""

CLAIMS = f"""
create table emissions as
    select t.environment, t.datasource, t.transaction_id, t.said, c.db_user is not null as listed,
           t.nested or n.call is not null as nested
    from {TRANSACTED} t
    left join context_roles c on c.environment = t.environment and c.datasource = t.datasource and c.db_user = t.db_user
    left join (select distinct source, call from facts where fact = 'nested') n on n.source = t.source and n.call = t.call
    where t.fact = 'emission' and t.transaction_id is not null;

create table claims as
with judged as (
    select c.environment, c.datasource, c.xid as transaction_id, c.index, any_value(struct_pack({SAID})) as said_by,
           coalesce(bool_or(e.said = c.said and e.listed and not e.nested), false) as proved,
           coalesce(bool_or(e.said = c.said or not e.listed), false) as told,
           coalesce(any_value(c.actor_id in (g.gateway.id, coalesce(g.gateway.email, g.gateway.id))), false) as vouched,
           any_value(g.gateway.id) is not null as watched
    from facts c
    left join gateway_transactions g on g.environment = c.environment and g.datasource = c.datasource and g.xid = c.xid
    left join emissions e on e.environment = c.environment and e.datasource = c.datasource and e.transaction_id = c.xid
    where c.fact = 'claim' group by all)
select environment, datasource, transaction_id,
       case when bool_or(watched and told and not proved and not vouched) then 'refused' when bool_or(proved) then 'proved'
            when bool_or(vouched) then 'vouched' when bool_or(told) then 'refused' else 'waiting' end as claim_state,
       arg_max(said_by, (proved, index)) as best
from judged group by all;
"""  # noqa: S608 - our own columns

NO_CLAIMS = f"""
create table claims (environment varchar, datasource varchar, transaction_id varchar, claim_state varchar, best struct({BEST}));
"""

TRANSACTIONS = f"""
create table transactions as
with line as (
    select environment, datasource, transaction_id,
           min(index) as line_index, arg_min(db_session_id, index) as line_session, arg_min(db_user, index) as line_user,
           arg_min(client_app, index) as line_app, arg_min(client_ip, index) as line_ip, bool_or(undone) as undone
    from {TRANSACTED}
    where fact = 'line' and transaction_id is not null group by environment, datasource, transaction_id),
claim as (
    select environment, datasource, transaction_id, claim_state, best.index as claim_index, best.actor_id as claim_id,
           best.actor_name as claim_name, best.actor_email as claim_email, best.actor_type as claim_type,
           best.on_behalf_of as claim_for, best.agent_id as claim_agent_id, best.agent_name as claim_agent,
           best.agent_run as claim_run, best.purpose as claim_purpose, best.ticket as claim_ticket
    from claims),
change as (select distinct environment, datasource, xid as transaction_id, true as changed from facts where fact = 'change')
select environment, datasource, transaction_id, line.* exclude (environment, datasource, transaction_id, undone),
       claim.* exclude (environment, datasource, transaction_id),
       case when changed or claim_index is not null then 'committed' when undone then 'rolled_back' end as joined_outcome
from line full join claim using (environment, datasource, transaction_id)
    full join change using (environment, datasource, transaction_id);
"""  # noqa: S608 - our own columns

TAGS = """
set variable tags = (select map_from_entries(list((place, tags))) from tagged);
"""
TAGS_OF = (
    "list_distinct(flatten(list_transform(n.relations, "
    "lambda r: coalesce(getvariable('tags')[n.datasource || ' ' || r], []::varchar[]))))"
)
"""A variable and no join: whoever does not ask for tags pays nothing for them."""

ACT = (
    "line_index line_session line_user line_app line_ip claim_state claim_index claim_id claim_name claim_email claim_type claim_for "
    "claim_agent_id claim_agent claim_run claim_purpose claim_ticket joined_outcome"
).split()
"""What `transactions` says beside its key."""
THROUGH = {"gateway": "gt", "gateway_session": "gt_session", "gateway_purpose": "gt_purpose", "gateway_ticket": "gt_ticket",
           "gateway_run": "gt_run", "gateway_outcome": "gateway_outcome", "xid": "gt_xid"}  # fmt: skip
"""What `gateway_transactions` says, and how it is called beside a record."""


def _beside(table: str, key: str, said: Mapping[str, str], parts: Sequence[str]) -> tuple[str, str]:
    """The columns of a joined table beside `lines l`, and the joins. In parts, what the first says of a key is all there is.

    The largest is joined first, where DuckDB still knows how few the records are and looks them up in it, not it in them.
    """
    names = [f"{part}.{table}" for part in parts] or [table]
    aliases = [f"{table}_{number}" for number in range(len(names))]
    joined = "".join(
        f"\n    left join {name} {alias} on {alias}.environment = l.environment and {alias}.datasource = l.datasource "
        f"and {alias}.{key} = l.transaction_id"
        for name, alias in reversed(list(zip(names, aliases, strict=True)))
    )
    first, last = aliases[0], aliases[-1]
    columns = [
        f"{last}.{column} as {name}"
        if first == last
        else f"case when {first}.{key} is not null then {first}.{column} else {last}.{column} end as {name}"
        for column, name in said.items()
    ]
    return ", ".join(columns), joined


def situated(parts: Sequence[str] = ()) -> str:
    """Makes the view of every record beside what its transaction is known by. `parts`: schemas, what the first has goes first."""
    key = "environment, datasource, db_session_id, vid"
    names = [f"{part}.vids" for part in parts] or ["vids"]
    xids = ", ".join(f"v{number}.xid" for number in range(len(names)))
    vids = " ".join(f"left join {name} v{number} using ({key})" for number, name in reversed(list(enumerate(names))))
    act, acts = _beside("transactions", "transaction_id", dict(zip(ACT, ACT, strict=True)), parts)
    through, gateways = _beside("gateway_transactions", "xid", THROUGH, parts)
    return f"""
create view reports as {facts.REPORTS.format(events="raw_events")};

create view lines as
    select e.*, case when not unauthorised then coalesce(e.xid, {xids}) end as transaction_id
    from reports e {vids};

create view situated as
    select l.*, {act}, {through}
    from lines l{acts}{gateways};
"""  # noqa: S608 - our own columns


RESOLVED = f"""
create view resolved as
with named as (
    select l.*, coalesce(case when not unauthorised then l.db_user end, line_user) as login,
           not unauthorised and not is_claim as told_by_right,
           l.actor_id is not null and told_by_right as asserted,
           coalesce(claim_state = 'proved', false) as believed,
           case when l.source_format is distinct from 'gateway' and not asserted
                then case when gt_xid is not null then gt else gs.gateway end end as g,
           coalesce(gs.by_proxy, false) and gt_xid is null as by_proxy,
           struct_extract(g, 'id') is not null and not (by_proxy and believed and claim_id is not null) as vouched,
           case when not asserted then coalesce(gt_session, gs.gateway_session) end as gateway_session,
           gs.db_session_id is not null and not gs.by_proxy as watched,
           coalesce(gt_purpose, gs.gateway_purpose) as gateway_purpose,
           coalesce(gt_ticket, gs.gateway_ticket) as gateway_ticket,
           coalesce(gt_run, gs.gateway_run) as gateway_run
    from situated l left join gateway_sessions gs on gs.environment = l.environment and gs.datasource = l.datasource
        and gs.db_session_id = coalesce(l.db_session_id, line_session) and not l.unauthorised)
select n.index, n.event_id, n.kind, n.class, n.op, n.command, n.occurred_at, n.received_at, n.occurred_at_quality,
       n.environment, n.source, n.source_format, n.sequence, n.source_event_id, n.datasource, n.database, n.db_system,
       case when asserted then n.actor_id when vouched then g.id when believed then claim_id end as told_id,
       case when asserted then coalesce(n.actor_name, n.actor_email, n.actor_id)
            when vouched then coalesce(g.name, g.email, g.id)
            when believed and claim_id is not null then coalesce(claim_name, claim_email, claim_id) end as told_name,
       case when asserted then n.actor_email when vouched then g.email
            when believed and claim_id is not null then claim_email end as told_email,
       case when asserted then n.actor_type when vouched then g.type
            when believed and claim_id is not null then claim_type end as told_type,
       coalesce(case when told_by_right then n.on_behalf_of end, case when vouched then g.behalf end,
            case when believed and not vouched then claim_for
                 when believed and g.type = 'service' then coalesce(claim_for, claim_id) end) as on_behalf_of,
       coalesce(case when told_by_right then n.agent_id end,
            case when vouched then g.agent_id when believed then claim_agent_id end) as agent_id,
       coalesce(case when told_by_right then n.agent_name end,
            case when vouched then g.agent_name when believed then claim_agent end) as agent_name,
       coalesce(case when told_by_right then n.agent_run end,
            case when vouched then gateway_run when believed then claim_run end) as agent_run,
       login as db_user, n.roles,
       case when asserted and n.source_format = 'gateway' then 'gateway'
            when asserted then 'asserted_by_proxy'
            when vouched then case when by_proxy then 'asserted_by_proxy' else 'gateway' end
            when believed and claim_id is not null then 'context_message' end as told_by,
       case when asserted then n.index when vouched then g.at when believed and claim_id is not null then claim_index
            when n.db_user is not null then n.index else line_index end as attribution_index,
       coalesce(claim_state = 'waiting' and not vouched, false) as claimed,
       coalesce(n.purpose, case when vouched then gateway_purpose end, case when believed then claim_purpose end) as purpose,
       coalesce(n.ticket, case when vouched then gateway_ticket end, case when believed then claim_ticket end) as ticket,
       coalesce(n.client_app, line_app) as client_app, coalesce(n.client_ip, line_ip) as client_ip,
       n.datasource || '~' || coalesce(n.session_id, gateway_session, n.db_session_id, line_session) as session,
       n.transaction_id, n.vid, n.position,
       coalesce(nullif(n.outcome, 'unknown'), joined_outcome, gateway_outcome, n.outcome, 'unknown') as outcome,
       coalesce(n.verdict, case when n.kind in ('query', 'change') then 'unknown' end) as verdict,
       n.relations, n.relations_provenance, n.columns, n.keys, n.rows_returned, n.rows_affected, n.bytes_returned,
       n.duration_us, n.error_code, n.error_message,
       list_concat(n.flags, case when (watched and {LINE} and {TOP_LEVEL}) or w.index is not null
            then ['seen_by_gateway'] else []::varchar[] end) as flags,
       coalesce(claim_state = 'refused', false) as refused,
       n.statement, n.statement_state, n.redacted, n.opaque, n.fingerprint, n.parameters, n.emitted, n.weakens,
       n.key, n.key_columns, n.diff, n.before_values, n.after_values, n.approval, n.approval_request, n.approval_state,
       n.policy, n.policies, n.masked, n.masked_columns, n.session_phase, n.auth_method, n.close_reason, n.decision,
       n.decision_type, n.decision_subject, n.decided_by, n.state, n.custody, n.custody_type, n.custody_subject,
       n.correlation_id, n.db_session_id
from named n left join told_twice w on w.index = n.index;
"""  # noqa: S608 - our own conditions

ACTIVITY = f"""
create view activity as
select n.index, event_id, kind, class, op, command, occurred_at, received_at, occurred_at_quality,
       environment, source, source_format, sequence, source_event_id, n.datasource, database, db_system,
       case when told_id is not null then told_id when i.person_id is not null then i.person_id else n.db_user end as who_id,
       coalesce(case when told_id is not null then told_name else i.name end, n.db_user, 'unknown') as who_name,
       case when told_id is not null then told_email else i.email end as who_email,
       coalesce(case when told_id is not null then told_type else i.type end, 'unknown') as who_type,
       on_behalf_of, agent_id, agent_name, agent_run, n.db_user, roles,
       coalesce(told_by, case when i.person_id is not null then 'mapped_login' when n.db_user is not null then 'db_login'
            else 'none' end) as attribution,
       attribution_index, claimed, purpose, ticket, client_app, client_ip, session, transaction_id, vid, position, outcome, verdict,
       relations, relations_provenance, columns, keys, rows_returned, rows_affected, bytes_returned, duration_us, error_code,
       error_message,
       list_concat(flags, list_concat(
           case when x.index is not null and not list_contains(flags, 'duplicate_conflict')
                then ['duplicate_conflict'] else []::varchar[] end,
           case when refused then ['suspected_forgery'] else []::varchar[] end)) as flags,
       statement, statement_state, redacted, opaque, fingerprint, parameters, emitted, weakens, key, key_columns, diff,
       before_values, after_values, approval, approval_request, approval_state, policy, policies, masked, masked_columns,
       session_phase, auth_method, close_reason, decision, decision_type, decision_subject, decided_by, state, custody,
       custody_type, custody_subject, correlation_id, db_session_id, {TAGS_OF} as tags
from resolved n
left join identities i on i.datasource = n.datasource and i.db_user = n.db_user
    and n.occurred_at >= i.from_at and n.occurred_at < i.to_at
left join conflicted x on x.index = n.index;

create view touches as
    select a.* exclude (key, key_columns, columns), t.relation, t.key, t.key_columns, t.pairs, t.touch_columns as columns,
           t.access, t.touch_op, t.provenance
    from raw_touches t join activity a using (index);
"""  # noqa: S608 - our own columns


PRESENT = """
select coalesce(bool_or(fact = 'gateway'), false) as gateways, coalesce(bool_or(fact = 'claim'), false) as claims,
       coalesce(bool_or(fact = 'proxy'), false) as proxies from facts
"""
"""What there is to join with; planning a join with nothing takes as long as one with something."""


def tables(gateways: bool, claims: bool) -> str:
    """Makes what the log alone says of transactions and of gateways' sessions, in the present schema, over `facts`."""
    return "".join((VIDS, GATEWAYS if gateways else NO_GATEWAYS, CLAIMS if claims else NO_CLAIMS, TRANSACTIONS))


def views(proxies: bool, parts: Sequence[str] = ()) -> str:
    """What questions ask, over these tables, `facts`, `raw_events` and `raw_touches`."""
    return "".join((situated(parts), proxied.SESSIONS if proxies else proxied.NO_SESSIONS, RESOLVED, ACTIVITY))


def statements(gateways: bool, claims: bool, proxies: bool) -> str:
    """All of it, by what is `PRESENT`."""
    return tables(gateways, claims) + views(proxies)
