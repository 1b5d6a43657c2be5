"""GET and POST /api/v1/guardrails: what holds, and another text that shall hold from now on (docs/guardrails.md)."""

from __future__ import annotations

from typing import Any

import msgspec
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from lineage import access, errors, profiles, rule_words
from lineage.access import Viewer
from lineage.answers import evidence_read
from lineage.api import read_body
from lineage.profiles import Version


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    reason: str = ""


@csrf_exempt
@require_http_methods(["GET", "POST"])
def guardrails(request: HttpRequest) -> HttpResponseBase:
    return _establish(request) if request.method == "POST" else _show(request)


@evidence_read
def _show(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    versions = profiles.versions()
    rules = [
        msgspec.to_builtins(rule) | {"sentence": rule_words.sentence(rule)} for rule in versions[0].rules.rules
    ]  # fmt: skip
    answer = {
        "current": _told(versions[0]) | {"text": versions[0].text, "rules": rules},
        "versions": [_told(version) for version in versions],
    }
    return HttpResponse(msgspec.json.encode(answer), content_type="application/json")


def _establish(request: HttpRequest) -> HttpResponse:
    """By API token alone: a browser's session sets guardrails on the page, whose form is protected."""
    request.viewer = viewer = access.viewer_of_token(access.bearer(request) or "")  # type: ignore[attr-defined]
    try:
        wanted = msgspec.json.decode(read_body(request), type=Wanted)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise errors.BodyUnreadable("Send a JSON object with text (TOML) and reason. Nothing was set.") from error
    made = profiles.establish(viewer, wanted.text, wanted.reason)
    return HttpResponse(msgspec.json.encode(_told(made)), content_type="application/json", status=201)


def _told(one: Version) -> dict[str, Any]:
    return {"version": one.number, "digest": one.digest, "by": one.by, "reason": one.reason, "at": one.at}
