"""Final reports on their way to recipients: one row for each, sent by the keeper as `lineage.outbox` sends.

What is sent says what a report is and where it stands, with its SHA-256; of records it names nothing. A mail holds the file
where the schedule says so, a folder gets it always. Whether the recipient may see the report is asked again before each try.
"""

from __future__ import annotations

import functools
import hashlib
import operator
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from lineage import durable, ledger, outbox
from lineage.events import Custody, Event, format_time
from lineage.findings import receivers
from lineage.outbox import Sent
from lineage.turns import Round
from reports import recipients, standing
from reports.controls import KINDS
from reports.models import Delivery, Recipient, Report, Schedule, Status

PACE_SECONDS = 5.0
GIVEN = (".json", ".zip", ".pdf")
"""What a folder is given; the PDF last, so that where it lies the others are whole. A ZIP goes with large reports alone."""
MAILED_BYTES_MOST = 15 * 1024 * 1024
OUT_OF_SCOPE = "not sent: it is not within what this recipient may see"
MAIL = """{sentence}

Report    {report} ({title})
Period    {period_from} to {period_to} (UTC, end not included)
Scope     {environment}, {databases}
Tested    {tested} of them {deviating} deviate
Schedule  {schedule}
{chain}SHA-256   {sha256}

{where}
"""


class Sending(outbox.Threads):
    """The keeper's round: what became final gets its rows, and each recipient with something due its thread."""

    def __init__(self) -> None:
        super().__init__("sending", _due, deliver_one)

    def __call__(self) -> None:
        prepare()
        super().__call__()


def round_of() -> Round:
    return Round("sending", PACE_SECONDS, Sending(), apart=True)


def prepare() -> int:
    """Notes which reports are to be sent to whom: those that may leave, issued since the recipient was named. Returns how many."""
    made = 0
    for recipient in Recipient.objects.filter(ended_at=None).select_related("schedule"):
        for report in _new(recipient):
            if standing.may_be_delivered(report):
                _, is_new = Delivery.objects.get_or_create(
                    report=report,
                    recipient=recipient,
                    defaults={
                        "message_id": f"msg_{uuid.uuid4().hex}", "next_at": timezone.now(),
                        "body": message(report, recipient.schedule),
                    },
                )  # fmt: skip
                made += is_new
    return made


def _new(recipient: Recipient) -> QuerySet[Report]:
    """Final reports of the schedule that have no row yet; so have supplements of them, and what replaces them."""
    ways = ("", "amends__", "supersedes__", "supersedes__supersedes__", "amends__supersedes__")
    of_schedule = functools.reduce(operator.or_, (Q(**{f"{way}schedule": recipient.schedule}) for way in ways))
    final = Report.objects.filter(of_schedule, status=Status.FINAL, issued_at__gte=recipient.created_at)
    return final.exclude(delivery__recipient=recipient).exclude(path="").order_by("pk")


def message(report: Report, schedule: Schedule) -> str:
    """What Slack shows, and our own fields."""
    summary = msgspec.json.decode(_file(report, ".json").read_bytes())
    kind = KINDS[report.kind].title if report.kind in KINDS else report.kind
    where = settings.PUBLIC_URL and f"{settings.PUBLIC_URL}/reports/{report.pk}/"
    ours = {
        "report": report.number, "kind": report.kind, "title": kind, "status": report.status,
        "conclusion": summary["conclusion"], "tested": report.counts["tested"], "deviating": report.counts["deviating"],
        "period_from": format_time(report.period_from), "period_to": format_time(report.period_to),
        "environment": report.environment, "datasources": report.datasources, "as_of": report.as_of,
        "sha256": report.sha256, "schedule": schedule.name, "url": where or None,
        "amends": report.amends.number if report.amends else None,
        "replaces": report.supersedes.number if report.supersedes else None,
    }  # fmt: skip
    text = f"{report.number} {kind}, {report.period_from:%-d %b %Y} to {report.period_to:%-d %b %Y} UTC: {summary['conclusion']}"
    shown = outbox.escaped(text) + (f" <{where}|Open it>" if where else "")
    return msgspec.json.encode({"text": shown, "touchstone": ours}).decode()


def of(report: Report) -> list[Delivery]:
    """Whom the report was sent to, and how that went."""
    return list(Delivery.objects.filter(report=report).select_related("recipient__receiver").order_by("pk"))


def _due() -> list[int]:
    found = outbox.waiting(Delivery.objects.exclude(recipient__receiver__is_on=False))
    return list(found.values_list("recipient_id", flat=True).distinct())


def deliver_one(recipient: int, resolve: receivers.Resolve = socket.getaddrinfo) -> bool:
    """Sends one recipient the oldest that is due, and notes how it went; False when nothing is due (or another does it)."""
    with transaction.atomic():
        mine = Delivery.objects.filter(recipient_id=recipient).exclude(recipient__receiver__is_on=False)
        one: Delivery | None = (
            outbox.waiting(mine)
            .select_for_update(skip_locked=True, of=("self",))
            .select_related("recipient__receiver", "report__schedule")
            .order_by("id")
            .first()
        )
        if one is None:
            return False
        if not recipients.may_have(one.recipient, one.report):
            one.body, one.answer = None, OUT_OF_SCOPE
            ledger.record(_proof(one))
            one.save()
            return True
        others = Delivery.objects.filter(recipient_id=recipient)
        return outbox.attempt(one, lambda: _send(one, resolve), one.begun_at, lambda: _proof(one), others)


def _send(one: Delivery, resolve: receivers.Resolve) -> Sent:
    receiver, body = one.recipient.receiver, one.body or ""
    if receiver is not None and receiver.kind == "webhook":
        return outbox.post(receiver, one.message_id, body.encode(), resolve)
    data = _file(one.report, ".pdf").read_bytes()
    if hashlib.sha256(data).hexdigest() != one.report.sha256:
        return False, "the file is not the one that was issued: its SHA-256 differs"
    if receiver is not None and receiver.kind == "folder":
        return _written(one.report, receiver.address)
    ours = msgspec.json.decode(body)["touchstone"]
    return outbox.mail(_mail(one, ours, data), one.message_id)


def _mail(one: Delivery, ours: dict[str, Any], data: bytes) -> EmailMessage:
    attached = one.recipient.attaches and len(data) <= MAILED_BYTES_MOST
    where = f"Open it: {ours['url']}" if ours["url"] else f"It is on the page Reports as {ours['report']}."
    if attached:
        where += "\nThe signed PDF is attached."
    elif one.recipient.attaches:
        where += f"\nThe signed PDF has {len(data):,} bytes, too many for a mail."
    if _file(one.report, ".zip").exists():
        where += "\nA ZIP with what is too large for the PDF goes with it: it is on the report's page."
    words = ours | {
        "sentence": f"{ours['title']}: {ours['conclusion']}.",
        "environment": ours["environment"] or "all environments",
        "databases": ", ".join(ours["datasources"]) or "all databases",
        "chain": "".join(f"{word:<10}{ours[word.lower()]}\n" for word in ("Amends", "Replaces") if ours[word.lower()]),
        "where": where,
    }
    subject = " ".join(f"{ours['report']} {ours['title']}: {ours['conclusion']}".split())
    address = one.recipient.receiver.address if one.recipient.receiver else one.recipient.email
    mail = EmailMessage(subject[:200], MAIL.format(**words), to=[address])
    if attached:
        mail.attach(f"{one.report.file_stem}.pdf", data, "application/pdf")
    return mail


def _written(report: Report, name: str) -> Sent:
    """The report's files in a folder, each whole or not at all; one of the same name that differs is never replaced."""
    folder = Path(settings.REPORT_FOLDER) / name
    try:
        durable.folder(folder)
        for source in (path for path in (_file(report, suffix) for suffix in GIVEN) if path.exists()):
            target = folder / f"{report.file_stem}{source.suffix}"
            if target.exists() and _digest(target) != _digest(source):
                return False, f"another file lies at {target.name}; it was left as it is"
            if not target.exists():
                part = target.with_name(f"{target.name}.part")
                durable.write_from(part, 0, _chunks(source))
                durable.rename(part, target)
        return True, f"written as {report.file_stem}.pdf"
    except OSError as error:
        return False, f"the folder does not take it: {error.strerror or type(error).__name__}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk


def _file(report: Report, suffix: str) -> Path:
    """The report's file as it is now, or what lies beside it: a signature makes both anew under another name."""
    return (Path(settings.DATA_DIR) / report.path).with_suffix(suffix)


def _proof(one: Delivery) -> Event:
    """The record that a recipient took it (or never did)."""
    report = one.report
    return Event(
        kind="custody", environment=report.environment or None, datasource=report.datasources[0] if len(report.datasources) == 1 else None,
        custody=Custody(
            type="export", subject=f"report {report.number} sha256:{report.sha256}", first=one.message_id, count=one.tries,
            detail=f"{'sent to' if one.told_at else 'not sent to'} {one.recipient.name}: {one.answer}",
        ),
    )  # fmt: skip
