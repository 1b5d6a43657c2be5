"""Who may see what: every read of evidence happens for a `Viewer`; without one there are no rows (docs/access.md)."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from typing import Any

from django.contrib import auth
from django.db.models import Q
from django.db.models.expressions import RawSQL
from django.http import HttpRequest
from django.utils import timezone

from lineage import errors
from lineage.models import ApiToken, Role, Source, User

VALUE_ROLES = frozenset({Role.AUDITOR, Role.SECURITY, Role.COMPLIANCE, Role.ADMIN})
USED_SECONDS = 3600
"""How coarsely it is kept when a token was last used."""
RECORDLESS_ROLES = frozenset({Role.WITNESS, Role.SERVICE, Role.MEMBER})


@dataclasses.dataclass(frozen=True)
class Viewer:
    """A reader and their scope. Empty `datasources` or `environments` mean all; times bound when events occurred.

    The seat, or the token that was used, ends at `ends_at`.
    """

    email: str
    role: str
    datasources: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    from_at: dt.datetime | None = None
    until_at: dt.datetime | None = None
    groups: tuple[str, ...] = ()
    ends_at: dt.datetime | None = None

    def within(self, time: str) -> Q:
        """The condition on rows that carry `datasource`, `environment` and the column `time`: those within this scope."""
        allowed = Q()
        if self.datasources:
            allowed &= Q(datasource__in=self.datasources)
        if self.environments:
            allowed &= Q(environment__in=self.environments)
        if self.from_at:
            allowed &= Q(**{f"{time}__gte": self.from_at})
        if self.until_at:
            allowed &= Q(**{f"{time}__lt": self.until_at})
        return allowed

    @property
    def reads_records(self) -> bool:
        """Whether there are any records for this role; a witness reads hashes, services and members connect."""
        return self.role not in RECORDLESS_ROLES

    @property
    def sees_values(self) -> bool:
        """Whether statement literals and row values are shown; operators see shapes only."""
        return self.role in VALUE_ROLES

    @property
    def is_narrowed(self) -> bool:
        """Whether some records are outside the viewer's scope."""
        return bool(self.datasources or self.environments or self.from_at or self.until_at)

    @property
    def is_command_line(self) -> bool:
        """Whether it is who runs a command of ours: they hold the data folder. No seat has such a name."""
        return self.email.endswith("@command-line")

    def covers(self, other: Viewer) -> bool:
        """Whether everything in the other's scope is in this one."""
        return (
            (not self.datasources or (bool(other.datasources) and set(other.datasources) <= set(self.datasources)))
            and (
                not self.environments
                or (bool(other.environments) and set(other.environments) <= set(self.environments))
            )
            and (self.from_at is None or (other.from_at is not None and other.from_at >= self.from_at))
            and (self.until_at is None or (other.until_at is not None and other.until_at <= self.until_at))
        )

    @property
    def label(self) -> str:
        """Role and scope in words, such as "Auditor · orders-prod · until 30 Nov"."""
        parts = [Role(self.role).label, *self.datasources, *self.environments]
        if self.from_at:
            parts.append(f"from {self.from_at:%-d %b}")
        if self.until_at:
            parts.append(f"until {self.until_at:%-d %b}")
        if self.ends_at:
            parts.append(f"seat ends {self.ends_at:%-d %b %Y}")
        return " · ".join(parts)

    def scope(self) -> tuple[str, list[Any]]:
        """A DuckDB condition over `datasource`, `environment`, `occurred_at`, with its parameters."""
        conditions, values = ["true" if self.reads_records else "false"], list[Any]()
        for column, allowed in (("datasource", self.datasources), ("environment", self.environments)):
            if allowed:
                conditions.append(f"list_contains(?, {column})")
                values.append(list(allowed))
        if self.from_at:
            conditions.append("occurred_at >= ?")
            values.append(self.from_at)
        if self.until_at:
            conditions.append("occurred_at < ?")
            values.append(self.until_at)
        return " and ".join(conditions), values


def databases_of(viewer: Viewer) -> frozenset[str] | None:
    """The databases in the viewer's scope by name, for what is kept by database alone; None: all.

    For a scope of environments those that a source of them reports for.
    """
    named = frozenset(viewer.datasources)
    if not viewer.environments:
        return named or None
    there = Source.objects.filter(environment__in=viewer.environments).exclude(datasource="")
    reported = frozenset(there.values_list("datasource", flat=True))
    return reported & named if named else reported


def holds_database(viewer: Viewer, datasource: str) -> bool:
    """Whether the database is in the viewer's scope."""
    allowed = databases_of(viewer)
    return allowed is None or datasource in allowed


def viewer_of(user: User) -> Viewer:
    """The viewer that a signed-in user is."""
    return Viewer(
        email=user.email,
        role=user.role,
        datasources=tuple(user.datasources),
        environments=tuple(user.environments),
        from_at=user.from_at,
        until_at=user.until_at,
        groups=tuple(user.groups),
        ends_at=user.ends_at,
    )


def sees_asked_by(viewer: Viewer, email: str) -> bool:
    """Whether what somebody asked for lies in the viewer's scope: it reaches as far as their seat does today."""
    if not viewer.is_narrowed or email.lower() == viewer.email.lower():
        return True
    user = User.objects.filter(email__iexact=email).first()
    return user is not None and viewer.covers(viewer_of(user))


def is_open(user: User) -> bool:
    """Whether the seat is neither closed nor at its end."""
    return user.is_active and (user.ends_at is None or timezone.now() < user.ends_at)


def check_seat(user: User) -> None:
    """Raises SeatEnded when the seat's time is over, TokenInvalid when it is closed."""
    if not user.is_active:
        raise errors.TokenInvalid("This seat is closed. Ask an administrator.")
    if not is_open(user):
        raise errors.SeatEnded(user.email)


def check_still(viewer: Viewer) -> None:
    """For what takes long: raises SeatEnded where the viewer's seat or token ended meanwhile, or reaches less far now."""
    if viewer.is_command_line:
        return
    user = User.objects.filter(email=viewer.email).first()
    ended = viewer.ends_at is not None and timezone.now() >= viewer.ends_at
    if ended or user is None or not is_open(user) or user.role != viewer.role or not viewer_of(user).covers(viewer):
        raise errors.SeatEnded(viewer.email, "Your seat ended or was changed while this was sent. Begin again.")


def narrowed(viewer: Viewer, token: ApiToken) -> Viewer:
    """The viewer that a token of theirs is: never wider than its owner is now. Raises SeatEnded where nothing is left of it."""
    datasources = _within(viewer.datasources, tuple(token.datasources))
    environments = _within(viewer.environments, tuple(token.environments))
    from_at = max((t for t in (viewer.from_at, token.from_at) if t), default=None)
    until_at = min((t for t in (viewer.until_at, token.until_at) if t), default=None)
    if datasources is None or environments is None or (from_at and until_at and from_at >= until_at):
        raise errors.SeatEnded(viewer.email, "This token's scope lies outside of its owner's. Make a new one.")
    return dataclasses.replace(
        viewer, datasources=datasources, environments=environments, from_at=from_at, until_at=until_at,
        ends_at=min((t for t in (viewer.ends_at, token.expires_at) if t), default=None),
    )  # fmt: skip


def _within(allowed: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[str, ...] | None:
    """What is in both, where empty means all. None: there is nothing."""
    if not allowed or not wanted:
        return allowed or wanted
    return tuple(one for one in wanted if one in allowed) or None


def token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def bearer(request: HttpRequest) -> str | None:
    """The bearer token of a request, or None."""
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def viewer_of_token(token: str) -> Viewer:
    """The viewer whose API token this is. Raises TokenInvalid, and SeatEnded when the token's or its owner's time is over."""
    found = (
        ApiToken.objects.select_related("user")
        .filter(token_hash=token_hash(token), revoked_at__isnull=True, user__is_active=True)
        .first()
    )
    if found is None:
        raise errors.TokenInvalid
    check_seat(found.user)
    now = timezone.now()
    if found.expires_at and now >= found.expires_at:
        raise errors.SeatEnded(found.user.email, "This token has ended. Its owner makes a new one on the page Account.")
    viewer = narrowed(viewer_of(found.user), found)
    if found.used_at is None or (now - found.used_at).total_seconds() > USED_SECONDS:
        ApiToken.objects.filter(pk=found.pk).update(used_at=now)
    return viewer


def viewer_of_password(email: str, password: str) -> Viewer:
    """The viewer who signs in with these. Raises TokenInvalid."""
    user = auth.authenticate(username=email, password=password)
    if not isinstance(user, User):
        raise errors.TokenInvalid("E-mail and password do not belong together. The refusal is recorded.")
    check_seat(user)
    return viewer_of(user)


def viewer_for(request: HttpRequest) -> Viewer:
    """The viewer of a request, from its API token or its session. Raises TokenInvalid when there is none, SeatEnded when it ended."""
    token = bearer(request)
    if token is not None:
        return viewer_of_token(token)
    user = getattr(request, "user", None)
    if isinstance(user, User) and user.is_active:
        check_seat(user)
        return viewer_of(user)
    raise errors.TokenInvalid("Sign in, or send an API token as `Authorization: Bearer …`.")


def source_for(request: HttpRequest) -> Source:
    """The source whose token a request carries. Raises TokenInvalid."""
    token = bearer(request)
    found = Source.objects.filter(token_hash=token_hash(token), revoked_at__isnull=True).first() if token else None
    if found is None:
        raise errors.TokenInvalid
    return found


def feed_for(request: HttpRequest, *, anew: bool = False) -> tuple[Source, str]:
    """As `source_for`, with the version of the source's row; remembered, unless `anew`.

    For the ledger alone, which compares the version before it stores anything: a token revoked meanwhile stores nothing.
    """
    token = bearer(request)
    key = token_hash(token) if token else b""
    if not anew and (known := _feeds.get(key)):
        return known
    _feeds.pop(key, None)
    version = RawSQL("lineage_source.xmin::text", ())
    found = Source.objects.annotate(version=version).filter(token_hash=key, revoked_at__isnull=True).first()
    if found is None:
        raise errors.TokenInvalid
    if len(_feeds) >= FEEDS_MOST:
        _feeds.clear()
    _feeds[key] = found, str(found.version)
    return _feeds[key]


FEEDS_MOST = 1000
_feeds: dict[bytes, tuple[Source, str]] = {}
