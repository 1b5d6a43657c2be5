"""The sources that may send: added with what their token stands for, revoked for good (docs/access.md)."""

from __future__ import annotations

import re
import secrets
from typing import Any

import msgspec
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from lineage import access, configuration, errors, seats, sources
from lineage.access import Viewer
from lineage.models import Role, Source

ASSERTIONS = ("actor", "approval", "grant", "policy", "state")
OWN = "touchstone"


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a source's token shall stand for (docs/access.md). It may assert nothing unless it is said."""

    name: str
    format: str
    environment: str = "default"
    datasource: str = ""
    asserts: tuple[str, ...] = ()
    context_roles: tuple[str, ...] = ()


def may_look(viewer: Viewer) -> bool:
    """Operators and administrators know the sources of their scope."""
    return viewer.role in (Role.ADMIN, Role.OPERATOR)


def listed(viewer: Viewer) -> QuerySet[Source]:
    """The sources in the viewer's scope, by name; one that speaks for any database is not in that of a few. Raises AccessDenied."""
    if not may_look(viewer):
        raise errors.AccessDenied("Sources are for operators and administrators. The refusal is recorded.")
    found = Source.objects.exclude(name=OWN).order_by("name")
    if viewer.datasources:
        found = found.filter(datasource__in=viewer.datasources)
    return found.filter(environment__in=viewer.environments) if viewer.environments else found


def told(source: Source) -> dict[str, Any]:
    """What a record says of a source; never its token."""
    return {
        "format": source.format, "environment": source.environment, "database": source.datasource or "any",
        "asserts": list(source.asserts), "context_roles": list(source.context_roles),
    }  # fmt: skip


def add(viewer: Viewer, wanted: Wanted) -> str:
    """A new source; its token, for once. Raises AccessDenied, FormatUnknown and AccessInvalid; the refusal is recorded."""
    subject = f"source {wanted.name[:300]}"
    with configuration.asked(viewer.email, subject):
        seats.check(viewer)
        _check(wanted)
        token = f"tsi_{secrets.token_urlsafe(32)}"
        source = Source(
            name=wanted.name, format=wanted.format, environment=wanted.environment, datasource=wanted.datasource,
            asserts=list(wanted.asserts), context_roles=list(wanted.context_roles), token_hash=access.token_hash(token),
        )  # fmt: skip
        with transaction.atomic():
            source.save()
            configuration.record(viewer.email, subject, None, told(source))
        return token


def revoke(viewer: Viewer, name: str) -> None:
    """Its token is refused from now on; what it told stays. Raises AccessDenied and NotFound; the refusal is recorded."""
    with configuration.asked(viewer.email, f"source {name[:300]}"), transaction.atomic():
        seats.check(viewer)
        source = listed(viewer).select_for_update().filter(name=name, revoked_at__isnull=True).first()
        if source is None:
            raise errors.NotFound(f"There is no active source named {name[:100]}.")
        Source.objects.filter(pk=source.pk).update(revoked_at=timezone.now())
        configuration.record(viewer.email, f"source {source.name}", told(source), None)


def _check(wanted: Wanted) -> None:
    if wanted.format not in sources.FORMATS:
        raise errors.FormatUnknown(f"Format {wanted.format[:40]} is not built. Built: {', '.join(sources.FORMATS)}.")
    if strange := set(wanted.asserts) - set(ASSERTIONS):
        raise errors.AccessInvalid(
            f"Unknown assertion {', '.join(sorted(strange))[:100]}; known: {', '.join(ASSERTIONS)}."
        )
    lengths = {"name": 100, "environment": 100, "datasource": 200}
    for field, most in lengths.items():
        value = getattr(wanted, field)
        if len(value) > most or not value.isprintable() or value != value.strip():
            raise errors.AccessInvalid(f"The {field} is too long, or holds characters that cannot be printed.")
    if not wanted.name or not wanted.environment:
        raise errors.AccessInvalid("A source has a name and an environment.")
    if any(not re.fullmatch(r"[^\x00-\x1f]{1,63}", role) for role in wanted.context_roles):
        raise errors.AccessInvalid("A login has a name of up to 63 characters.")
    if Source.objects.filter(name=wanted.name).exists():
        raise errors.AccessInvalid(
            f"A source named {wanted.name} exists, or did: names are not used twice. Choose another."
        )
