"""One POST to somebody outside, whole within a given time, never led elsewhere."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from lineage import errors


class Reply(NamedTuple):
    """What was answered, whatever its status."""

    status: int
    body: bytes


def post(
    url: str,
    body: bytes,
    content_type: str,
    seconds: float,
    most: int,
    headers: Mapping[str, str] | None = None,
    addresses: Sequence[str] = (),
) -> Reply:
    """The reply, its body at most `most` bytes. Raises StoreUnavailable when it is not whole within so many seconds.

    With `addresses` the host's name is not looked up again: one of these is connected to, as that host. In a thread,
    because a socket's own time limit would allow a byte now and then for ever.
    """
    replies: list[Reply] = []
    faults: list[Exception] = []

    def work() -> None:
        try:
            given = {"Content-Type": content_type, **(headers or {})}
            if addresses:
                replies.append(_post_to(addresses, url, body, given, seconds, most))
            else:
                replies.append(_post(url, body, given, seconds, most))
        except (OSError, ValueError, http.client.HTTPException) as error:
            faults.append(error)

    thread = threading.Thread(target=work, name="post", daemon=True)
    thread.start()
    thread.join(seconds)
    if faults:
        raise errors.StoreUnavailable(f"{url} did not answer: {faults[0]}.") from faults[0]
    if not replies:
        raise errors.StoreUnavailable(f"{url} did not answer within {seconds:.0f} s.")
    return replies[0]


class _Straight(urllib.request.HTTPRedirectHandler):
    """Following somebody elsewhere would let them send us into the inner network."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(url: str, body: bytes, headers: Mapping[str, str], seconds: float, most: int) -> Reply:
    request = urllib.request.Request(url, data=body, headers=dict(headers))  # noqa: S310 callers allow http(s) only
    try:
        with urllib.request.build_opener(_Straight).open(request, timeout=seconds) as answer:
            return Reply(answer.status, answer.read(most + 1)[:most])
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.read(most + 1)[:most])


class _At(http.client.HTTPConnection):
    """To the first of these addresses that answers; the host that is named stays the URL's."""

    addresses: Sequence[str] = ()

    def connect(self) -> None:
        self.sock = _connected(self.addresses, self.port, self.timeout)


class _TlsAt(_At):
    """The same with TLS: the certificate must be the named host's, whatever the address."""

    def connect(self) -> None:
        super().connect()
        self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)


def _connected(addresses: Sequence[str], port: int, seconds: float | None) -> socket.socket:
    fault = OSError("no address")
    for address in addresses:
        try:
            return socket.create_connection((address, port), seconds)
        except OSError as error:
            fault = error
    raise fault


def _post_to(
    addresses: Sequence[str], url: str, body: bytes, headers: Mapping[str, str], seconds: float, most: int
) -> Reply:
    parts = urlsplit(url)
    is_tls = parts.scheme == "https"
    kind = _TlsAt if is_tls else _At
    connection = kind(parts.hostname or "", parts.port or (443 if is_tls else 80), timeout=seconds)
    connection.addresses = addresses
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, {**headers, "Connection": "close"})
        answer = connection.getresponse()
        return Reply(answer.status, answer.read(most + 1)[:most])
    finally:
        connection.close()
