"""Tokens that let people, services and agents in at a gateway: who may have one, what it says, its record (docs/connect.md)."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, cast

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from lineage import errors, keys, ledger, notes
from lineage.access import Viewer
from lineage.events import Actor, Agent, Decision, Event
from lineage.models import GatewayDatabase, Identity, Role, User

KEY = "gateway"
AUDIENCE = "touchstone-gateway"
MINUTES = 15
MOST_MINUTES = 60
MOST_MINUTES_SERVICE = 12 * 60
AGENT_ID = r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}$"
_PLAIN = r"^[^\x00-\x1f\x7f-\x9f]*$"

Line = Annotated[str, msgspec.Meta(max_length=200, pattern=_PLAIN)]


class Acting(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The agent that shall act for who asks."""

    id: Annotated[str, msgspec.Meta(pattern=AGENT_ID)]
    name: Line = ""
    version: Line = ""
    run_id: Line = ""
    model: Line = ""


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What somebody asks for: a database by its name, or "gateway/name"."""

    database: Annotated[str, msgspec.Meta(min_length=1, max_length=300, pattern=_PLAIN)]
    minutes: int = MINUTES
    purpose: Annotated[str, msgspec.Meta(max_length=1000, pattern=_PLAIN)] = ""
    ticket: Line = ""
    agent: Acting | None = None


class Place(NamedTuple):
    """A database as clients reach it: `host` and `port` are the gateway's."""

    name: str
    datasource: str
    environment: str
    gateway: str
    host: str
    port: int
    seen_at: dt.datetime

    @property
    def address(self) -> str:
        """Its name with the gateway's, for where two gateways use the same."""
        return f"{self.gateway}/{self.name}"


class Issued(NamedTuple):
    """A token, for once: it is kept nowhere. `user` is what a client gives as user."""

    token: str
    place: Place
    user: str
    expires_at: dt.datetime


def databases(viewer: Viewer) -> list[Place]:
    """The databases in the viewer's scope that gateways have declared with an address, by name, the last seen first."""
    found = GatewayDatabase.objects.select_related("gateway").exclude(host="").exclude(port=None)
    if viewer.datasources:
        found = found.filter(datasource__in=viewer.datasources)
    if viewer.environments:
        found = found.filter(environment__in=viewer.environments)
    return [
        Place(one.name, one.datasource, one.environment, one.gateway.name, one.host, one.port or 0, one.gateway.seen_at)
        for one in found.order_by("name", "-gateway__seen_at")
    ]


def understood(given: Any) -> Wanted:
    """What a form, a body or a command line asks for. Raises QueryInvalid naming what is wrong."""
    try:
        return msgspec.convert(given, Wanted)
    except msgspec.ValidationError as error:
        raise errors.QueryInvalid(
            f"Ask with database, and if needed minutes, purpose, ticket, agent (docs/connect.md): {error}."
        ) from error


def issue(viewer: Viewer, given: Any) -> Issued:
    """A token for the viewer, or for an agent that acts for them. It is in the log before anybody has it.

    Raises QueryInvalid, NotFound, AccessDenied, each recorded; StoreUnavailable where the log cannot take the record.
    """
    wanted = None
    try:
        wanted = understood(given)
        place = _place(viewer, wanted)
        now = timezone.now().replace(microsecond=0)
        expires_at = _until(viewer, wanted, now)
        if wanted.agent:
            _check_agent(viewer, wanted.agent)
    except errors.TouchstoneError as error:
        _record(viewer, wanted, f"refused {error.code}")
        raise
    token_id = secrets.token_urlsafe(16)
    token = _signed(_claims(viewer, wanted, place) | {"jti": token_id, "iat": now, "nbf": now, "exp": expires_at})
    _record(viewer, wanted, f"token until {expires_at:%Y-%m-%dT%H:%M:%SZ}", place, token_id)
    return Issued(token, place, wanted.agent.id if wanted.agent else viewer.email, expires_at)


def jwks() -> dict[str, Any]:
    """The public keys that gateways check tokens by (a JWK set, RFC 7517), with the issuer and audience of the tokens."""
    keys.make(KEY)
    listed = [notes.parse_vkey(each.vkey) for each in keys.publics(KEY) if each.in_force]
    every = [
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "use": "sig",
            "alg": "EdDSA",
            "kid": key.key_id.hex(),
            "x": _base64(key.public_key),
        }
        for key in listed
    ]
    return {"issuer": settings.ORIGIN, "audience": AUDIENCE, "keys": every}


def _base64(value: bytes) -> str:
    return jwt.utils.base64url_encode(value).decode()


def _place(viewer: Viewer, wanted: Wanted) -> Place:
    if viewer.role == Role.WITNESS:
        raise errors.AccessDenied("A witness reads checkpoints, tiles and proofs, and connects to no database.")
    found = [one for one in databases(viewer) if wanted.database in (one.name, one.address)]
    if not found:
        raise errors.NotFound(
            "No gateway has declared a database of this name in your scope. The page Connect lists those that are there."
        )
    return max(found, key=lambda one: one.seen_at)


def _until(viewer: Viewer, wanted: Wanted, now: dt.datetime) -> dt.datetime:
    """When the token ends: never after the viewer's own time."""
    if (viewer.from_at and now < viewer.from_at) or (viewer.until_at and now >= viewer.until_at):
        raise errors.AccessDenied(f"Your access is limited in time ({viewer.label}). Ask an administrator.")
    most = MOST_MINUTES_SERVICE if viewer.role == Role.SERVICE else MOST_MINUTES
    if not 1 <= wanted.minutes <= most:
        raise errors.QueryInvalid(f"A token lasts from 1 to {most} minutes; it is needed to sign in, not to stay.")
    end = now + dt.timedelta(minutes=wanted.minutes)
    return min([end, *(t.replace(microsecond=0) for t in (viewer.until_at, viewer.ends_at) if t)])


def _check_agent(viewer: Viewer, agent: Acting) -> None:
    """An agent's id must not be taken for a person or a service."""
    known = User.objects.filter(email__iexact=agent.id).exists()
    if known or Identity.objects.filter(person_id__iexact=agent.id).exclude(type="agent").exists():
        raise errors.AccessDenied("This is the name of a person or a service. Give the agent a name of its own.")


def _claims(viewer: Viewer, wanted: Wanted, place: Place) -> dict[str, Any]:
    is_service = viewer.role == Role.SERVICE
    # A service has no address: it is known by the id that the import gives it.
    called = Q(person_id__iexact=viewer.email, type="service") if is_service else Q(email__iexact=viewer.email)
    known = Identity.objects.filter(called).exclude(name="").order_by("-as_of").first()
    said: dict[str, Any] = {
        "iss": settings.ORIGIN, "aud": AUDIENCE, "sub": viewer.email, "email": "" if is_service else viewer.email,
        "name": known.name if known else "", "touchstone_type": "service" if is_service else "human",
        "roles": [str(viewer.role), *viewer.groups], "databases": [place.datasource], "purpose": wanted.purpose,
        "ticket": wanted.ticket,
    }  # fmt: skip
    if wanted.agent:
        about = {name: value for name, value in msgspec.structs.asdict(wanted.agent).items() if value and name != "id"}
        said["act"] = {"sub": wanted.agent.id, **({"agent": about} if about else {})}
    return {name: value for name, value in said.items() if value}


def _signed(claims: Mapping[str, Any]) -> str:
    key = notes.parse_skey(keys.load(KEY))
    private = cast(Ed25519PrivateKey, key.private_key)
    return jwt.encode(dict(claims), private, "EdDSA", headers={"kid": key.verifier.key_id.hex()})


def _record(
    viewer: Viewer, wanted: Wanted | None, transition: str, place: Place | None = None, token_id: str | None = None
) -> None:
    """The grant, or its refusal, in the log: who, which database, for which agent, until when; never the token."""
    agent = wanted.agent if wanted else None
    subject = f"connect to {wanted.database if wanted else 'a database'}{f' as {agent.id}' if agent else ''}"
    ledger.record(
        Event(
            kind="decision",
            actor=Actor(id=viewer.email, type="service" if viewer.role == Role.SERVICE else "human"),
            agent=Agent(**{name: value or None for name, value in msgspec.structs.asdict(agent).items()}) if agent else None,
            decision=Decision(type="grant", subject=subject, transition=transition, decided_by=viewer.email),
            purpose=(wanted.purpose or None) if wanted else None,
            ticket=(wanted.ticket or None) if wanted else None,
            datasource=place.datasource if place else None,
            environment=place.environment if place else None,
            database=place.name if place else None,
            correlation_id=token_id,
        )
    )  # fmt: skip
