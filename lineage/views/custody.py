"""Below Integrity: checkpoints, gaps, quarantined items and reading them again, and checks of the log on request."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_POST

from lineage import errors, quarantine, queries, rechecks, words
from lineage.access import Viewer
from lineage.answers import evidence_read, signed_in
from lineage.views import frame

SHOWN_BYTES = 64 * 1024
CHECKS = {
    "waiting": "waits for its turn", "running": "is under way", "held": "found everything as it was signed",
    "failed": "found a fault", "cancelled": "was cancelled",
}  # fmt: skip


@require_GET
@signed_in
def checkpoints(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    answer = queries.checkpoints(viewer, frame.limit(request), request.GET.get("cursor"))
    title = f"{words.counted(answer['total'], 'checkpoint')} signed"
    return frame.page(request, "lineage/checkpoints.html", {"answer": answer, "title": title})


@require_GET
@signed_in
def checkpoint(request: HttpRequest, viewer: Viewer, size: int) -> HttpResponse:
    """One checkpoint as it was signed. It names nobody, so that reading it is not recorded."""
    one = queries.checkpoint(viewer, size)
    return frame.page(
        request, "lineage/checkpoint.html", {"one": one, "title": f"Checkpoint of {words.counted(size, 'record')}"}
    )


@require_GET
@evidence_read
def gaps(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """When which source was not complete."""
    window = frame.window(request)
    found = queries.gaps(viewer, window)
    lasting = sum(1 for span in found["spans"] if span["lasts"])
    sources = len({span["source"] for span in found["spans"]})
    title = f"No gap {frame.period(request)}"
    if found["spans"]:
        last = f", {lasting} of them still open" if lasting else ""
        title = f"{words.counted(len(found['spans']), 'gap')} in {words.counted(sources, 'source')} {frame.period(request)}{last}"
    context = found | {"title": title, "simulated": frame.may_show_simulated(window, found["coverage"])}
    return frame.page(request, "lineage/gaps.html", context)


@require_GET
@evidence_read
def quarantined(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """Items that could not be read: why, from whom, and what became of them. Their bytes are on the page of each."""
    source, waiting = request.GET.get("source", ""), request.GET.get("waiting") == "1"
    answer = queries.quarantined(viewer, source, waiting, frame.limit(request), request.GET.get("cursor"))
    left = sum(each["waiting"] for each in answer["sources"])
    title = f"{words.counted(left, 'item')} could not be read" if left else "Nothing in your scope waits in quarantine"
    context = {"answer": answer, "source": source, "waiting": waiting, "title": title}
    return frame.page(request, "lineage/quarantine.html", context)


@require_GET
@evidence_read
def quarantined_item(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    return _item(request, viewer, number)


def _item(request: HttpRequest, viewer: Viewer, number: int, tried: quarantine.Retried | None = None) -> HttpResponse:
    item = queries.quarantined_item(viewer, number)
    context = {
        "item": item,
        "tried": tried,
        "shown": visible(item["body"]) if item["body"] is not None else None,
        "cut": (item["body"] is not None and len(item["body"]) > SHOWN_BYTES),
        "may_retry": quarantine.may_retry(viewer) and not item["retried"] and item["bytes"],
        "takes_prefix": item["format"] == "postgres-stderr",
        "title": f"Item {number} of {item['source']} {'was read again' if item['retried'] else 'could not be read'}",
    }
    return frame.page(request, "lineage/quarantine_item.html", context)


def visible(body: bytes) -> str:
    """Bytes as text that shows what is in them: control and direction characters and what is not UTF-8 are written out."""
    text = body[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


@require_GET
@evidence_read
def quarantined_bytes(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    """The bytes as they came, to be kept as a file; never shown by a browser."""
    item = queries.quarantined_item(viewer, number)
    if item["body"] is None:
        raise errors.AccessDenied("Your role sees no row values, and the bytes of an item may hold some.")
    answer = HttpResponse(item["body"], content_type="application/octet-stream")
    answer["Content-Disposition"] = f'attachment; filename="quarantine-{number}.bin"'
    answer["X-Content-Type-Options"] = "nosniff"
    answer["Cache-Control"] = "private, no-store"
    return answer


@require_POST
@evidence_read
def quarantine_retry(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    """Reads an item again. What still cannot be read is shown with the reason of today, and nothing is stored."""
    options = {name: request.POST.get(name, "").strip() for name in quarantine.OPTIONS}
    done = quarantine.retry(viewer, number, **options)
    if done.status != "quarantined":
        return redirect("quarantine-item", number=number)
    answer = _item(request, viewer, number, done)
    answer.status_code = 422
    return answer


@require_POST
@signed_in
def recheck_ask(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    return redirect("recheck", number=rechecks.ask(viewer))


@require_GET
@signed_in
def recheck(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    """A check and how far it is. It looks at hashes alone, so that reading it is not recorded."""
    return frame.page(request, "lineage/recheck.html", _check(viewer, number))


@require_GET
@signed_in
def recheck_live(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    return frame.page(request, "lineage/_recheck.html", _check(viewer, number))


def _check(viewer: Viewer, number: int) -> dict[str, Any]:
    one = rechecks.one(number)
    return {"one": one, "may_end": rechecks.may_end(viewer, one), "title": f"Check {number} {CHECKS[one.state]}"}


@require_POST
@signed_in
def recheck_cancel(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    rechecks.cancel(viewer, number)
    return redirect("recheck", number=number)
