"""What people say of a finding: whose it is, what it was, and notes; each is a record (docs/findings.md, Triage)."""

from __future__ import annotations

import msgspec
from django.db import transaction
from django.utils import timezone

from lineage import errors, ledger, rights
from lineage.access import Viewer
from lineage.events import Actor, Event
from lineage.finding_models import Finding
from lineage.findings import judging, rules
from lineage.models import Role, User

VERDICTS = {"true": "true", "false-alarm": "false alarm", "accepted": "accepted risk"}
ACTS = ("owner", "note", "verdict", "reopen")
EVERYTHING = frozenset({Role.SECURITY, Role.ADMIN})


def may(viewer: Viewer, rule: str) -> frozenset[str]:
    """What the viewer may do about findings of this rule."""
    if viewer.role in EVERYTHING:
        return frozenset(ACTS)
    if viewer.role == Role.OPERATOR and rule in {r.id for r in rules.load().rules if r.about_source}:
        return frozenset(ACTS)
    return frozenset({"note"}) if viewer.role == Role.COMPLIANCE else frozenset()


def visible(viewer: Viewer, number: int) -> Finding:
    """A kept finding in the viewer's scope. Raises NotFound."""
    found = Finding.objects.filter(viewer.within("occurred_at"), pk=number).first() if viewer.reads_records else None
    if found is None:
        raise errors.NotFound
    return found


def establish(viewer: Viewer, number: int, act: str, value: str, note: str) -> Finding:
    """Says one thing of a finding. `act` owner (value: who), note, verdict (value: one of VERDICTS), or reopen.

    A verdict closes it and, like reopening, needs a note that says why.
    Raises NotFound, AccessDenied and FindingInvalid; refusals are recorded, nothing is changed then.
    """
    value, note = value.strip(), note.strip()
    try:
        finding = visible(viewer, number)
        if act not in may(viewer, finding.rule):
            raise errors.AccessDenied(
                "Findings are triaged by security and administrators, those about sources by operators too; compliance notes."
            )
        _check(finding, act, value, note)
        if act == "owner" and value and not User.objects.filter(email=value, is_active=True).exists():
            raise errors.FindingInvalid(
                "The owner is somebody who signs in here, by mail address. Nothing was changed."
            )
    except errors.TouchstoneError as error:
        rights.refuse("configuration", None, viewer.email, error.code)
        raise
    with transaction.atomic():
        finding = Finding.objects.select_for_update().get(pk=number)
        _check(finding, act, value, note)
        now = timezone.now()
        told = judging.event(
            finding.environment,
            finding.datasource,
            now,
            number,
            type="triage",
            first=act,
            last=value or None,
            detail=note or None,
        )
        ledger.record(_by(told, viewer))
        if act == "owner":
            finding.owner = value
        elif act == "verdict":
            finding.state, finding.verdict = "closed", value
        elif act == "reopen":
            finding.state, finding.verdict = "open", ""
        finding.triaged_at = now
        finding.save(update_fields=["owner", "state", "verdict", "triaged_at"])
    return finding


def _by(told: Event, viewer: Viewer) -> Event:
    return msgspec.structs.replace(told, actor=Actor(id=viewer.email[:512], type="human"))


def _check(finding: Finding, act: str, value: str, note: str) -> None:
    if len(note) > 900 or "\0" in note + value or len(value) > 254:
        raise errors.FindingInvalid("A note has at most 900 characters. Nothing was changed.", field="note")
    if act in ("note", "verdict", "reopen") and not note:
        raise errors.FindingInvalid("Say why in the note. Nothing was changed.", field="note")
    if act == "verdict" and (value not in VERDICTS or finding.state == "closed"):
        raise errors.FindingInvalid(
            f"A verdict is one of {', '.join(VERDICTS)}, on a finding that is open. Nothing was changed.",
            field="verdict",
        )
    if act == "reopen" and finding.state == "open":
        raise errors.FindingInvalid("It is open. Nothing was changed.", field="act")
