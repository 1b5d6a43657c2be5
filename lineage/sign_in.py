"""Signing in by password (by OpenID Connect: `openid`): how often it may be tried, the record of each coming and refusal (docs/access.md).

Tries are counted for the e-mail address and for the network address, in the database, so that all processes count together.
A try is counted before the password is looked at: many at once are not more than their number.
"""

from __future__ import annotations

import datetime as dt
import hashlib

from django.conf import settings
from django.contrib import auth
from django.db import connection, transaction
from django.http import HttpRequest
from django.utils import timezone

from lineage import access, errors, ledger
from lineage.events import Actor, Custody, Event
from lineage.models import SignInAttempt, User

KEPT = "signed_in"
WITHIN = dt.timedelta(minutes=15)
MOST_FOR_EMAIL = 10
MOST_FROM_ADDRESS = 50


def address_of(request: HttpRequest) -> str:
    """The network address that a request comes from: behind so many trusted proxies, what the outermost of them saw."""
    proxies = settings.TRUSTED_PROXIES
    seen = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",") if part.strip()]
    if proxies and len(seen) >= proxies:
        return seen[-proxies][:100]
    return str(request.META.get("REMOTE_ADDR") or "unknown")


def by_password(request: HttpRequest, email: str, password: str) -> User:
    """Who signs in with these. Raises SignInPutOff, TokenInvalid and SeatEnded; each coming and each refusal is recorded."""
    email = email.replace("\0", "").strip()
    keys = {_key("e-mail", email.lower()): MOST_FOR_EMAIL, _key("address", address_of(request)): MOST_FROM_ADDRESS}
    known = User.objects.filter(email=email).first()
    _count(keys, known)
    user = auth.authenticate(request, username=email, password=password.replace("\0", ""))
    if not isinstance(user, User):
        record(known, "sign-in refused: the password is another one, or the seat is closed")
        raise errors.TokenInvalid(
            "Address and password do not go together, or the seat is closed. The refusal is recorded."
        )
    try:
        access.check_seat(user)
    except errors.SeatEnded:
        record(user, "sign-in refused: the seat has ended")
        raise
    record(user, "signed in by password")
    by_email, by_address = keys
    SignInAttempt.objects.filter(key=by_email).delete()
    uncount(by_address)
    return user


def keep(request: HttpRequest, told: dict[str, str]) -> None:
    """Notes in the session how and when its person signed in: what they sign later says it (docs/reports.md)."""
    request.session[KEPT] = {**told, "at": timezone.now().isoformat()}


def kept(request: HttpRequest) -> dict[str, str]:
    """How and when the person of this session signed in; nothing where it was begun before that was noted."""
    return dict(request.session.get(KEPT, {}))


def count_from(request: HttpRequest) -> bytes:
    """Counts a try for its network address alone, under the key that it returns. Raises SignInPutOff, recorded."""
    key = _key("address", address_of(request))
    _count({key: MOST_FROM_ADDRESS}, None)
    return key


def uncount(by_address: bytes) -> None:
    """Only tries that failed count against an address that many share."""
    mine = SignInAttempt.objects.filter(key=by_address, is_refusal=False).order_by("-at", "-pk").first()
    if mine is not None:
        mine.delete()


def _key(kind: str, value: str) -> bytes:
    """What people type is not kept: it may be a password in the wrong field."""
    return hashlib.sha256(f"{kind} {settings.SECRET_KEY} {value}".encode("utf-8", "surrogatepass")).digest()


def _count(keys: dict[bytes, int], known: User | None) -> None:
    """Counts one try for each key. Raises SignInPutOff where there were too many, recorded once for the time."""
    now = timezone.now()
    with transaction.atomic():
        _lock(keys)
        SignInAttempt.objects.filter(at__lt=now - WITHIN).delete()
        waits = [
            (times[0] + WITHIN - now).total_seconds() for key, most in keys.items() if len(times := _times(key)) >= most
        ]
        if not waits:
            SignInAttempt.objects.bulk_create(SignInAttempt(key=key, at=now) for key in keys)
            return
        is_first = not SignInAttempt.objects.filter(key__in=list(keys), is_refusal=True).exists()
        if is_first:
            SignInAttempt.objects.bulk_create(SignInAttempt(key=key, at=now, is_refusal=True) for key in keys)
            record(known, "sign-in put off: too many tries")
    raise errors.SignInPutOff(max(1, int(max(waits))))


def _lock(keys: dict[bytes, int]) -> None:
    """One at a time for each key, in one order for everybody."""
    with connection.cursor() as cursor:
        for key in sorted(keys):
            cursor.execute("select pg_advisory_xact_lock(%s)", [int.from_bytes(key[:8], signed=True)])


def _times(key: bytes) -> list[dt.datetime]:
    return list(SignInAttempt.objects.filter(key=key, is_refusal=False).order_by("at").values_list("at", flat=True))


def record(user: User | None, detail: str) -> None:
    """A coming or a refusal in the log; somebody unknown is not named, since what was typed may be anything."""
    actor = Actor(id=user.email, type="human") if user else Actor(type="unknown")
    ledger.record(Event(kind="custody", actor=actor, custody=Custody(type="access", subject="sign-in", detail=detail)))
