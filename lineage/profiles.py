"""The guardrails as data: their versions, who set them and why, what differs (docs/guardrails.md).

A version is never changed: what holds is the newest, and version 0, which the program brings, while there is none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import difflib
from collections.abc import Iterator

import msgspec
from django.db import DatabaseError, transaction

from lineage import errors, guardrails, ledger, rights
from lineage.access import Viewer
from lineage.events import bounded_statement
from lineage.guardrails import DEFAULT, Guardrails
from lineage.models import Gateway, GuardrailVersion, Role

SETTERS = frozenset({Role.SECURITY, Role.ADMIN})
TEXT_MOST = 64 * 1024
DENIED = "Guardrails are set by security and administrators whose scope is everything. The refusal is recorded."


@dataclasses.dataclass(frozen=True)
class Version:
    """One version as it stands; of version 0 nobody is the author."""

    number: int
    text: str
    digest: str
    by: str | None = None
    reason: str | None = None
    at: dt.datetime | None = None

    @property
    def rules(self) -> Guardrails:
        return DEFAULT if self.number == 0 else msgspec.structs.replace(guardrails.load(self.text), version=self.number)


BUILT_IN = Version(0, DEFAULT.text, DEFAULT.digest)


def may(viewer: Viewer) -> bool:
    """Whether the viewer may set guardrails: they hold for every database, so only who sees all of them."""
    return viewer.role in SETTERS and not viewer.is_narrowed


def versions() -> list[Version]:
    """All of them, newest first; the last is version 0."""
    columns = ("number", "text", "digest", "by", "reason", "at")
    return [*(Version(*row) for row in GuardrailVersion.objects.order_by("-number").values_list(*columns)), BUILT_IN]


def newest() -> Version:
    """The version that holds."""
    return versions()[0]


def held(viewer: Viewer) -> list[Gateway]:
    """The gateways in scope whose token is good, each with the version that it said it holds."""
    found = Gateway.objects.filter(source__revoked_at__isnull=True).order_by("name")
    if viewer.datasources:
        found = found.filter(source__datasource__in=viewer.datasources)
    return list(found.filter(source__environment__in=viewer.environments) if viewer.environments else found)


def current() -> Guardrails:
    """The rules that hold."""
    return newest().rules


def one(number: int) -> Version:
    """Raises NotFound."""
    found = next((version for version in versions() if version.number == number), None)
    if found is None:
        raise errors.NotFound(f"There is no version {number} of the guardrails.")
    return found


def load(text: str, number: int = 0) -> Guardrails:
    """The rules of a text that somebody brings. Raises GuardrailsInvalid, which names the rule and the field."""
    if len(text.encode("utf-8", "surrogatepass")) > TEXT_MOST:
        raise errors.GuardrailsInvalid("The text is larger than 64 KiB. Nothing was set.")
    return msgspec.structs.replace(guardrails.load(text), version=number)


def difference(old: Version | None, new: str) -> str:
    """What a text changes against a version, as a unified difference without file names; "" where nothing does."""
    before = old.text.splitlines() if old else []
    return "\n".join([*difflib.unified_diff(before, new.splitlines(), lineterm="", n=2)][2:])


def establish(viewer: Viewer, text: str, reason: str) -> Version:
    """Makes `text` the version that holds, from now on, with its record in the log.

    Raises AccessDenied and GuardrailsInvalid; the refusal is recorded.
    """
    with _asked(viewer):
        text = text.replace("\r\n", "\n")
        rules, before, why = load(text), newest(), reason.strip()
        if not why or len(why) > 1000:
            raise errors.GuardrailsInvalid("Say in up to 1,000 characters why the guardrails change. Nothing was set.")
        if text == before.text:
            raise errors.GuardrailsInvalid(f"This is version {before.number}, which holds already. Nothing was set.")
        with transaction.atomic():
            number = int(rights.call("select gateway_set_rules(%s, %s, %s)", text, viewer.email, why))
            told = ledger.decision(
                "configuration",
                decided_by=viewer.email,
                subject=f"guardrails version {number}",
                transition=f"version {before.number}, {before.digest} → version {number}, {rules.digest}",
                purpose=why,
            )
            ledger.record(msgspec.structs.replace(told, statement=bounded_statement(difference(before, text))))
        return one(number)


@contextlib.contextmanager
def _asked(viewer: Viewer) -> Iterator[None]:
    """Around a wish for other guardrails: whatever is refused, here or by the database, is recorded."""
    try:
        if not may(viewer):
            raise errors.AccessDenied(DENIED)
        yield
    except errors.TouchstoneError as error:
        if error.status < 500:
            refuse(viewer.email, error.code)
        raise
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", None) != "42501":
            raise
        refuse(viewer.email, errors.AccessDenied.code)
        raise errors.AccessDenied(DENIED) from error


def refuse(who: str, code: str) -> None:
    """Records a refusal, by its code alone."""
    ledger.record_decision("configuration", decided_by=who, subject="guardrails", transition="refused", purpose=code)
