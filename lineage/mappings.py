"""Whose login is whose, since when: said by people or imported, never for a time that is over (docs/access.md, Logins)."""

from __future__ import annotations

import datetime as dt
from typing import Any, NamedTuple

from django.db import transaction

from lineage import configuration, errors
from lineage.access import Viewer, holds_database
from lineage.models import Identity, Role

MAPPERS = frozenset({Role.COMPLIANCE, Role.ADMIN})
TYPES = ("human", "service", "agent", "system")
AHEAD = dt.timedelta(days=366)
"""How far in the future a mapping may begin."""
NOBODY = ""
"""The person of a mapping that ended: from then on the login is nobody's."""


class Person(NamedTuple):
    """Who stands behind a login. `NOBODY` as id ends what held before; `owner` answers for what is no human."""

    id: str
    name: str = ""
    email: str = ""
    type: str = "human"
    owner: str = ""


def may(viewer: Viewer) -> bool:
    """Whether the viewer may say whose login is whose."""
    return viewer.role in MAPPERS


def subject(datasource: str, db_user: str) -> str:
    """What a record about a mapping is about."""
    return f"mapping {datasource} {db_user}"[:512]


def establish(
    viewer: Viewer, datasource: str, db_user: str, person: Person, from_at: dt.datetime | None, reason: str
) -> None:
    """Says whose login this is from now on, or from `from_at`; before a login's first mapping that may be in the past.

    Mapping and record in one transaction. Raises AccessDenied, NotFound (a database outside the viewer's scope) and
    MappingInvalid; refusals are recorded.
    """
    place = datasource if 0 < len(datasource) <= 200 and "\0" not in datasource else None
    with configuration.asked(viewer.email, subject(datasource, db_user), place):
        if not may(viewer):
            raise errors.AccessDenied("Whose login is whose is said by compliance and administrators.")
        if not holds_database(viewer, datasource):
            raise errors.NotFound
        if not reason.strip() or len(reason) > 1000 or "\0" in reason:
            raise errors.MappingInvalid("Say in up to 1,000 characters why. Nothing was changed.")
        now = dt.datetime.now(dt.UTC)
        with transaction.atomic():
            known = _known(datasource, db_user)
            if from_at is not None and from_at < now and any(one.as_of <= now for one in known):
                raise errors.MappingInvalid(
                    "This login was said to be somebody's before: what held until now stays. Name a time to come, or none for now."
                )
            if not known and person.id == NOBODY:
                raise errors.MappingInvalid("This login is nobody's already. Nothing was changed.")
            keep(datasource, db_user, person, from_at or now, viewer.email, reason.strip())


def keep(
    datasource: str, db_user: str, person: Person, from_at: dt.datetime, by: str, reason: str | None = None
) -> bool:
    """Adds one mapping with its record, inside the caller's transaction; False where an import says what is known already.

    What was planned for `from_at` or later never held: it is replaced, and stands in the record's old value. Raises
    MappingInvalid for a mapping that is malformed, begins too far ahead, or would change what held before the newest one.
    """
    _check(datasource, db_user, person)
    now = dt.datetime.now(dt.UTC)
    if from_at > now + AHEAD:
        raise errors.MappingInvalid("Name a time within a year from now. Nothing was changed.")
    known = _known(datasource, db_user)
    planned = [one for one in known if one.as_of > now and one.as_of >= from_at]
    newest = next((one for one in known if one not in planned), None)
    told = {"person": person.id, "name": person.name or person.id, "email": person.email, "type": person.type}
    told |= {"owner": person.owner} if person.owner else {}
    before = _told(newest)
    then = planned[-1] if planned and planned[-1].as_of == from_at else newest
    if (
        then is not None
        and then.as_of <= from_at
        and _told(then) == told
        and not (reason and planned not in ([], [then]))
    ):
        return False
    if newest is not None and from_at <= newest.as_of:
        raise errors.MappingInvalid(
            f"Something else is said of this login from {newest.as_of:%Y-%m-%dT%H:%MZ} on. Name a later time: what held before stays."
        )
    new = told | {"from": from_at} if person.id else None
    old = before | {"from": newest.as_of} if newest is not None and before is not None and newest.person_id else {}
    if planned:
        old = old | {"planned": [_worded(one) for one in planned]}
    configuration.record(by, subject(datasource, db_user), old or None, new, reason, datasource)
    Identity.objects.filter(pk__in=[one.pk for one in planned]).delete()
    Identity.objects.create(
        datasource=datasource, db_user=db_user, person_id=person.id, name=told["name"], email=person.email,
        type=person.type, owner=person.owner, as_of=from_at,
    )  # fmt: skip
    return True


def _known(datasource: str, db_user: str) -> list[Identity]:
    """What is said of a login, newest first, locked: two who say something at once are one after the other."""
    known = Identity.objects.select_for_update().filter(datasource=datasource, db_user=db_user)
    return list(known.order_by("-as_of"))


def _worded(one: Identity) -> str:
    """A mapping whole, for the record."""
    owner = f"owner {one.owner}" if one.owner else ""
    who = ", ".join(filter(None, (one.person_id or "nobody", one.name, one.email, one.type, owner)))
    return f"{who} from {configuration.worded(one.as_of)}"


def _told(known: Identity | None) -> dict[str, Any] | None:
    if known is None:
        return None
    told = {"person": known.person_id, "name": known.name, "email": known.email, "type": known.type}
    return told | ({"owner": known.owner} if known.owner else {})


def _check(datasource: str, db_user: str, person: Person) -> None:
    names = (datasource, db_user, person.id, person.name, person.email, person.owner)
    if not (datasource.strip() and db_user.strip()) or any(len(name) > 200 or "\0" in name for name in names):
        raise errors.MappingInvalid(
            "Name a database, a login, a person and who answers for them in up to 200 characters each. Nothing was changed."
        )
    if person.type not in TYPES:
        raise errors.MappingInvalid(f"The kind is one of {', '.join(TYPES)}. Nothing was changed.")
