"""`/api/v1/reports`: the list, and a report asked for by API token."""

from __future__ import annotations

import msgspec
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from lineage import access, api, errors
from reports import requests, tasks
from reports.evidence import Request
from reports.views import listing


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """What the body holds; times as on the page, empty scope is everything that the token's owner may see."""

    kind: str
    from_: str = msgspec.field(name="from")
    to: str
    environment: str = ""
    datasources: tuple[str, ...] = ()
    q: str = ""
    draft: bool = False
    engagement: str = ""
    sample: str = ""
    control: str = ""
    framework: str = ""


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def reports(request: HttpRequest) -> HttpResponseBase:
    """The list; posted to, a report is queued, by API token alone: a browser's session asks on the page."""
    return _ask(request) if request.method == "POST" else listing(request)


def _ask(request: HttpRequest) -> HttpResponse:
    request.viewer = viewer = access.viewer_of_token(access.bearer(request) or "")  # type: ignore[attr-defined]
    try:
        wanted = msgspec.json.decode(api.read_body(request), type=Wanted)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise errors.BodyUnreadable(
            "Send a JSON object with kind, from and to, and what narrows it. Nothing was asked for."
        ) from error
    asked = Request(
        wanted.kind,
        requests.moment(wanted.from_, "from"),
        requests.moment(wanted.to, "to"),
        wanted.environment,
        wanted.datasources,
        wanted.q,
        wanted.draft,
        wanted.engagement,
        sample=wanted.sample,
        control=wanted.control,
        framework=wanted.framework,
    )
    report = requests.ask(viewer, asked)
    tasks.enqueue(report.pk)
    told = {"id": report.pk, "number": report.number, "status": report.status}
    return HttpResponse(msgspec.json.encode(told), content_type="application/json", status=202)
