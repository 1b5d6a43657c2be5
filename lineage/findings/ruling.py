"""How the rules are set: versions of thresholds and switches, who set them and why. Version 0 is what the program brings."""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
from typing import Any

import msgspec
from django.conf import settings
from django.db import transaction

from lineage import errors, ledger, rights
from lineage.access import Viewer
from lineage.events import bounded_statement
from lineage.finding_models import FindingRules
from lineage.findings import rules
from lineage.findings.rules import Ruleset
from lineage.models import Role

SETTERS = frozenset({Role.SECURITY, Role.ADMIN})


@dataclasses.dataclass(frozen=True)
class Version:
    """One version as it stands; of version 0 nobody is the author."""

    number: int
    text: str = ""
    by: str | None = None
    reason: str | None = None
    at: dt.datetime | None = None
    difference: str = ""

    @property
    def ruleset(self) -> Ruleset:
        return rules.load(self.text, settings.MAINTENANCE_HOURS)


def may(viewer: Viewer) -> bool:
    """Whether the viewer may set rules and receivers: they reach every database, so only who sees all of them."""
    return viewer.role in SETTERS and not viewer.is_narrowed


def versions() -> list[Version]:
    """All of them, newest first, each with its difference to the one before; the last is version 0."""
    columns = ("number", "text", "by", "reason", "at")
    told = [*(Version(*row) for row in FindingRules.objects.order_by("-number").values_list(*columns)), Version(0)]
    pairs = zip(told, [*told[1:], None], strict=True)
    return [dataclasses.replace(one, difference=difference(old.text, one.text)) if old else one for one, old in pairs]


def newest() -> Version:
    """The version that holds."""
    columns = ("number", "text", "by", "reason", "at")
    found = FindingRules.objects.order_by("-number").values_list(*columns).first()
    return Version(*found) if found else Version(0)


def current() -> Ruleset:
    """The rules as they hold now."""
    return newest().ruleset


def difference(old: str, new: str) -> str:
    """What a text changes, as a unified difference without file names."""
    return "\n".join([*difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)][2:])


def establish(viewer: Viewer, values: dict[str, Any], off: list[str], reason: str) -> Version:
    """Makes these thresholds and switches hold from now on, with their record in the log.

    What is kept already stays as it was judged. Raises AccessDenied and FindingInvalid; the refusal is recorded.
    """
    try:
        if not may(viewer):
            raise errors.AccessDenied(
                "Rules of findings are set by security and administrators whose scope is everything."
            )
        text = rules.write(values, off)
        ruleset, before, why = rules.load(text, settings.MAINTENANCE_HOURS), newest(), reason.strip()
        if not why or len(why) > 1000 or "\0" in why:
            raise errors.FindingInvalid("Say in up to 1,000 characters why the rules change. Nothing was changed.")
        if text == before.text:
            raise errors.FindingInvalid(f"This is version {before.number}, which holds already. Nothing was changed.")
    except errors.TouchstoneError as error:
        rights.refuse("configuration", None, viewer.email, error.code)
        raise
    with transaction.atomic():
        made = FindingRules.objects.create(
            number=before.number + 1, text=text, digest=ruleset.digest, by=viewer.email, reason=why
        )
        told = ledger.decision(
            "configuration", decided_by=viewer.email, subject=f"rules of findings, version {made.number}",
            transition=f"{before.ruleset.digest} → {ruleset.digest}", purpose=why,
        )  # fmt: skip
        ledger.record(msgspec.structs.replace(told, statement=bounded_statement(difference(before.text, text))))
    return Version(made.number, text, made.by, made.reason, made.at)
