"""API tokens: each with a name, an end and a scope that narrows its owner's; shown once, revoked for good (docs/access.md)."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Any

import msgspec
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from lineage import access, configuration, errors, seats
from lineage.access import Viewer
from lineage.models import ApiToken, Role, User

MOST_DAYS = 366
MOST_TOKENS = 50
"""That let in at once, of one seat."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """How a token shall be. Empty scopes and times: its owner's."""

    name: str
    datasources: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    from_at: dt.datetime | None = None
    until_at: dt.datetime | None = None
    expires_at: dt.datetime | None = None


def own(viewer: Viewer) -> QuerySet[ApiToken]:
    """The viewer's own that were not revoked, the newest first."""
    return _standing().filter(user__email=viewer.email)


def listed(viewer: Viewer) -> QuerySet[ApiToken]:
    """Everybody's that were not revoked. Raises AccessDenied but for administrators."""
    seats.check(viewer)
    return _standing()


def _standing() -> QuerySet[ApiToken]:
    return ApiToken.objects.select_related("user").filter(revoked_at__isnull=True).order_by("-created_at", "-pk")


def told(token: ApiToken) -> dict[str, Any]:
    """What a record says of a token; never the token."""
    return {
        "name": token.name, "databases": list(token.datasources) or "its owner's",
        "environments": list(token.environments) or "its owner's",
        "from": token.from_at, "until": token.until_at, "expires": token.expires_at,
    }  # fmt: skip


def make(viewer: Viewer, owner: User, wanted: Wanted) -> str:
    """A new token, for once. A person makes their own; an administrator makes those of services.

    Raises AccessDenied and AccessInvalid; the refusal is recorded.
    """
    with configuration.asked(viewer.email, f"token of {owner.email}"):
        if owner.email != viewer.email:
            seats.check(viewer)
            if owner.role != Role.SERVICE and not viewer.is_command_line:
                raise errors.AccessDenied("A token acts as its owner: people make their own, on the page Account.")
        access.check_seat(owner)
        _check(owner, wanted)
        secret = f"tsu_{secrets.token_urlsafe(32)}"
        token = ApiToken(user=owner, token_hash=access.token_hash(secret), name=wanted.name.strip())
        for name in ("datasources", "environments"):
            setattr(token, name, list(getattr(wanted, name)))
        token.from_at, token.until_at, token.expires_at = wanted.from_at, wanted.until_at, wanted.expires_at
        with transaction.atomic():
            token.save()
            configuration.record(viewer.email, f"token {token.pk} of {owner.email}", None, told(token))
        return secret


def revoke(viewer: Viewer, number: int) -> None:
    """The token lets in no more. Raises NotFound but for its owner and administrators; the refusal is recorded."""
    with configuration.asked(viewer.email, f"token {number}"), transaction.atomic():
        mine = listed(viewer) if seats.may(viewer) else own(viewer)
        token = mine.select_for_update(of=("self",)).filter(pk=number).first()
        if token is None:
            raise errors.NotFound("There is no such token that lets in.")
        ApiToken.objects.filter(pk=token.pk).update(revoked_at=timezone.now())
        configuration.record(viewer.email, f"token {token.pk} of {token.user.email}", told(token), None)


def _check(owner: User, wanted: Wanted) -> None:
    """Raises AccessInvalid: a token is never wider than its owner."""
    if not 0 < len(wanted.name.strip()) <= 100 or not wanted.name.isprintable():
        raise errors.AccessInvalid("Give the token a name of up to 100 characters that says what it is for.")
    seats.check_scope(wanted.datasources, wanted.environments, wanted.from_at, wanted.until_at)
    for allowed, asked in ((owner.datasources, wanted.datasources), (owner.environments, wanted.environments)):
        if allowed and not set(asked) <= set(allowed):
            raise errors.AccessInvalid(
                f"A token is never wider than its owner, who sees {', '.join(allowed)}. Nothing was made."
            )
    now = timezone.now()
    if wanted.expires_at and not now < wanted.expires_at <= now + dt.timedelta(days=MOST_DAYS):
        raise errors.AccessInvalid(f"A token ends after at most {MOST_DAYS} days.")
    if _standing().filter(user=owner).count() >= MOST_TOKENS:
        raise errors.AccessInvalid(f"There are {MOST_TOKENS} tokens of this seat. Revoke those that nobody uses.")
