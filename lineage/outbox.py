"""What is to be sent to somebody outside: kept as rows, sent until it was taken, under one id, with a record as proof.

Findings and reports send by it. Each receiver has a thread of its own, so that a slow one holds nobody up. The row is
locked while it is sent: two keepers never send the same at once. Killed between the answer and its mark, the same message
is sent again with the same id.
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
from collections.abc import Callable, Iterable
from typing import Any

from django.core.mail import EmailMessage
from django.db import DatabaseError, connection
from django.db.models import QuerySet
from django.utils import timezone

from lineage import errors, ledger, posting
from lineage.events import Event
from lineage.finding_models import Outgoing, Receiver
from lineage.findings import receivers

SECONDS = 8.0
MOST = 4096
WAITS = (1, 2, 4, 8, 15, 30)
LONGEST_WAIT = 60
GIVE_UP = dt.timedelta(days=3)
Sent = tuple[bool, str]
"""Whether it was taken, and what was answered."""
log = logging.getLogger("touchstone.telling")


class Threads:
    """A keeper's round: sees to it that each receiver with something due has its thread."""

    def __init__(self, name: str, due: Callable[[], Iterable[int]], send_one: Callable[[int], bool]) -> None:
        self.name, self.due, self.send_one = name, due, send_one
        self.threads: dict[int, threading.Thread] = {}

    def __call__(self) -> None:
        for receiver in self.due():
            thread = self.threads.get(receiver)
            if thread is None or not thread.is_alive():
                self.threads[receiver] = threading.Thread(
                    target=self._work, args=(receiver,), name=f"{self.name}-{receiver}", daemon=True
                )
                self.threads[receiver].start()

    def _work(self, receiver: int) -> None:
        try:
            while self.send_one(receiver):
                pass
        except (DatabaseError, errors.TouchstoneError) as error:
            log.warning("%s was interrupted (%s); trying again", self.name, type(error).__name__)
        finally:
            connection.close()


def waiting(rows: QuerySet[Any]) -> QuerySet[Any]:
    """Of these, the messages that are due to be sent."""
    return rows.filter(told_at=None, body__isnull=False, next_at__lte=timezone.now())


def attempt(
    one: Outgoing, send: Callable[[], Sent], since: dt.datetime, proof: Callable[[], Event], others: QuerySet[Any]
) -> bool:
    """Sends a locked message once and notes how it went, with the record `proof` once it was taken or given up.

    Given up is what waits since three days. `others` wait for the same receiver: one that does not answer is asked once in
    that time, not once for each message. Call it in the transaction that locks the row.
    """
    taken, one.answer = _sent(send)
    one.tries += 1
    now = timezone.now()
    if taken:
        one.told_at, one.body = now, None
        ledger.record(proof())
    elif now - since > GIVE_UP:
        one.body, one.answer = None, f"given up after three days: {one.answer}"[:300]
        ledger.record(proof())
    else:
        wait = WAITS[one.tries - 1] if one.tries <= len(WAITS) else LONGEST_WAIT
        one.next_at = now + dt.timedelta(seconds=wait)
        others.filter(told_at=None, next_at__lt=one.next_at).update(next_at=one.next_at)
    one.save()
    return taken


def _sent(send: Callable[[], Sent]) -> Sent:
    try:
        return send()
    except errors.TouchstoneError as error:
        return False, error.message[:300]
    except (OSError, smtplib.SMTPException) as error:
        return False, f"{type(error).__name__}: the mail server did not take it"


def post(receiver: Receiver, message_id: str, body: bytes, resolve: receivers.Resolve = socket.getaddrinfo) -> Sent:
    """To a webhook, signed. The name is looked up once: what was checked is what is connected to."""
    addresses = receivers.addresses_of(receiver.address, resolve)
    stamp = str(int(timezone.now().timestamp()))
    headers = {
        "Webhook-Id": message_id,
        "Webhook-Timestamp": stamp,
        "Webhook-Signature": sign(receivers.secret_of(receiver), message_id, stamp, body),
        "User-Agent": "Touchstone",
    }
    try:
        reply = posting.post(receiver.address, body, "application/json", SECONDS, MOST, headers, addresses)
    except errors.StoreUnavailable:
        return False, "no answer"
    return 200 <= reply.status < 300, f"HTTP {reply.status}"


def sign(secret: bytes, message_id: str, stamp: str, body: bytes) -> str:
    """The header `Webhook-Signature` (standardwebhooks.com): `v1,` and the HMAC-SHA256 of id, time and body, in base64."""
    mac = hmac.new(secret, b".".join([message_id.encode(), stamp.encode(), body]), hashlib.sha256)
    return f"v1,{base64.b64encode(mac.digest()).decode()}"


def mail(message: EmailMessage, message_id: str) -> Sent:
    """By the mail server that the settings name, under its id."""
    message.extra_headers["Message-ID"] = f"<{message_id}@touchstone>"
    return bool(message.send()), "taken by the mail server"


def escaped(text: str) -> str:
    """Slack reads <…> as links and mentions: what a source says must not become one."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
