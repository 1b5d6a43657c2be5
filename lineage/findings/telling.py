"""Telling receivers of findings: what is to be told is kept with the finding, and told until it was taken, under one id.

Each receiver has a thread of its own, so that a slow one holds nobody up. The row is locked while it is told: two keepers
never tell the same at once. Killed between the answer and its mark, the same message is sent again with the same id.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import logging
import smtplib
import socket
import threading
import uuid
from collections.abc import Sequence

import msgspec
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from lineage import errors, ledger, posting
from lineage.events import Custody, Event, format_time
from lineage.finding_models import Finding, Receiver, Telling
from lineage.findings import receivers
from lineage.findings.evaluation import Row
from lineage.findings.rules import SEVERITIES, Ruleset

SECONDS = 8.0
MOST = 4096
WAITS = (1, 2, 4, 8, 15, 30)
LONGEST_WAIT = 60
GIVE_UP = dt.timedelta(days=3)
log = logging.getLogger("touchstone.telling")


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
        SEVERITIES.index(finding.severity) <= SEVERITIES.index(receiver.severity)
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
    shown = _escaped(text) + (f" <{where}|Look at it>" if where else "")
    return msgspec.json.encode({"text": shown, "touchstone": ours}).decode()


def _escaped(text: str) -> str:
    """Slack reads <…> as links and mentions: what a source says must not become one."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class Tellers:
    """The keeper's round: sees to it that each receiver with something due has its thread."""

    def __init__(self) -> None:
        self.threads: dict[int, threading.Thread] = {}

    def __call__(self) -> None:
        # What was found while it was being switched off.
        old = timezone.now() - GIVE_UP
        receivers.drop_waiting(Telling.objects.filter(receiver__is_on=False, finding__found_at__lt=old))
        for receiver in _due():
            thread = self.threads.get(receiver)
            if thread is None or not thread.is_alive():
                self.threads[receiver] = threading.Thread(
                    target=_work, args=(receiver,), name=f"telling-{receiver}", daemon=True
                )
                self.threads[receiver].start()


def _due() -> list[int]:
    waiting = Telling.objects.filter(
        told_at=None, body__isnull=False, next_at__lte=timezone.now(), receiver__is_on=True
    )
    return list(waiting.values_list("receiver_id", flat=True).distinct())


def _work(receiver: int) -> None:
    try:
        while tell_one(receiver):
            pass
    except (DatabaseError, errors.TouchstoneError) as error:
        log.warning("telling was interrupted (%s); trying again", type(error).__name__)
    finally:
        connection.close()


def tell_one(receiver: int, resolve: receivers.Resolve = socket.getaddrinfo) -> bool:
    """Tells one receiver the oldest that is due, and notes how it went; False when nothing is due (or another does it)."""
    with transaction.atomic():
        one = (
            Telling.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("receiver", "finding")
            .filter(
                told_at=None,
                body__isnull=False,
                next_at__lte=timezone.now(),
                receiver_id=receiver,
                receiver__is_on=True,
            )
            .order_by("id")
            .first()
        )
        if one is None:
            return False
        taken, one.answer = _sent(one, resolve)
        one.tries += 1
        now = timezone.now()
        if taken:
            one.told_at, one.body = now, None
            ledger.record(_proof(one))
        elif now - one.finding.found_at > GIVE_UP:
            one.body, one.answer = None, f"given up after three days: {one.answer}"[:300]
            ledger.record(_proof(one))
        else:
            wait = WAITS[one.tries - 1] if one.tries <= len(WAITS) else LONGEST_WAIT
            one.next_at = now + dt.timedelta(seconds=wait)
            # One that does not answer is asked once in that time, not once for each message.
            Telling.objects.filter(told_at=None, receiver_id=receiver, next_at__lt=one.next_at).update(
                next_at=one.next_at
            )
        one.save()
    return taken


def _proof(one: Telling) -> Event:
    """The record that a receiver took it (or never did)."""
    return Event(
        kind="custody", environment=one.finding.environment, datasource=one.finding.datasource,
        custody=Custody(
            type="export", subject=f"finding {one.finding_id}", first=one.message_id, count=one.tries,
            detail=f"{'told to' if one.told_at else 'not told to'} {one.receiver.name}: {one.answer}",
        ),
    )  # fmt: skip


def _sent(one: Telling, resolve: receivers.Resolve) -> tuple[bool, str]:
    """Whether it was taken, and what was answered."""
    try:
        return _posted(one, resolve) if one.receiver.kind == "webhook" else _mailed(one)
    except errors.TouchstoneError as error:
        return False, error.message[:300]
    except (OSError, smtplib.SMTPException) as error:
        return False, f"{type(error).__name__}: the mail server did not take it"


def _posted(one: Telling, resolve: receivers.Resolve) -> tuple[bool, str]:
    """The name is looked up once: what was checked is what is connected to."""
    addresses = receivers.addresses_of(one.receiver.address, resolve)
    body = (one.body or "").encode()
    stamp = str(int(timezone.now().timestamp()))
    headers = {
        "Webhook-Id": one.message_id,
        "Webhook-Timestamp": stamp,
        "Webhook-Signature": sign(receivers.secret_of(one.receiver), one.message_id, stamp, body),
        "User-Agent": "Touchstone",
    }
    try:
        reply = posting.post(one.receiver.address, body, "application/json", SECONDS, MOST, headers, addresses)
    except errors.StoreUnavailable:
        return False, "no answer"
    return 200 <= reply.status < 300, f"HTTP {reply.status}"


def sign(secret: bytes, message_id: str, stamp: str, body: bytes) -> str:
    """The header `Webhook-Signature` (standardwebhooks.com): `v1,` and the HMAC-SHA256 of id, time and body, in base64."""
    mac = hmac.new(secret, b".".join([message_id.encode(), stamp.encode(), body]), hashlib.sha256)
    return f"v1,{base64.b64encode(mac.digest()).decode()}"


def _mailed(one: Telling) -> tuple[bool, str]:
    ours = msgspec.json.decode(one.body or "{}")["touchstone"]
    subject = " ".join(f"[{ours['severity']}] {ours['title']}: {ours['datasource'] or ours['environment']}".split())
    lines = [ours["sentence"], "", *(f"{name}: {value}" for name, value in ours.items() if value is not None)]
    mail = EmailMessage(subject[:200], "\n".join(lines), to=[one.receiver.address])
    mail.extra_headers["Message-ID"] = f"<{one.message_id}@touchstone>"
    return bool(mail.send()), "taken by the mail server"
