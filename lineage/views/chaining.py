"""The lineage of a record, a ticket, a session or a row: one picture from request to rows, with how each step is joined."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

from lineage import chains, citations, queries, words
from lineage.access import Viewer
from lineage.answers import evidence_read
from lineage.views import frame

CITED_MOST = 20


@require_GET
@evidence_read
def record_chain(request: HttpRequest, viewer: Viewer, index: int) -> HttpResponse:
    found = queries.chain(viewer, "record", str(index))
    return _page(request, viewer, found, f"record {words.number(index)}", "event", (index,))


@require_GET
@evidence_read
def ticket_chain(request: HttpRequest, viewer: Viewer, ticket: str) -> HttpResponse:
    return _page(request, viewer, queries.chain(viewer, "ticket", ticket), ticket, "ticket", (ticket,))


@require_GET
@evidence_read
def session_chain(request: HttpRequest, viewer: Viewer, key: str) -> HttpResponse:
    return _page(request, viewer, queries.chain(viewer, "session", key), f"session {key}", "session", (key,))


@require_GET
@evidence_read
def row_chain(request: HttpRequest, viewer: Viewer, datasource: str, relation: str, key: str) -> HttpResponse:
    found = queries.chain(viewer, "row", datasource, relation, key)
    return _page(request, viewer, found, f"{relation} {key}", "row", (datasource, relation, key))


def _page(
    request: HttpRequest, viewer: Viewer, found: dict[str, Any], name: str, kind: str, of: tuple[Any, ...]
) -> HttpResponse:
    chain = chains.build(found)
    imported = queries.tickets(viewer, found["cited"])
    context = {
        "found": found, "chain": chain, "picture": chains.drawn(chain), "strengths": chains.STRENGTHS, "name": name,
        "kind": kind, "of": of, "title": title(chain, name), "steps": list(zip(chains.COLUMNS, chain.columns, strict=True)),
        "seen": len(found["acts"]),
        "imported": imported,
        "cited": cited(found, imported),
        "simulated": frame.shows_simulated(queries.Window(), found["acts"]),
    }  # fmt: skip
    return frame.page(request, "lineage/chain.html", context)


def cited(found: dict[str, Any], imported: dict[str, list[citations.Version]]) -> list[dict[str, Any]]:
    """The tickets that acts and decisions name, with what is imported of each, newest first; at most 20."""
    times: dict[str, list[dt.datetime]] = {}
    for act in found["acts"]:
        if act["ticket"]:
            times.setdefault(act["ticket"], []).append(act["occurred_at"])
    for name in imported:
        times.setdefault(name, [])
    return [_cited(name, at, imported.get(name, [])) for name, at in list(times.items())[:CITED_MOST]]


def _cited(name: str, times: list[dt.datetime], versions: list[citations.Version]) -> dict[str, Any]:
    first, last = min(times, default=None), max(times, default=None)
    meaning = (
        citations.judge(name, versions, first, last).meaning if first and last else "No act under it is in your scope."
    )
    address = versions[-1].url if versions and citations.is_address(versions[-1].url) else ""
    newest_first = versions[::-1]
    return {
        "ticket": name,
        "first_at": first,
        "last_at": last,
        "meaning": meaning,
        "versions": newest_first,
        "address": address,
    }


def title(chain: chains.Chain, name: str) -> str:
    """What leads to what, and the weakest thing that is known about it."""
    requests = [node.title for node in chain.columns[0].values() if node.known]
    approved = [node.title for node in chain.columns[1].values() if node.known]
    intent = words.listed(requests[:2]) if requests else "no known request"
    leave = f", {approved[0][:1].lower()}{approved[0][1:]}" if approved else ", not approved" if requests else ""
    return f"{name[:1].upper()}{name[1:]}: from {intent}{leave}" if name not in requests else f"{name}{leave}"
