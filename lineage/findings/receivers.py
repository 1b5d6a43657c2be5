"""Receivers of findings and reports: whom to tell what, checked before it is kept, with a secret that is shown once."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import ipaddress
import re
import secrets
import socket
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import QuerySet

from lineage import configuration, errors, rights
from lineage.access import Viewer
from lineage.finding_models import Receiver, Telling
from lineage.findings import ruling
from lineage.findings.rules import SEVERITIES

OFF = "not told: the receiver was switched off"
KINDS = ("webhook", "mail", "folder")
NO_FINDINGS = "none"
"""Instead of a severity: told of no findings, but sent the reports of schedules that name it."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}")
Resolve = Callable[..., list[Any]]
"""As `socket.getaddrinfo`."""
SHOWN = ("kind", "address", "severity", "rules", "environments", "datasources", "is_on")


def in_scope(viewer: Viewer) -> list[Receiver]:
    """Those that are told of nothing outside the viewer's scope, by name."""
    return [one for one in Receiver.objects.order_by("name") if _within(viewer, one.datasources, one.environments)]


def _within(viewer: Viewer, datasources: list[str], environments: list[str]) -> bool:
    told = dataclasses.replace(viewer, datasources=tuple(datasources), environments=tuple(environments))
    return viewer.covers(told)


def establish(viewer: Viewer, given: dict[str, Any], reason: str) -> tuple[Receiver, str]:
    """Makes a receiver, or changes the one of this name; returns it and its new secret ("" where the old one stays).

    `given`: name, kind, address, severity, rules, environments, datasources, is_on, new_secret. With another address a
    webhook gets another secret. Raises AccessDenied and ReceiverInvalid; the refusal is recorded.
    """
    try:
        if not ruling.may(viewer):
            raise errors.AccessDenied(
                "Receivers of findings are set by security and administrators whose scope is everything."
            )
        wanted, why = _checked(given), _reason(reason)
        there = Receiver.objects.filter(name=given["name"]).values(*SHOWN)
        if not all(_within(viewer, one["datasources"], one["environments"]) for one in (wanted, *there)):
            raise errors.AccessDenied(
                f"A receiver is told of what is in your scope alone ({viewer.label}): name its databases."
            )
    except errors.TouchstoneError as error:
        rights.refuse("configuration", None, viewer.email, error.code)
        raise
    with transaction.atomic():
        one = Receiver.objects.select_for_update(no_key=True).filter(name=given["name"]).first()
        before = _value(one) if one else None
        moved = one is None or (one.kind, one.address) != (wanted["kind"], wanted["address"])
        one = one or Receiver(name=given["name"])
        for field in SHOWN:
            setattr(one, field, wanted[field])
        one.by, fresh = viewer.email, ""
        if one.kind == "webhook" and (moved or given.get("new_secret")):
            fresh = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
            one.secret = _vault().encrypt(fresh.encode()).decode()
        one.save()
        if not one.is_on:
            drop_waiting(Telling.objects.filter(receiver=one))
        configuration.record(viewer.email, f"receiver {one.name}", before, _value(one), why)
    return one, fresh


def drop_waiting(tellings: QuerySet[Telling]) -> None:
    """Of these, messages that wait lose their text and are told no more."""
    tellings.filter(told_at=None).exclude(body=None).update(body=None, answer=OFF)


def secret_of(receiver: Receiver) -> bytes:
    """The bytes that sign for it. Raises ReceiverInvalid when the program's own secret changed meanwhile."""
    try:
        text = _vault().decrypt(receiver.secret.encode()).decode()
    except InvalidToken as error:
        raise errors.ReceiverInvalid(
            "The secret cannot be opened: TOUCHSTONE_SECRET_KEY changed. Make a new one on Findings, Receivers."
        ) from error
    return base64.b64decode(text.removeprefix("whsec_"))


def _vault() -> Fernet:
    key = hashlib.sha256(b"touchstone receivers\0" + settings.SECRET_KEY.encode()).digest()
    return Fernet(base64.urlsafe_b64encode(key))


def _reason(text: str) -> str:
    why = text.strip()
    if not why or len(why) > 1000 or "\0" in why:
        raise errors.ReceiverInvalid("Say in up to 1,000 characters why. Nothing was changed.", field="reason")
    return why


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    name, kind, address = (str(given.get(field, "")).strip() for field in ("name", "kind", "address"))
    if not NAME.fullmatch(str(given.get("name", ""))):
        raise errors.ReceiverInvalid(
            "A name is at most 60 letters, digits, spaces, dots or hyphens. Nothing was changed.", field=name[:40]
        )
    if kind not in KINDS or given.get("severity") not in (*SEVERITIES, NO_FINDINGS):
        raise errors.ReceiverInvalid(
            "Choose webhook, mail or folder, and high, medium, low or none. Nothing was changed."
        )
    codes = {rule.id for rule in ruling.current().rules}
    if unknown := [code for code in given.get("rules", ()) if code not in codes]:
        raise errors.ReceiverInvalid(f"There is no rule {unknown[0][:40]}. Nothing was changed.", field="rules")
    if kind == "webhook":
        addresses_of(address)
    elif kind == "folder":
        _check_folder(address, given["severity"])
    else:
        _check_mail(address)
    lists = {name: _listed(given.get(name, ())) for name in ("rules", "environments", "datasources")}
    return {"kind": kind, "address": address, "severity": given["severity"], "is_on": bool(given.get("is_on")), **lists}


def _listed(values: Iterable[str]) -> list[str]:
    found = sorted({value.strip() for value in values if value.strip()})
    if len(found) > 100 or any(len(value) > 100 or "\0" in value for value in found):
        raise errors.ReceiverInvalid("Give at most 100 names of at most 100 characters. Nothing was changed.")
    return found


def _check_folder(address: str, severity: str) -> None:
    """Where in the file system is the installation's say; a receiver names one folder there."""
    if not settings.REPORT_FOLDER:
        raise errors.ReceiverInvalid("There is no folder to write to: TOUCHSTONE_REPORT_FOLDER is not set.")
    if not NAME.fullmatch(address) or severity != NO_FINDINGS:
        raise errors.ReceiverInvalid(
            "A folder has a plain name, lies in TOUCHSTONE_REPORT_FOLDER and takes reports only: severity none."
            " Nothing was changed.",
            field="address",
        )


def _check_mail(address: str) -> None:
    try:
        validate_email(address)
    except ValidationError as error:
        raise errors.ReceiverInvalid("Give one mail address. Nothing was changed.", field="address") from error


def addresses_of(url: str, resolve: Resolve = socket.getaddrinfo) -> list[str]:
    """The addresses of a webhook's host: of https anywhere, of http in our own network; never a link-local one.

    Asked when it is set and before each sending, since a name may come to mean another address. Whoever sends connects
    to what is returned here and looks the name up no more. Raises ReceiverInvalid.
    """
    scheme, host, port = _parts(url)
    try:
        found = {ipaddress.ip_address(a[4][0]) for a in resolve(host, port, type=socket.SOCK_STREAM)}
    except (OSError, ValueError, UnicodeError) as error:
        raise errors.ReceiverInvalid("The host of the address is not known here.", field="address") from error
    for ip in found:
        if ip.is_link_local or ip.is_multicast or ip.is_unspecified or (ip.is_reserved and not ip.is_loopback):
            raise errors.ReceiverInvalid("Nothing is sent to link-local or reserved addresses.", field="address")
        if scheme == "http" and not (ip.is_private or ip.is_loopback):
            raise errors.ReceiverInvalid("Outside your own network the address begins with https://.", field="address")
    return [str(ip) for ip in sorted(found, key=lambda ip: (ip.version, int(ip)))]


def _parts(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a webhook's address. Raises ReceiverInvalid."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, port = urlsplit(""), 0
    if (
        parts.scheme not in ("https", "http")
        or not parts.hostname
        or "@" in parts.netloc
        or len(url) > 500
        or re.search(r"[\s\x00-\x1f]", url)
    ):
        raise errors.ReceiverInvalid(
            "Give an address like https://hooks.example/abc, without user and password in it. Nothing was changed.",
            field="address",
        )
    return parts.scheme, parts.hostname, port


def _value(receiver: Receiver) -> dict[str, Any]:
    """As a record tells it. Of a webhook's address the host alone: the rest may be a secret. Marks tell that one changed."""
    where = shown_address(receiver)
    return {
        "on": receiver.is_on,
        "kind": receiver.kind,
        "address": f"{where} ({_mark(receiver.address)})",
        "severity": receiver.severity,
        "secret": _mark(receiver.secret),
        **{name: list(getattr(receiver, name)) for name in ("rules", "environments", "datasources")},
    }


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8] if text else ""


def shown_address(receiver: Receiver) -> str:
    """Without the path of a webhook, which may be a secret."""
    if receiver.kind != "webhook":
        return receiver.address
    parts = urlsplit(receiver.address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"
