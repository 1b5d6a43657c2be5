"""What machines ask without a viewer: health, metrics, the newest checkpoint, the log's key, the schema."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET

from lineage import access, errors, events, keys, notes, outside, queries, tiles, tree
from lineage.answers import evidence_read, log_read
from lineage.models import Role

PROBE = access.Viewer(email="probe", role=Role.OPERATOR)


@require_GET
def healthz(request: HttpRequest) -> HttpResponse:
    """200 while the process answers."""
    return JsonResponse({"ok": True})


@require_GET
def readyz(request: HttpRequest) -> HttpResponse:
    """200 when the store can accept, answer and sign; else 503 with what fails."""
    state = queries.integrity(PROBE)
    ready = state["state"] != "broken"
    body = {
        "ready": ready, "size": state["size"], "checkpoint": state["checkpoint_size"],
        "lag_seconds": round(state["lag_seconds"], 1), "alarms": [a["code"] for a in state["alarms"]],
    }  # fmt: skip
    return JsonResponse(body, status=200 if ready else 503)


@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text format."""
    state = queries.integrity(PROBE)
    gauges = {
        "touchstone_log_size": state["size"],
        "touchstone_checkpoint_size": state["checkpoint_size"],
        "touchstone_checkpoint_lag_seconds": state["lag_seconds"],
        "touchstone_outside_size": max((each["size"] for each in state["outside"]), default=0),
        "touchstone_sealed_to": state["sealed_to"],
        "touchstone_quarantined_total": state["quarantined"],
        "touchstone_conflicts_total": state["conflicts"],
        "touchstone_backlog": state["size"] - state["sealed_to"],
        "touchstone_unextracted": max(0, state["sealed_to"] - state["extracted_to"]),
        "touchstone_unjudged": max(0, state["size"] - state["judged_to"]),
        "touchstone_put_off_total": state["put_off"],
        "touchstone_alarms": len(state["alarms"]),
    }
    lines = [f"# TYPE {name} gauge\n{name} {value}" for name, value in gauges.items()]
    return HttpResponse("\n".join(lines) + "\n", content_type="text/plain; version=0.0.4")


@require_GET
@log_read
def checkpoint(request: HttpRequest) -> HttpResponse:
    """The newest signed checkpoint with all known cosignatures (C2SP tlog-checkpoint); `?witnessed=1` the newest that
    has one. Who fetched it from outside is remembered.
    """
    note = outside.witnessed_note() if request.GET.get("witnessed") == "1" else tree.newest_note()
    with contextlib.suppress(errors.TokenInvalid):
        viewer = access.viewer_for(request)
        if viewer.role in (Role.AUDITOR, Role.WITNESS):
            outside.note_pull(notes.parse_checkpoint(notes.read_note(note.encode()).text).size, viewer.email)
    return HttpResponse(note, content_type="text/plain; charset=utf-8")


@require_GET
@log_read
def tile(request: HttpRequest, name: str) -> HttpResponse:
    """One tile of hashes (C2SP tlog-tiles)."""
    asked = tiles.parse(name)
    answer = HttpResponse(tiles.read(asked), content_type="application/octet-stream")
    if asked.width == tiles.WIDTH:
        answer["Cache-Control"] = "private, max-age=31536000, immutable"
    return answer


@require_GET
@evidence_read
def entries(request: HttpRequest, viewer: access.Viewer, name: str) -> HttpResponse:
    """The records under one tile of leaf hashes: for viewers of everything, since headers name times and sources."""
    if viewer.is_narrowed:
        raise errors.AccessDenied(f"Your scope is {viewer.label}; a bundle of records reaches beyond it.")
    return HttpResponse(tiles.read(tiles.parse(f"entries/{name}")), content_type="application/octet-stream")


@require_GET
def log_key(request: HttpRequest) -> HttpResponse:
    """The checkpoint key as a C2SP vkey line. Public by nature."""
    return HttpResponse(keys.vkey("checkpoint") + "\n", content_type="text/plain; charset=utf-8")


def _component_schemas() -> dict[str, Any]:
    (reference,), components = msgspec.json.schema_components(
        [events.Event], ref_template="#/components/schemas/{name}"
    )
    del reference
    return components


@require_GET
def schema(request: HttpRequest) -> HttpResponse:
    """OpenAPI 3.1 with the event model as components."""
    from lineage.openapi import document

    return JsonResponse(document(_component_schemas()))
