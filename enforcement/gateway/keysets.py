"""The public keys of issuers: from a file, from the store, or fetched over https; the last known ones are kept on disk.

Keys that cannot be had are no keys: nobody is let in by guess. An unknown key id looks for newer keys, at most once a minute.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import http.client
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from enforcement.gateway import identity
from enforcement.gateway.identity import Identity, Issuer, TokenRefused, Verifier

MOST_BYTES = 1024 * 1024
FETCH_SECONDS = 5.0
BETWEEN_SECONDS = 60.0
FRESH_SECONDS = 3600.0
LONGEST_SECONDS = 24 * 3600.0


class KeysUnavailable(Exception):
    """A key set cannot be read; the sentence says why."""


class KeySets:
    """Issuers with their keys. `places`: issuer -> path of a file, or https URL; `folder` keeps what was fetched.

    Fetched keys are asked for again after an hour and dropped after a day without an answer. Thread-safe; `verify` may wait
    `FETCH_SECONDS` for a fetch, so call it outside the event loop.
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        places: Mapping[str, str],
        folder: Path,
        *,
        ca_file: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder, self._places, self._ca_file, self._clock = folder, dict(places), ca_file, clock
        self._lock = threading.Lock()
        self._tried: dict[str, float] = {}
        self._good: dict[str, float] = {}
        self._verifier = Verifier(issuers)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for issuer in self._places:
            self._recall(issuer)
        self._store: dict[str, Any] = {}
        kept = _file(self._folder, "store")
        if kept.exists():
            # One that was cut is told again by the store.
            with contextlib.suppress(ValueError):
                self.put_store(_object(kept.read_bytes()))

    def verify(self, token: str, now: dt.datetime) -> Identity:
        """As `identity.Verifier.verify`, with newer keys looked for where the token's is unknown."""
        issuer = identity.issuer_of(token)
        if issuer in self._places and self._clock() - self._good.get(issuer, 0) > FRESH_SECONDS:
            self._refresh(issuer)
        try:
            return self._verifier.verify(token, now)
        except TokenRefused as refused:
            if refused.code != "key-unknown" or issuer not in self._places or not self._refresh(issuer):
                raise
            return self._verifier.verify(token, now)

    def put_store(self, told: Mapping[str, Any]) -> None:
        """The store's own keys, as its exchange tells them; kept for a start without the store. ValueError: unusable."""
        if dict(told) == self._store:
            return
        self._verifier.put(identity.store_issuer(told))
        _keep(_file(self._folder, "store"), msgspec.json.encode(dict(told)))
        self._store = dict(told)

    def _recall(self, issuer: str) -> None:
        """What is known at start: the file, or what was fetched before."""
        place = self._places[issuer]
        if not _is_url(place):
            self._take(issuer, Path(place).read_bytes(), self._clock())
            return
        kept = _file(self._folder, issuer)
        if kept.exists():
            with contextlib.suppress(ValueError):
                self._take(issuer, kept.read_bytes(), kept.stat().st_mtime)
            self._drop_old(issuer)

    def _refresh(self, issuer: str) -> bool:
        """Reads or fetches the keys again, unless that was tried within the last minute."""
        with self._lock:
            now = self._clock()
            if now - self._tried.get(issuer, -BETWEEN_SECONDS) < BETWEEN_SECONDS:
                return False
            self._tried[issuer] = now
            place = self._places[issuer]
            try:
                body = fetch(place, self._ca_file) if _is_url(place) else Path(place).read_bytes()
                self._take(issuer, body, now)
            except (KeysUnavailable, OSError, ValueError):
                self._drop_old(issuer)
                return False
            if _is_url(place):
                _keep(_file(self._folder, issuer), body)
            return True

    def _take(self, issuer: str, body: bytes, at: float) -> None:
        known = self._verifier.knows(issuer)
        if known is None:
            raise ValueError(f"{issuer} is no issuer of this gateway")
        keys = _object(body)
        if not isinstance(keys.get("keys"), list):
            raise ValueError(f"the keys of {known.name} are no JWK set: an object with a list keys")
        self._verifier.put(msgspec.structs.replace(known, keys=keys))
        self._good[issuer] = at

    def _drop_old(self, issuer: str) -> None:
        known = self._verifier.knows(issuer)
        if known and _is_url(self._places[issuer]) and self._clock() - self._good.get(issuer, 0) > LONGEST_SECONDS:
            self._verifier.put(msgspec.structs.replace(known, keys={}))


def fetch(url: str, ca_file: str | None = None) -> bytes:
    """A key set over https: certificate checked, no redirects, at most 1 MiB. Raises KeysUnavailable."""
    asked = urlsplit(url)
    if asked.scheme != "https" or not asked.hostname:
        raise KeysUnavailable(f"{url} is no https address")
    connection = http.client.HTTPSConnection(
        asked.hostname, asked.port, timeout=FETCH_SECONDS, context=ssl.create_default_context(cafile=ca_file)
    )
    try:
        connection.request(
            "GET",
            f"{asked.path or '/'}{'?' if asked.query else ''}{asked.query}",
            headers={"Accept": "application/json"},
        )
        answer = connection.getresponse()
        body = answer.read(MOST_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        raise KeysUnavailable(f"{url} does not answer ({type(error).__name__})") from error
    finally:
        connection.close()
    if answer.status != 200 or len(body) > MOST_BYTES:
        raise KeysUnavailable(f"{url} answers {answer.status} with {len(body):,} bytes")
    return body


def _is_url(place: str) -> bool:
    return "://" in place


def _object(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ValueError("the keys are no JSON object") from error


def _file(folder: Path, issuer: str) -> Path:
    return folder / f"keys-{hashlib.sha256(issuer.encode()).hexdigest()[:16]}.json"


def _keep(path: Path, body: bytes) -> None:
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_bytes(body)
    draft.replace(path)
