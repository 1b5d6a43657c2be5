"""One POST to somebody outside, whole within a given time, never led elsewhere."""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple

from lineage import errors


class Reply(NamedTuple):
    """What was answered, whatever its status."""

    status: int
    body: bytes


def post(
    url: str, body: bytes, content_type: str, seconds: float, most: int, headers: Mapping[str, str] | None = None
) -> Reply:
    """The reply, its body at most `most` bytes. Raises StoreUnavailable when it is not whole within so many seconds.

    In a thread, because a socket's own time limit would allow a byte now and then for ever.
    """
    replies: list[Reply] = []
    faults: list[Exception] = []

    def work() -> None:
        try:
            replies.append(_post(url, body, {"Content-Type": content_type, **(headers or {})}, seconds, most))
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
