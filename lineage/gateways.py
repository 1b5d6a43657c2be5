"""What gateways say of themselves and are told: databases, catalogs, live sessions, orders to end one (docs/held.md).

Derived and overwritten at each exchange; what happened is in the log. A gateway speaks for its source's environment and
database alone.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from lineage import connecting, errors, ledger, rights
from lineage.access import Viewer
from lineage.events import Actor, Principal
from lineage.exchanged import Database, Hold, Live, Message
from lineage.models import (
    DeclaredCatalog,
    Gateway,
    GatewayDatabase,
    GatewayKill,
    GatewaySession,
    GuardrailVersion,
    Role,
    Source,
    Tag,
)

KILL_ROLES = frozenset({Role.SECURITY, Role.ADMIN, Role.OPERATOR})
SILENT_SECONDS = 15
SEEN_SECONDS = 3
REFUSED_AGAIN = dt.timedelta(hours=1)
TAG = ("datasource", "relation", "column")
UNCLASSED = ["none"]
STANDING = """with mine as (select *, required_since is not null as required from lineage_gatewaydatabase where gateway_id = %s)
select json_build_object(
    'databases', (select coalesce(jsonb_agg(mine), '[]') from mine),
    'sessions', (select coalesce(jsonb_agg(jsonb_build_array(session_id, state, statements, last_command, purpose)), '[]')
        from lineage_gatewaysession where gateway_id = gateway.id),
    'kills', (select coalesce(jsonb_agg(jsonb_build_object('session_id', session_id, 'by', by, 'reason', reason) order by id), '[]')
        from lineage_gatewaykill where gateway_id = gateway.id and ended_at is null),
    'tags', (select concat_ws('/', count(*), max(id), max(at)) from lineage_tag where datasource in (select datasource from mine)),
    'rules', (select jsonb_build_array(number, digest) from lineage_guardrailversion order by number desc limit 1),
    'has_approvals', exists (select from lineage_heldstatement where gateway_id = gateway.id and state = 'approved' and expires_at > now())
)::text from lineage_gateway gateway where id = %s"""
DECLARED = ("datasource", "environment", "host", "port", "required", "other_accounts")
CHANGING = ("state", "statements", "last_command", "purpose")
SHOWN = ("session_id", "actor", "on_behalf_of", "agent", "datasource", "environment", "database", "account", "client_ip", "app",
         "purpose", "started_at", "statements", "last_command", "state", "last_seen_at")  # fmt: skip


class Standing(msgspec.Struct, frozen=True):
    """What the store knows of a gateway, in one look: what it said last, and what it is to be told."""

    databases: list[dict[str, Any]]
    sessions: list[list[Any]]
    kills: list[dict[str, str]]
    tags: str
    rules: tuple[int, str] | None
    has_approvals: bool

    def declares(self, databases: Sequence[Database]) -> bool:
        """Whether these databases are those that are kept, and no catalog is new."""
        known = {one["name"]: one for one in self.databases}
        return known.keys() == {one.name for one in databases} and all(
            one.catalog is None and _declared(one) == {name: known[one.name][name] for name in DECLARED}
            for one in databases
        )

    def sees(self, sessions: Sequence[Live]) -> bool:
        """Whether these sessions are those that are kept, and no order stands for one that has gone."""
        said = {one.session_id: [getattr(one, name) for name in CHANGING] for one in sessions}
        gone = any(kill["session_id"] not in said for kill in self.kills)
        return not gone and {one[0]: one[1:] for one in self.sessions} == said


def standing(gateway: Gateway) -> Standing:
    with connection.cursor() as cursor:
        cursor.execute(STANDING, [gateway.pk, gateway.pk])
        return msgspec.json.decode(cursor.fetchone()[0], type=Standing)


def of(source: Source, message: Message) -> Gateway:
    """The gateway that speaks, as it is now. Raises AccessDenied, recorded, when it speaks for what its token does not cover."""
    now = timezone.now()
    told = {"version": message.version, "rules_version": message.rules.version, "rules_digest": message.rules.digest}
    gateway = Gateway.objects.filter(source=source, name=message.gateway).first()
    is_new = gateway is None or any(getattr(gateway, name) != value for name, value in told.items())
    if gateway is None or is_new or now - gateway.seen_at > dt.timedelta(seconds=SEEN_SECONDS):
        gateway, _ = Gateway.objects.update_or_create(
            source=source, name=message.gateway, defaults={**told, "seen_at": now}
        )
    gateway.source = source
    places: list[Database | Live | Hold] = [*message.databases, *message.sessions, *message.held]
    for place in places:
        if place.environment not in (source.environment, "") or source.datasource not in (place.datasource, ""):
            sentence = (
                f"The token of {source.name} speaks for {source.datasource or 'any database'} in {source.environment}, not for "
                f"{place.datasource} in {place.environment}: add a source of format gateway for that, or correct the settings."
            )
            refuse(gateway, sentence)
            raise errors.AccessDenied(sentence)
    return gateway


def refuse(gateway: Gateway, sentence: str) -> None:
    """Records what a gateway was refused: once, and again after an hour, since it says it every second."""
    now = timezone.now()
    if gateway.refused == sentence and gateway.refused_at and now - gateway.refused_at < REFUSED_AGAIN:
        return
    gateway.refused, gateway.refused_at = sentence, now
    gateway.save(update_fields=["refused", "refused_at"])
    by = f"gateway {gateway.name}"
    ledger.record_decision("configuration", decided_by=by, subject=by, transition="refused", purpose=sentence)


def declare(gateway: Gateway, databases: Sequence[Database]) -> None:
    """Keeps what the gateway declares. A database that becomes required, or is so no longer, is a configuration record."""
    known = {d.name: d for d in GatewayDatabase.objects.filter(gateway=gateway)}
    for one in databases:
        before = known.pop(one.name, None)
        since = (before.required_since if before else None) or timezone.now()
        said = _declared(one) | {"required_since": since if one.required else None}
        del said["required"]
        if before is None or any(getattr(before, name) != value for name, value in said.items()):
            kept, _ = GatewayDatabase.objects.update_or_create(gateway=gateway, name=one.name, defaults=said)
            _record_declared(gateway, one.name, one.required, sorted(one.other_accounts))
        else:
            kept = before
        if one.catalog is not None:
            DeclaredCatalog.objects.update_or_create(
                database=kept, defaults={"relations": msgspec.to_builtins(one.catalog.relations)}
            )
    for gone in known.values():
        gone.delete()
        _record_declared(gateway, gone.name, False, (), "not declared any more")


def _declared(one: Database) -> dict[str, Any]:
    """What is kept of a declared database, as `STANDING` gives it."""
    return {name: getattr(one, name) for name in DECLARED} | {"other_accounts": sorted(one.other_accounts)}


def _record_declared(gateway: Gateway, name: str, required: bool, others: Sequence[str], word: str = "") -> None:
    around = f"required, besides {', '.join(others) or 'nobody'}" if required else "not required"
    ledger.record_decision(
        "configuration", decided_by=f"gateway {gateway.name}", subject=f"gateway {gateway.name} database {name}",
        transition=word or around,
    )  # fmt: skip


def see(gateway: Gateway, sessions: Sequence[Live]) -> None:
    """The gateway's live sessions are these and no others. A row that says the same is not written."""
    now = timezone.now()
    by_id = {session.session_id: session for session in sessions}
    GatewaySession.objects.filter(gateway=gateway).exclude(session_id__in=by_id).delete()
    GatewayKill.objects.filter(gateway=gateway, ended_at__isnull=True, at__lt=now).exclude(session_id__in=by_id).update(
        ended_at=now
    )
    names = [name for name in SHOWN if name != "last_seen_at"]
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into lineage_gatewaysession as kept (gateway_id, last_seen_at, " + ", ".join(names) + ") "  # noqa: S608
            "select %s, %s, " + ", ".join(f"said.{name}" for name in names) + " "
            "from jsonb_populate_recordset(null::lineage_gatewaysession, %s) as said "
            "on conflict (gateway_id, session_id) do update set (last_seen_at, state, statements, last_command, purpose) = "
            "(excluded.last_seen_at, excluded.state, excluded.statements, excluded.last_command, excluded.purpose) "
            "where (kept.state, kept.statements, kept.last_command, kept.purpose) is distinct from "
            "(excluded.state, excluded.statements, excluded.last_command, excluded.purpose)",
            [gateway.pk, now, msgspec.json.encode([_row(gateway, s) for s in by_id.values()]).decode()],
        )


def _row(gateway: Gateway, session: Live) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(session)
    return row | {"environment": gateway.source.environment, "on_behalf_of": row["on_behalf_of"] or None}


def live(viewer: Viewer) -> QuerySet[GatewaySession]:
    """Live sessions in the viewer's scope, newest first; `is_ending` on those whose end was ordered."""
    found = (
        GatewaySession.objects.filter(viewer.within("started_at"))
        .select_related("gateway")
        .order_by("-started_at", "session_id")
    )
    orders = GatewayKill.objects.filter(
        gateway=OuterRef("gateway"), session_id=OuterRef("session_id"), ended_at__isnull=True
    )
    return found.annotate(is_ending=Exists(orders)) if viewer.reads_records else found.none()


def is_silent(gateway: Gateway) -> bool:
    """Whether it has not been heard for so long that what it said last may be no longer so."""
    return timezone.now() - gateway.seen_at > dt.timedelta(seconds=SILENT_SECONDS)


def may_kill(viewer: Viewer) -> bool:
    return viewer.role in KILL_ROLES


def kill(viewer: Viewer, number: int, reason: str) -> None:
    """Orders the end of a live session. Raises AccessDenied, NotFound and QueryInvalid; each refusal is recorded."""
    try:
        if not may_kill(viewer):
            raise errors.AccessDenied(
                "Sessions are ended by security, operators and administrators. The refusal is recorded."
            )
        if not reason.strip() or len(reason) > 500:
            raise errors.QueryInvalid("Say why the session must end, in at most 500 characters. It stays in the log.")
        session = live(viewer).filter(pk=number).first()
        if session is None:
            raise errors.NotFound("This session is not live any more, or not in your scope.")
    except errors.TouchstoneError as error:
        ledger.record_decision(
            "revoke", decided_by=viewer.email, subject=f"session {number}", transition="refused", purpose=error.code
        )
        raise
    with transaction.atomic():
        rights.call(
            "select gateway_kill(%s, %s, %s, %s)", session.gateway_id, session.session_id, viewer.email, reason.strip()
        )
        said = ledger.decision(
            "revoke",
            decided_by=viewer.email,
            subject=session.session_id,
            transition="session ended",
            purpose=reason.strip(),
        )
        ledger.record(
            msgspec.structs.replace(
                said, environment=session.environment, datasource=session.datasource, database=session.database,
                session_id=session.session_id, actor=Actor(id=viewer.email, type="human"),
                on_behalf_of=Principal(id=session.actor.get("id"), name=session.actor.get("name")),
            )
        )  # fmt: skip


def rules(standing: Standing, message: Message) -> dict[str, Any] | None:
    """The newest guardrails where the gateway has others. None: it has them, or nobody has set any."""
    if standing.rules is None or standing.rules == (message.rules.version, message.rules.digest):
        return None
    found = GuardrailVersion.objects.get(number=standing.rules[0])
    return {"version": found.number, "text": found.text, "digest": found.digest}


def tags(gateway: Gateway, standing: Standing, known: str) -> list[dict[str, Any]] | None:
    """The tags of the gateway's databases, where the gateway knows another state of them."""
    if standing.tags == known:
        return None
    mine = Tag.objects.filter(datasource__in=GatewayDatabase.objects.filter(gateway=gateway).values("datasource"))
    return [
        {name: getattr(tag, name) for name in TAG} | {"classes": tag.classes or UNCLASSED}
        for tag in mine.order_by("pk")
    ]


def keys(known: str) -> tuple[str, dict[str, Any] | None]:
    """The state of the keys that sign tokens, and the keys (JWK set) where the gateway knows another state."""
    found = connecting.jwks()
    state = hashlib.sha256(msgspec.json.encode(found, order="sorted")).hexdigest()[:16]
    return state, None if state == known else found
