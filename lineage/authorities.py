"""Timestamp authorities: each is asked for the newest checkpoint now and then, and its tokens are kept (docs/timestamps.md).

Asked in a round of the keeper that runs apart, so that signing waits for none of them.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from django.conf import settings
from django.db import connection, transaction

from lineage import alarms, errors, ledger, notes, posting, timestamps
from lineage.events import Custody, Event, format_time
from lineage.notes.keys import check_name

TIMEOUT_SECONDS = 10.0
SKEW_SECONDS = 300
FIRST_WAIT_SECONDS = 60.0
LONGEST_WAIT_SECONDS = 1800.0
LONGEST_LAG = dt.timedelta(minutes=5)
LATE = "timestamp-late"
log = logging.getLogger("touchstone.timestamps")


@dataclass(frozen=True)
class Stamped:
    """An authority states that the checkpoint of `size` records existed at `stated_at`."""

    size: int
    authority: str
    stated_at: dt.datetime


class Asking:
    """The keeper's round: asks whom it is time to ask, waits longer after each failure, and judges lateness."""

    def __init__(self) -> None:
        self.failures: dict[str, int] = {}
        self.not_before: dict[str, float] = {}

    def __call__(self) -> None:
        for name, url in configured().items():
            if time.monotonic() >= self.not_before.get(name, 0) and is_due(name):
                self._try(name, url)
        judge_lateness()

    def _try(self, name: str, url: str) -> None:
        try:
            ask(name, url)
            self.failures.pop(name, None)
        except errors.TimestampInvalid as error:
            failed = self.failures[name] = self.failures.get(name, 0) + 1
            wait = min(FIRST_WAIT_SECONDS * 2 ** min(failed - 1, 10), LONGEST_WAIT_SECONDS)
            self.not_before[name] = time.monotonic() + wait
            log.warning("no timestamp of %s: %s Asked again in %.0f s.", name, error.message, wait)


def configured() -> dict[str, str]:
    """The authorities' addresses by name. SettingsInvalid names the fault."""
    found: dict[str, str] = {}
    for each in settings.TSA:
        name, _, url = each.strip().partition("=")
        if not url.startswith(("http://", "https://")) or name in found:
            raise errors.SettingsInvalid(
                f"TOUCHSTONE_TSA is a list of NAME=URL, each name once, with http or https. Not so: {each[:80]!r}"
            )
        try:
            check_name(name)
        except errors.NoteInvalid as error:
            raise errors.SettingsInvalid(f"TOUCHSTONE_TSA: {error.message}") from error
        found[name] = url
    return found


def is_due(name: str) -> bool:
    """Whether the log grew since this authority's last token, and an hour or a day (UTC) of checkpoints began."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select c.size, c.at, t.size, t.at, s.at "
            "from (select size, at from ledger_checkpoint order by size desc limit 1) c "
            "left join (select size, at from ledger_timestamp where authority = %s order by size desc limit 1) t on true "
            "left join ledger_checkpoint s on s.size = t.size",
            [name],
        )
        row = cursor.fetchone()
    if row is None:
        return False
    size, signed_at, stamped_size, asked_at, stamped_signed_at = row
    if stamped_size is None:
        return True
    hours = (dt.datetime.now(dt.UTC) - asked_at).total_seconds() / 3600
    day_began = stamped_signed_at is not None and _day(signed_at) > _day(stamped_signed_at)
    return bool(size > stamped_size and (hours >= settings.TSA_HOURS or day_began))


def ask(name: str, url: str) -> Stamped:
    """A token of this authority over the newest checkpoint, checked and kept. TimestampInvalid says why there is none.

    NotFound before the first checkpoint. The records that it does not hold are younger than five minutes.
    """
    size, note = _newest()
    message = notes.read_note(note.encode()).text.encode()
    request = timestamps.request(message)
    sent_at = dt.datetime.now(dt.UTC)
    response = answer(url, request.body)
    received_at = dt.datetime.now(dt.UTC)
    authority = timestamps.authority_of(response, name, _roots())
    stamp = timestamps.verify(response, message, authority, request.nonce)
    _keep(size, response, stamp, authority)
    _compare_clocks(stamp, sent_at, received_at)
    return Stamped(size, name, stamp.stated_at)


def judge_lateness() -> None:
    """Raises the alarm when a checkpoint waits too long for a token of any authority; clears it when none does."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select at from ledger_checkpoint where size > (select coalesce(max(size), 0) from ledger_timestamp) "
            "order by size limit 1"
        )
        row = cursor.fetchone()
    late = dt.timedelta(hours=settings.TSA_LATE_HOURS)
    if not configured() or row is None or dt.datetime.now(dt.UTC) - row[0] <= late:
        alarms.clear(LATE)
        return
    alarms.sound(
        LATE,
        f"No timestamp authority has stamped a checkpoint since that of {format_time(row[0])[:16]}Z was signed. "
        "Run `bin/manage timestamp` to see what they answer.",
    )


def first_over(index: int) -> Stamped | None:
    """The earliest stated time of a checkpoint that covers the record: it existed by then."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select size, authority, stated_at from ledger_timestamp where size > %s order by stated_at, size limit 1",
            [index],
        )
        row = cursor.fetchone()
    return Stamped(*row) if row else None


def policy_lines() -> list[str]:
    """The `tsa` lines of the authorities that were met, for the policy file."""
    with connection.cursor() as cursor:
        # A policy lists a certificate once, also where two names led to one authority.
        cursor.execute("select distinct on (fingerprint) line from ledger_authority order by fingerprint, at, name")
        return sorted(row[0] for row in cursor.fetchall())


def _newest() -> tuple[int, str]:
    with connection.cursor() as cursor:
        cursor.execute("select size, note from ledger_checkpoint order by size desc limit 1")
        row = cursor.fetchone()
        if row is None:
            raise errors.NotFound("No checkpoint is signed yet. The first comes within seconds of the first record.")
        cursor.execute(
            "select min(committed_at) from ledger_batch where first_index + n > %s "
            "and first_index >= (select max(first_index) from ledger_batch where first_index <= %s)",
            [row[0], row[0]],
        )
        waiting_since = cursor.fetchone()[0]
    if waiting_since and dt.datetime.now(dt.UTC) - waiting_since > LONGEST_LAG:
        # They were received before the time that would be stated, and are not under it: as if dated back.
        raise errors.TimestampInvalid("It is not asked while records wait for their checkpoint: is the keeper running?")
    return row[0], row[1]


def _roots() -> list[x509.Certificate]:
    path = Path(settings.TSA_ROOTS)
    try:
        with warnings.catch_warnings():
            # The bundles of some systems hold a root whose serial number is not positive; it roots nothing of ours.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            return x509.load_pem_x509_certificates(path.read_bytes()) if path.is_file() else []
    except (OSError, ValueError) as error:
        raise errors.SettingsInvalid(f"TOUCHSTONE_TSA_ROOTS: {path} cannot be read as PEM certificates.") from error


def _keep(size: int, response: bytes, stamp: timestamps.Stamp, authority: timestamps.Authority) -> None:
    fingerprint = hashlib.sha256(authority.certificates[0].public_bytes(Encoding.DER)).digest()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "insert into ledger_authority (name, fingerprint, line) values (%s, %s, %s) on conflict do nothing",
            [stamp.authority, fingerprint, str(authority)],
        )
        if cursor.rowcount:
            log.warning("%s signs with a certificate met for the first time; auditors need the new line of `bin/manage policy`.",
                        stamp.authority)  # fmt: skip
        cursor.execute(
            "insert into ledger_timestamp (size, authority, response, stated_at) values (%s, %s, %s, %s) "
            "on conflict do nothing",
            [size, stamp.authority, response, stamp.stated_at],
        )


def _compare_clocks(stamp: timestamps.Stamp, sent_at: dt.datetime, received_at: dt.datetime) -> None:
    """Notes in the log when the stated time is not within five minutes of the time that we asked at."""
    ahead = (sent_at - stamp.stated_at).total_seconds()
    behind = (stamp.stated_at - received_at).total_seconds()
    if max(ahead, behind) <= SKEW_SECONDS:
        return
    words = f"{ahead:.0f} s ahead of" if ahead > behind else f"{behind:.0f} s behind"
    ledger.record(
        Event(
            kind="custody",
            custody=Custody(
                type="clock_skew", subject="touchstone", detail=f"the store's clock is {words} {stamp.authority}"
            ),
        )
    )


def answer(url: str, body: bytes) -> bytes:
    most = timestamps.MAX_RESPONSE_BYTES + 1
    try:
        reply = posting.post(url, body, "application/timestamp-query", TIMEOUT_SECONDS, most)
    except errors.StoreUnavailable as error:
        raise errors.TimestampInvalid(f"The authority did not answer: {error.message}") from error
    if reply.status != 200:
        raise errors.TimestampInvalid(f"The authority did not answer: status {reply.status}.")
    return reply.body


def _day(moment: dt.datetime) -> dt.date:
    return moment.astimezone(dt.UTC).date()
