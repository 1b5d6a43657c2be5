"""Records with what they are joined with: `resolved`, which follows from the log alone, and `activity` and `touches` over it.

One level of SQL each: what a question is planned in goes by the columns of every level between it and the files.
"""

from __future__ import annotations

from collections.abc import Sequence

from lineage.proxied import LINE, TOP_LEVEL

TAGS = """
set variable tags = (select map_from_entries(list((place, tags))) from tagged);
"""
TAGS_OF = (
    "list_distinct(flatten(list_transform(n.relations, "
    "lambda r: coalesce(getvariable('tags')[n.datasource || ' ' || r], []::varchar[]))))"
)
"""A variable and no join: whoever does not ask for tags pays nothing for them."""

ACT = (
    "line_index line_session line_app line_ip claim_state claim_index claim_id claim_name claim_email claim_type claim_for "
    "claim_agent_id claim_agent claim_run claim_purpose claim_ticket joined_outcome"
).split()
"""What is taken of `transactions` as it stands there."""
REASONS = ("gateway_purpose", "gateway_ticket", "gateway_run")
UNAUTHORISED = "list_contains(n.flags, 'unauthorised_assertion')"


RESOLVED = f"""select n.index, n.event_id, n.kind, n.class, n.op, n.command, n.occurred_at, n.received_at, n.occurred_at_quality,
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
       list_concat(n.flags, case when (watched and {LINE} and {TOP_LEVEL}){{or_twice}}
            then ['seen_by_gateway'] else []::varchar[] end) as flags,
       coalesce(claim_state = 'refused', false) as refused,
       n.statement, n.statement_state, n.redacted, n.opaque, n.fingerprint, n.parameters, n.emitted, n.weakens,
       n.key, n.key_columns, n.diff, n.before_values, n.after_values, n.approval, n.approval_request, n.approval_state,
       n.policy, n.policies, n.masked, n.masked_columns, n.session_phase, n.auth_method, n.close_reason, n.decision,
       n.decision_type, n.decision_subject, n.decided_by, n.state, n.custody, n.custody_type, n.custody_subject,
       n.correlation_id, n.db_session_id
from named n{{twice}};
"""  # noqa: S608 - our own columns
"""What is told of a record, over `named` in `resolved`."""


class _Beside:
    """A joined table beside a record `n`. In `parts` (schemas) of it, what the first says of a key is all there is."""

    def __init__(self, table: str, key: str, parts: Sequence[str]) -> None:
        self.key = key
        self.names = [f"{part}.{table}" for part in parts] or [table]
        self.aliases = [f"{table[0]}{number}" for number in range(len(self.names))]

    def joined(self, condition: str) -> str:
        """The largest goes first, while DuckDB knows how few the records are and looks them up in it, not it in them."""
        pairs = zip(self.names, self.aliases, strict=True)
        return " ".join(
            f"left join {name} {alias} on {condition.format(alias)}" for name, alias in reversed(list(pairs))
        )

    def __call__(self, column: str) -> str:
        first, last = self.aliases[0], self.aliases[-1]
        if first == last:
            return f"{last}.{column}"
        return f"case when {first}.{self.key} is not null then {first}.{column} else {last}.{column} end"


def resolved(twice: bool, parts: Sequence[str] = (), records: str = "raw_events") -> str:
    """Makes the view `resolved` of `records`, over tables of the present schema or of `parts`; `twice`: some acts were told twice."""
    v, t, g = (
        _Beside(name, key, parts)
        for name, key in (("vids", "vid"), ("transactions", "transaction_id"), ("gateway_transactions", "xid"))
    )
    place = "{0}.environment = n.environment and {0}.datasource = n.datasource"
    of_transaction = place + " and {0}.{1} = n.transaction_id"
    # Nothing refers to a column of its own level: DuckDB would plan the expression anew for each place.
    right = "not n.unauthorised and not n.is_claim"
    asserted = f"(n.actor_id is not null and {right})"
    behind = f"(coalesce(s.by_proxy, false) and {g('xid')} is null)"
    person = (
        f"case when n.source_format is distinct from 'gateway' and not {asserted} "
        f"then case when {g('xid')} is not null then {g('gateway')} else s.gateway end end"
    )
    believed = f"coalesce({t('claim_state')} = 'proved', false)"
    acts = ", ".join(f"{t(column)} as {column}" for column in ACT)
    reasons = ", ".join(f"coalesce({g(name)}, s.{name}) as {name}" for name in REASONS)
    told = RESOLVED.format(
        or_twice=" or w.index is not null" if twice else "",
        twice=" left join told_twice w on w.index = n.index" if twice else "",
    )
    return f"""
create view resolved as
with records as (
    select n.*, {UNAUTHORISED} as unauthorised, list_contains(n.flags, 'claim') as is_claim,
           case when not {UNAUTHORISED} then coalesce(nullif(n.xid, '0'), {", ".join(f"{a}.xid" for a in v.aliases)}) end as transaction_id
    from {records} n
    {v.joined(place + " and {0}.db_session_id = n.db_session_id and {0}.vid = n.vid")}),
named as (
    select n.*, {acts}, {g("gateway_outcome")} as gateway_outcome, {reasons},
           coalesce(case when not n.unauthorised then n.db_user end, {t("line_user")}) as login,
           {right} as told_by_right, {asserted} as asserted, {believed} as believed, {person} as g, {behind} as by_proxy,
           struct_extract({person}, 'id') is not null and not ({behind} and {believed} and {t("claim_id")} is not null) as vouched,
           case when not {asserted} then coalesce({g("gateway_session")}, s.gateway_session) end as gateway_session,
           s.db_session_id is not null and not s.by_proxy as watched
    from records n
    {t.joined(of_transaction.replace("{1}", "transaction_id"))}
    {g.joined(of_transaction.replace("{1}", "xid"))}
    left join gateway_sessions s on {place.format("s")} and not n.unauthorised
        and s.db_session_id = coalesce(n.db_session_id, {t("line_session")}))
{told}
"""  # noqa: S608 - our own columns


OF_ACTIVITY = f"""select n.index, event_id, kind, class, op, command, occurred_at, received_at, occurred_at_quality,
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
       case when x.index is null and refused is distinct from true and flags is not null then flags
            else list_concat(flags, list_concat(
                case when x.index is not null and not list_contains(flags, 'duplicate_conflict')
                     then ['duplicate_conflict'] else []::varchar[] end,
                case when refused then ['suspected_forgery'] else []::varchar[] end)) end as flags,
       statement, statement_state, redacted, opaque, fingerprint, parameters, emitted, weakens, key, key_columns, diff,
       before_values, after_values, approval, approval_request, approval_state, policy, policies, masked, masked_columns,
       session_phase, auth_method, close_reason, decision, decision_type, decision_subject, decided_by, state, custody,
       custody_type, custody_subject, correlation_id, db_session_id, {TAGS_OF} as tags
from resolved n
left join identities i on i.datasource = n.datasource and i.db_user = n.db_user
    and n.occurred_at >= i.from_at and n.occurred_at < i.to_at
left join conflicted x on x.index = n.index"""  # noqa: S608 - our own columns
"""What imported logins, conflicts and tags make of records: asked of `resolved`, `identities` and `conflicted`."""
ACTIVITY = f"""
create view activity as {OF_ACTIVITY};

create view touches as
    select a.* exclude (key, key_columns, columns), t.relation, t.key, t.key_columns, t.pairs, t.touch_columns as columns,
           t.access, t.touch_op, t.provenance
    from raw_touches t join activity a using (index);
"""  # noqa: S608 - our own columns
