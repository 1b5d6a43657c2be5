"""Telling receivers of findings: what is to be told is kept with the finding, and sent as `lineage.outbox` sends."""

from __future__ import annotations

import datetime as dt
import socket
import uuid
from collections.abc import Sequence

import msgspec
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.utils import timezone

from lineage import outbox
from lineage.events import Custody, Event, format_time
from lineage.finding_models import Finding, Receiver, Telling
from lineage.findings import receivers
from lineage.findings.evaluation import Row
from lineage.findings.rules import SEVERITIES, Ruleset
from lineage.outbox import GIVE_UP

__all__ = ["GIVE_UP", "Tellers", "message", "prepare", "tell_one"]


def prepare(found: Sequence[tuple[Finding, Row]], rules: Ruleset, now: dt.datetime) -> None:
    """Notes what is to be told to whom; call it in the transaction that keeps the findings.

    A receiver is told of what was received since it was made.
    """
    if not found:
        return
    everybody = list(Receiver.objects.filter(is_on=True))
    Telling.objects.bulk_create(
        Telling(
            finding=finding, receiver=receiver, message_id=f"msg_{uuid.uuid4().hex}", next_at=now,
            body=message(finding, row, rules),
        )
        for finding, row in found
        for receiver in everybody
        if _wants(receiver, finding, row)
    )  # fmt: skip


def _wants(receiver: Receiver, finding: Finding, row: Row) -> bool:
    return (
        receiver.severity in SEVERITIES
        and SEVERITIES.index(finding.severity) <= SEVERITIES.index(receiver.severity)
        and row["received_at"] >= receiver.created_at
        and (not receiver.rules or finding.rule in receiver.rules)
        and (not receiver.environments or finding.environment in receiver.environments)
        and (not receiver.datasources or finding.datasource in receiver.datasources)
    )


def message(finding: Finding, row: Row, rules: Ruleset) -> str:
    """What Slack shows, and our own fields; names of people, tables and records, and no row value."""
    rule = rules.rule(finding.rule)
    where = settings.PUBLIC_URL and f"{settings.PUBLIC_URL}/findings/{finding.pk}/"
    place = f"{finding.datasource or 'several databases'} ({finding.environment})"
    text = f"[{rule.severity}] {rule.title}: {row['sentence']} {place}, {finding.occurred_at:%Y-%m-%d %H:%M:%S} UTC"
    ours = {
        "finding": finding.pk, "rule": rule.id, "title": rule.title, "severity": rule.severity, "sentence": row["sentence"],
        "environment": finding.environment, "datasource": finding.datasource, "occurred_at": format_time(finding.occurred_at),
        "found_at": format_time(finding.found_at), "who": row["who_id"], "who_type": row["who_type"],
        "on_behalf_of": row["on_behalf_of"], "ticket": row["ticket"], "session": row["session"], "relations": row["relations"],
        "rows": row["rows"], "record": finding.first_index, "finding_record": finding.record, "rules_digest": rules.digest,
        "url": where or None,
    }  # fmt: skip
    shown = outbox.escaped(text) + (f" <{where}|Look at it>" if where else "")
    return msgspec.json.encode({"text": shown, "touchstone": ours}).decode()


class Tellers(outbox.Threads):
    """The keeper's round."""

    def __init__(self) -> None:
        super().__init__("telling", _due, tell_one)

    def __call__(self) -> None:
        # What was found while it was being switched off.
        old = timezone.now() - GIVE_UP
        receivers.drop_waiting(Telling.objects.filter(receiver__is_on=False, finding__found_at__lt=old))
        super().__call__()


def _due() -> list[int]:
    found = outbox.waiting(Telling.objects.filter(receiver__is_on=True))
    return list(found.values_list("receiver_id", flat=True).distinct())


def tell_one(receiver: int, resolve: receivers.Resolve = socket.getaddrinfo) -> bool:
    """Tells one receiver the oldest that is due, and notes how it went; False when nothing is due (or another does it)."""
    with transaction.atomic():
        waiting = outbox.waiting(Telling.objects.filter(receiver_id=receiver, receiver__is_on=True))
        one: Telling | None = (
            waiting.select_for_update(skip_locked=True, of=("self",))
            .select_related("receiver", "finding")
            .order_by("id")
            .first()
        )
        if one is None:
            return False

        def send() -> outbox.Sent:
            body = one.body or ""
            if one.receiver.kind == "webhook":
                return outbox.post(one.receiver, one.message_id, body.encode(), resolve)
            return outbox.mail(_mail(one.receiver, body), one.message_id)

        others = Telling.objects.filter(receiver_id=receiver)
        return outbox.attempt(one, send, one.finding.found_at, lambda: _proof(one), others)


def _proof(one: Telling) -> Event:
    """The record that a receiver took it (or never did)."""
    return Event(
        kind="custody", environment=one.finding.environment, datasource=one.finding.datasource,
        custody=Custody(
            type="export", subject=f"finding {one.finding_id}", first=one.message_id, count=one.tries,
            detail=f"{'told to' if one.told_at else 'not told to'} {one.receiver.name}: {one.answer}",
        ),
    )  # fmt: skip


def _mail(receiver: Receiver, body: str) -> EmailMessage:
    ours = msgspec.json.decode(body or "{}")["touchstone"]
    subject = " ".join(f"[{ours['severity']}] {ours['title']}: {ours['datasource'] or ours['environment']}".split())
    lines = [ours["sentence"], "", *(f"{name}: {value}" for name, value in ours.items() if value is not None)]
    return EmailMessage(subject[:200], "\n".join(lines), to=[receiver.address])
