"""The JSON API: heartbeats of sources, questions of viewers. Rules live elsewhere; here is only HTTP."""

from __future__ import annotations

import datetime as dt
import difflib
import io
import re
import zlib
from collections.abc import Callable
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from lineage import (
    access,
    cells,
    connecting,
    connection_lines,
    errors,
    health,
    ledger,
    ocsf,
    queries,
    tree,
    witnesses,
)
from lineage.access import Viewer
from lineage.answers import evidence_read, log_read
from lineage.events import Count, parse_time
from lineage.queries import Answer, Window

BODY_MOST = 10 * 1024 * 1024
LINES_MOST = 64 * 1024


def read_body(request: HttpRequest) -> bytes:
    """The request's body, decompressed, at most 10 MiB. Raises BodyTooLarge, EncodingUnknown, BodyUnreadable."""
    if int(request.META.get("CONTENT_LENGTH") or 0) > BODY_MOST:
        raise errors.BodyTooLarge
    raw = request.body
    encoding = request.META.get("HTTP_CONTENT_ENCODING", "identity").lower()
    try:
        if encoding == "gzip":
            body = _unpacked(raw, lambda: zlib.decompressobj(31))
        elif encoding == "zstd":
            body = _unpacked(raw, zstandard.ZstdDecompressor().decompressobj)
        elif encoding == "identity":
            body = raw
        else:
            raise errors.EncodingUnknown
    except (zlib.error, zstandard.ZstdError) as error:
        raise errors.BodyUnreadable(f"The body is not valid {encoding}. Nothing was stored.") from error
    if len(body) > BODY_MOST:
        raise errors.BodyTooLarge
    return body


def _unpacked(raw: bytes, make: Callable[[], Any]) -> bytes:
    """All members of a compressed body, in small pieces, so that a bomb costs little. Raises BodyUnreadable, BodyTooLarge."""
    parts: list[bytes] = []
    size = 0
    while raw:
        unpacker = make()
        for start in range(0, len(raw), 1024):
            parts.append(unpacker.decompress(raw[start : start + 1024]))
            size += len(parts[-1])
            if size > BODY_MOST:
                raise errors.BodyTooLarge
            if unpacker.eof:
                break
        else:
            raise errors.BodyUnreadable("The compressed body ends too early. Nothing was stored.")
        raw = unpacker.unused_data + raw[start + 1024 :]
    return b"".join(parts)


class Beat(msgspec.Struct):
    last_sequence: Count | None = None
    position: str = ""
    at: str | None = None
    detail: dict[str, Any] = {}


@csrf_exempt
@require_POST
def heartbeat(request: HttpRequest) -> HttpResponse:
    """POST /api/v1/heartbeat: the source lives, and this is the last it read."""
    source = access.source_for(request)
    try:
        beat = msgspec.json.decode(read_body(request), type=Beat)
        at = parse_time(beat.at) if beat.at else None
    except (msgspec.DecodeError, msgspec.ValidationError, ValueError) as error:
        raise errors.BodyUnreadable(
            "A heartbeat is a JSON object with last_sequence, position and at (RFC 3339)."
        ) from error
    health.beat(
        source,
        last_sequence=beat.last_sequence,
        position=beat.position.replace("\0", "\u2400")[:500],
        reported_at=at,
        detail=beat.detail,
    )
    return JsonResponse({"ok": True})


def window_of(request: HttpRequest) -> Window:
    """The window that `since`, `until` (RFC 3339, date, or 24h, 7d …) and `environment` of the query string ask for."""
    since, until = (_moment(request.GET.get(name)) for name in ("since", "until"))
    return queries.between(since, until, request.GET.get("environment") or None)


def _moment(text: str | None) -> dt.datetime | None:
    if not text:
        return None
    units = {"m": 60, "h": 3600, "d": 86400, "w": 604800}
    if re.fullmatch(r"[0-9]{1,5}[mhdw]", text):
        return dt.datetime.now(dt.UTC) - dt.timedelta(seconds=int(text[:-1]) * units[text[-1]])
    try:
        return parse_time(text if "T" in text else f"{text}T00:00:00Z")
    except ValueError as error:
        raise errors.QueryInvalid(f"{text!r} is not a time: {error}") from error


def limit_of(request: HttpRequest) -> int | None:
    text = request.GET.get("limit")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise errors.QueryInvalid("limit is a whole number from 1 to 1000")
    return int(text)


LISTED = ("q", "since", "until", "environment", "limit", "cursor", "format")
"""What every list may be asked with."""


def known(request: HttpRequest, *more: str) -> None:
    """Refuses a parameter that a list does not know: a filter that is left out unsaid makes a wrong answer. Raises QueryInvalid."""
    takes = {*LISTED, *more}
    for name in request.GET:
        if name not in takes:
            near = difflib.get_close_matches(name, takes, 1, 0.5)
            meant = f"; the nearest is {near[0]}" if near else ""
            raise errors.QueryInvalid(
                f"This list takes no parameter {name[:40]!r}{meant}. It takes {', '.join(sorted(takes))}; fields such as "
                "actor or relation stand in q, as in q=actor:dana.",
                parameter=name[:40],
            )


List = Callable[..., Answer]


def listed(question: List) -> Callable[..., HttpResponseBase]:
    """A view that answers a list question in json, csv, ndjson or parquet; events also as OCSF."""

    @require_GET
    @evidence_read
    def view(request: HttpRequest, viewer: Viewer) -> HttpResponse:
        known(request, "count")
        answer = question(
            viewer, request.GET.get("q", ""), window_of(request), limit_of(request), request.GET.get("cursor")
        )
        by = next((name for name, one in queries.LISTS.items() if one is question), None)
        if by and request.GET.get("count") == "exact" and not answer.total.exact:
            whole = queries.exact_total(viewer, request.GET.get("q", ""), window_of(request), by, answer.as_of)
            answer = msgspec.structs.replace(answer, total=whole)
        if question is queries.events and request.GET.get("format") == "ocsf":
            lines = b"".join(msgspec.json.encode(ocsf.event(item)) + b"\n" for item in answer.items)
            return _file(lines, "application/x-ndjson", "ocsf.ndjson", answer)
        return formatted(request, answer)

    return view


def formatted(request: HttpRequest, answer: Answer) -> HttpResponse:
    form = request.GET.get("format", "json")
    if form == "json":
        whole = {
            "items": answer.items,
            "next": answer.next,
            "previous": answer.previous,
            "total": answer.total,
            "as_of": {"size": answer.as_of},
            "coverage": [covered(c) for c in answer.coverage],
        }
        return HttpResponse(msgspec.json.encode(whole), content_type="application/json")
    if form == "ndjson":
        lines = b"".join(msgspec.json.encode(item) + b"\n" for item in answer.items)
        return _file(lines, "application/x-ndjson", "ndjson", answer)
    if form == "csv":
        return _file(cells.as_csv(answer.items), "text/csv; charset=utf-8", "csv", answer)
    if form == "parquet":
        return _file(as_parquet(answer.items), "application/vnd.apache.parquet", "parquet", answer)
    raise errors.QueryInvalid("format is json, csv, ndjson or parquet; for events also ocsf")


def covered(c: queries.Coverage) -> dict[str, Any]:
    return {
        "source": c.source, "datasource": c.datasource, "environment": c.environment, "from": c.from_at, "to": c.to_at,
        "state": c.state, "detail": c.detail,
        "spans": [{"state": s.state, "from": s.from_at, "to": s.to_at, "detail": s.detail} for s in c.spans],
    }  # fmt: skip


def _file(body: bytes, content_type: str, ending: str, answer: Answer) -> HttpResponse:
    response = HttpResponse(body, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="touchstone-{answer.as_of}.{ending}"'
    if answer.next:
        response["X-Next-Cursor"] = answer.next
    return response


def as_parquet(items: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([cells.flat(item) for item in items]), sink, compression="zstd")
    return sink.getvalue()


def _whole(answer: dict[str, Any]) -> HttpResponse:
    body = answer | {"coverage": [covered(c) for c in answer.get("coverage", ())]}
    if "as_of" in body:
        body["as_of"] = {"size": body["as_of"]}
    return HttpResponse(msgspec.json.encode(body), content_type="application/json")


@require_GET
@evidence_read
def session(request: HttpRequest, viewer: Viewer, key: str) -> HttpResponse:
    return _whole(queries.session(viewer, key, request.GET.get("q", ""), limit=5000))


@require_GET
@evidence_read
def identity(request: HttpRequest, viewer: Viewer, identity_id: str) -> HttpResponse:
    return _whole(queries.identity(viewer, identity_id, window_of(request)))


@require_GET
@evidence_read
def row(request: HttpRequest, viewer: Viewer, datasource: str, relation: str, key: str) -> HttpResponse:
    return _whole(queries.row(viewer, datasource, relation, key, window_of(request)))


@require_GET
@evidence_read
def event(request: HttpRequest, viewer: Viewer, index: int) -> HttpResponse:
    return _whole(queries.event(viewer, index))


@require_GET
@evidence_read
def holders(request: HttpRequest, viewer: Viewer, datasource: str, relation: str) -> HttpResponse:
    return _whole(queries.holders(viewer, datasource, relation, _moment(request.GET.get("at"))))


@require_GET
@evidence_read
def datasources(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    known(request)
    asked = request.GET
    return formatted(
        request,
        queries.datasources(viewer, asked.get("q", ""), window_of(request), limit_of(request), asked.get("cursor")),
    )


def _number(request: HttpRequest, name: str) -> int:
    text = request.GET.get(name, "")
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise errors.QueryInvalid(f"{name} is a whole number")
    return int(text)


@require_GET
@log_read
def inclusion(request: HttpRequest) -> HttpResponse:
    """GET /api/v1/proof/inclusion?index=&size= (RFC 9162 section 2.1.3)."""
    size = _number(request, "size") if "size" in request.GET else None
    return HttpResponse(
        msgspec.json.encode(tree.inclusion(_number(request, "index"), size)), content_type="application/json"
    )


@require_GET
@log_read
def consistency(request: HttpRequest) -> HttpResponse:
    """GET /api/v1/proof/consistency?from=&to= (RFC 9162 section 2.1.4)."""
    return HttpResponse(
        msgspec.json.encode(tree.consistency(_number(request, "from"), _number(request, "to"))),
        content_type="application/json",
    )


@csrf_exempt
@require_POST
def cosignature(request: HttpRequest) -> HttpResponse:
    """POST /api/v1/cosignature?size=: the line by which a witness that we cannot reach cosigned that checkpoint.

    Any viewer may bring it: only a line that a witness of the policy made is kept.
    """
    request.viewer = viewer = access.viewer_for(request)  # type: ignore[attr-defined]
    size = _number(request, "size")
    name = witnesses.bring(size, read_body(request)[:LINES_MOST].decode("utf-8", "replace"))
    ledger.record_decision(
        "evidence_read", decided_by=viewer.email, subject=request.path, transition=f"cosigned by {name}"
    )
    return JsonResponse({"size": size, "witness": name})


@csrf_exempt
@require_POST
def connect(request: HttpRequest) -> HttpResponse:
    """POST /api/v1/connect: a short-lived token for a database behind a gateway (docs/connect.md)."""
    viewer = access.viewer_for(request)
    try:
        given = msgspec.json.decode(read_body(request))
    except msgspec.DecodeError:
        # It is refused, and that recorded, as what it is: nothing that can be understood.
        given = None
    issued = connecting.issue(viewer, given)
    place = issued.place
    answer = JsonResponse(
        {
            "token": issued.token, "expires_at": issued.expires_at, "database": place.name, "datasource": place.datasource,
            "environment": place.environment, "host": place.host, "port": place.port, "user": issued.user,
            "lines": connection_lines.lines(place.host, place.port, place.name, issued.user),
        }
    )  # fmt: skip
    answer["Cache-Control"] = "private, no-store"
    return answer


@require_GET
def gateway_keys(request: HttpRequest) -> HttpResponse:
    """GET /api/v1/gateway/keys: the public keys of gateway tokens (JWK set). Public by nature."""
    return JsonResponse(connecting.jwks())
