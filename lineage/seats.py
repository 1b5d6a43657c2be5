"""Seats: the people and services that an administrator lets in, with role, scope and end (docs/access.md).

Each change is one configuration record with old and new value; nobody changes their own seat, and an administrator stays.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from lineage import configuration, errors
from lineage.access import Viewer
from lineage.models import OpenIdAccount, Role, User

AUDITOR_DAYS = 90
"""An auditor's seat ends by itself: after so many days, unless another end is given."""
EVERYTHING = "everything"
SERVICE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
GROUP = r"[\w.:/-]{1,60}"
PASSWORD_LEAST = 12


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """How a seat shall be. Empty scopes mean everything; times are aware. `ends_at` None: it does not end by itself."""

    role: str
    datasources: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    from_at: dt.datetime | None = None
    until_at: dt.datetime | None = None
    ends_at: dt.datetime | None = None


def may(viewer: Viewer) -> bool:
    """Whether the viewer may let people in: administrators who see everything, since a scope is theirs to give."""
    return viewer.role == Role.ADMIN and not viewer.is_narrowed


def check(viewer: Viewer) -> None:
    """Raises AccessDenied."""
    if not may(viewer):
        raise errors.AccessDenied("Access is given by administrators who see everything. The refusal is recorded.")


def listed(viewer: Viewer) -> QuerySet[User]:
    """Every seat, by name. Raises AccessDenied."""
    check(viewer)
    return User.objects.order_by("email")


def one(viewer: Viewer, number: int) -> User:
    """Raises AccessDenied and NotFound."""
    found = listed(viewer).filter(pk=number).first()
    if found is None:
        raise errors.NotFound("There is no such seat.")
    return found


def named(email: str) -> User:
    """The seat of this name, for the command line. Raises NotFound."""
    found = User.objects.filter(email=email).first()
    if found is None:
        raise errors.NotFound(f"There is no seat of {email[:100]}. `bin/manage user list` shows all.")
    return found


def wanted_of(user: User) -> Wanted:
    """The seat as it is, to change a part of it."""
    return Wanted(
        role=user.role, datasources=tuple(user.datasources), environments=tuple(user.environments), groups=tuple(user.groups),
        from_at=user.from_at, until_at=user.until_at, ends_at=user.ends_at,
    )  # fmt: skip


def told(user: User) -> dict[str, Any]:
    """What a record says of a seat."""
    return {
        "role": str(user.role), "databases": list(user.datasources) or EVERYTHING,
        "environments": list(user.environments) or EVERYTHING,
        "groups": list(user.groups), "from": user.from_at, "until": user.until_at, "ends": user.ends_at,
        "active": user.is_active,
    }  # fmt: skip


def add(viewer: Viewer, email: str, wanted: Wanted) -> tuple[User, str]:
    """A new seat, and the password of a person, which is kept nowhere ("" for a service: it has API tokens alone).

    An auditor's seat without an end ends after 90 days. Raises AccessDenied and AccessInvalid; the refusal is recorded.
    """
    subject = f"user {email[:300]}"
    with configuration.asked(viewer.email, subject):
        check(viewer)
        email = checked_name(email, wanted.role)
        _check(wanted)
        if User.objects.filter(email__iexact=email).exists():
            raise errors.AccessInvalid(f"{email} has a seat already. Change that one.")
        if wanted.role == Role.AUDITOR and wanted.ends_at is None:
            ends_at = timezone.now().replace(microsecond=0) + dt.timedelta(days=AUDITOR_DAYS)
            wanted = msgspec.structs.replace(wanted, ends_at=ends_at)
        password = "" if wanted.role == Role.SERVICE else new_password()
        user = User(email=email)
        _take(user, wanted)
        user.set_password(password or None)
        with transaction.atomic():
            user.save()
            configuration.record(viewer.email, subject, None, told(user))
        return user, password


def change(viewer: Viewer, user: User, wanted: Wanted) -> None:
    """Another role, scope or end. Raises AccessDenied and AccessInvalid; the refusal is recorded."""
    with _changing(viewer, user) as (current, old):
        if Role.SERVICE in (wanted.role, current.role) and wanted.role != current.role:
            raise errors.AccessInvalid("A service stays a service, and nobody becomes one. Add a new seat.")
        _check(wanted)
        _take(current, wanted)
        if told(current) == old:
            raise errors.AccessInvalid("The seat is like this already. Nothing was changed.")


def close(viewer: Viewer, user: User) -> None:
    """Nobody comes in by this seat any more: no password, no token, no session. What it did stays. Raises as `change`."""
    with _changing(viewer, user) as (current, _):
        if not current.is_active:
            raise errors.AccessInvalid("The seat is closed already.")
        current.is_active = False


def reopen(viewer: Viewer, user: User) -> None:
    """A closed seat lets in again. Raises as `change`."""
    with _changing(viewer, user) as (current, _):
        if current.is_active:
            raise errors.AccessInvalid("The seat is open already.")
        current.is_active = True


def reset_password(viewer: Viewer, user: User) -> str:
    """A new password, kept nowhere; sessions opened with the old one end. Raises AccessDenied and AccessInvalid."""
    subject = f"user {user.email}"
    with configuration.asked(viewer.email, subject):
        check(viewer)
        if user.email == viewer.email:
            raise errors.AccessDenied("Change your own password on the page Account, with the old one.")
        if user.role == Role.SERVICE:
            raise errors.AccessInvalid("A service has API tokens and no password.")
        password = new_password()
        user.set_password(password)
        with transaction.atomic():
            user.save(update_fields=["password"])
            configuration.record(viewer.email, subject, {"password": "as it was"}, {"password": "new"})
        return password


def set_own_password(user: User, old: str, new: str) -> None:
    """A person's own new password. Raises AccessInvalid; the refusal is recorded."""
    subject = f"user {user.email}"
    with configuration.asked(user.email, subject):
        if not user.check_password(old):
            raise errors.AccessInvalid("The present password is another one. Nothing was changed.")
        if len(new) < PASSWORD_LEAST or len(new) > 200 or new == old:
            raise errors.AccessInvalid(
                f"Choose another password, of {PASSWORD_LEAST} to 200 characters. Nothing was changed."
            )
        user.set_password(new)
        with transaction.atomic():
            user.save(update_fields=["password"])
            configuration.record(user.email, subject, {"password": "as it was"}, {"password": "new"})


def release(viewer: Viewer, user: User) -> None:
    """Takes the account at an OpenID provider off a seat: the next with its address is theirs. AccessDenied, AccessInvalid."""
    subject = f"user {user.email}"
    with configuration.asked(viewer.email, subject), transaction.atomic():
        check(viewer)
        theirs = OpenIdAccount.objects.select_for_update().filter(user=user)
        issuers = [one.issuer for one in theirs]
        if not issuers:
            raise errors.AccessInvalid("No account at a provider is bound to this seat.")
        theirs.delete()
        configuration.record(viewer.email, subject, {"account at": issuers}, {"account at": []})


def new_password() -> str:
    return secrets.token_urlsafe(12)


@contextlib.contextmanager
def _changing(viewer: Viewer, user: User) -> Iterator[tuple[User, dict[str, Any]]]:
    """Around a change of an existing seat: who may, the seat locked with all administrators', and the record at the end."""
    subject = f"user {user.email}"
    with configuration.asked(viewer.email, subject), transaction.atomic():
        check(viewer)
        if user.email == viewer.email:
            raise errors.AccessDenied("Nobody changes their own seat. Ask another administrator.")
        # In one order for everybody: two who take each other's right away at once must not both succeed.
        locked = list(User.objects.select_for_update().filter(Q(role=Role.ADMIN) | Q(pk=user.pk)).order_by("pk"))
        current = next(one for one in locked if one.pk == user.pk)
        old, was_kept = told(current), any(map(_keeps_the_house, locked))
        yield current, old
        if was_kept and not any(map(_keeps_the_house, locked)):
            raise errors.AccessDenied(
                "This is the last administrator who sees everything and whose seat does not end. Add another one first."
            )
        current.save()
        configuration.record(viewer.email, subject, old, told(current))


def _keeps_the_house(user: User) -> bool:
    """An administrator who can always let others in."""
    narrowed = user.datasources or user.environments or user.from_at or user.until_at
    return user.role == Role.ADMIN and user.is_active and user.ends_at is None and not narrowed


def _take(user: User, wanted: Wanted) -> None:
    for name in Wanted.__struct_fields__:
        value = getattr(wanted, name)
        setattr(user, name, list(value) if isinstance(value, tuple) else value)


def checked_name(email: str, role: str) -> str:
    """A person has an e-mail address; a service a name that none could be. Raises AccessInvalid."""
    email = email.strip()
    if role == Role.SERVICE:
        if not re.fullmatch(SERVICE_NAME, email):
            raise errors.AccessInvalid("A service's name has letters, digits, dots, dashes and underscores alone.")
        return email
    try:
        validate_email(email)
    except ValidationError as error:
        raise errors.AccessInvalid("A person's seat has an e-mail address, such as dana@shop.example.") from error
    if len(email) > 254 or not email.isascii():
        raise errors.AccessInvalid("Write the e-mail address in ASCII, in at most 254 characters.")
    return email


def _check(wanted: Wanted) -> None:
    """Raises AccessInvalid. No group is a role."""
    if wanted.role not in Role.values:
        raise errors.AccessInvalid(f"A role is one of {', '.join(Role.values)}.")
    for group in wanted.groups:
        if group in Role.values or not re.fullmatch(GROUP, group):
            raise errors.AccessInvalid(
                f"{group[:60]!r} cannot be a group: it is a role, or not a name of 60 characters."
            )
    check_scope(wanted.datasources, wanted.environments, wanted.from_at, wanted.until_at)
    if wanted.ends_at and wanted.ends_at <= timezone.now():
        raise errors.AccessInvalid("The seat would have ended already. Give a later time, or close it.")


def check_scope(
    datasources: Sequence[str], environments: Sequence[str], from_at: dt.datetime | None, until_at: dt.datetime | None
) -> None:
    """Raises AccessInvalid where a scope is no scope."""
    for name in (*datasources, *environments):
        if not 0 < len(name) <= 200 or not name.isprintable():
            raise errors.AccessInvalid("A database or environment has a name of up to 200 printable characters.")
    if from_at and until_at and from_at >= until_at:
        raise errors.AccessInvalid("The time of the records ends before it begins.")
