"""POST /api/v1/ingest/<format>: what feeds send. Rules live elsewhere; here is only HTTP (docs/collector-protocol.md)."""

from __future__ import annotations

from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse, QueryDict
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from lineage import access, backlog, errors, gathering, ingest, receipts, sources
from lineage.api import read_body
from lineage.models import Source

FEED = "application/vnd.touchstone.feed+json"
STATUSES = ("accepted", "duplicate", "conflict", "quarantined", "skipped")
ATTEMPTS = 3
line = gathering.Gathering()
_pressure = backlog.Pressure()


@csrf_exempt
@require_POST
def ingest_batch(request: HttpRequest, format_name: str) -> HttpResponse:
    """200 when every item is durably answered for; 429 while too many records wait to be sealed."""
    if format_name not in sources.FORMATS:
        raise errors.FormatUnknown(formats=", ".join(sources.FORMATS))
    for attempt in range(ATTEMPTS):
        source, version = access.feed_for(request, anew=attempt > 0)
        if source.format != format_name:
            if not attempt:
                continue
            raise errors.AccessDenied(f"This token is for the format {source.format}.")
        _pressure.check(source)
        try:
            accepted = _append(request, source, version)
        except errors.SourceChanged:
            continue
        except errors.BacklogFull:
            _pressure.note(source)
            raise
        except errors.TouchstoneError:
            # Who is told what is wrong with a body holds a token that stands.
            access.feed_for(request, anew=True)
            raise
        counts = accepted.counts()
        answer: dict[str, Any] = {name: counts.get(name, 0) for name in STATUSES}
        answer |= {"items": accepted.items, "receipt": receipts.sign(accepted.promises)}
        return HttpResponse(msgspec.json.encode(answer), content_type="application/json")
    raise errors.StoreUnavailable


def _append(request: HttpRequest, source: Source, version: str) -> ingest.Accepted:
    options: dict[str, Any] = {"feed": request.content_type == FEED}
    said = request.GET if request.META.get("QUERY_STRING") else QueryDict()
    options |= {name: said[name] for name in ("line_prefix", "timezone", "unavailable") if name in said}
    options["key"] = said.getlist("key")
    read = ingest.admitted(source, read_body(request), strict=said.get("strict") == "1", **options)
    return read.answer(line.append(read.batch(source, version)))
