"""The guardrails: what holds, who set it and why, and what another text would have said to what was recorded."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from lineage import errors, profiles, queries, rule_words, words
from lineage.access import Viewer
from lineage.answers import evidence_read, signed_in
from lineage.guardrails import Guardrails
from lineage.profiles import Version
from lineage.views import frame


def told(rules: Guardrails) -> list[dict[str, Any]]:
    """Each rule with its sentence."""
    return [{"rule": rule, "sentence": rule_words.sentence(rule)} for rule in rules.rules]


def history(versions: list[Version]) -> list[dict[str, Any]]:
    """Versions, newest first, each with its difference to the one before."""
    before = [*versions[1:], None]
    return [
        {
            "one": one,
            "before": old.number if old else None,
            "difference": profiles.difference(old, one.text) if old else "",
        }
        for one, old in zip(versions, before, strict=True)
    ]


@require_GET
@evidence_read
def guardrails(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    versions = profiles.versions()
    newest = versions[0]
    rules = newest.rules
    context = {
        "newest": newest,
        "rules": told(rules),
        "history": history(versions),
        "gateways": profiles.held(viewer),
        "may": profiles.may(viewer),
        "title": f"{words.counted(len(rules.rules), 'guardrail')} hold, version {newest.number}",
    }
    return frame.page(request, "lineage/guardrails.html", context)


@require_GET
@evidence_read
def guardrail_version(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    versions = profiles.versions()
    one = profiles.one(number)
    before = next((version for version in versions if version.number < number), None)
    holds = "holds" if number == versions[0].number else "does not hold any more"
    context = {
        "one": one,
        "rules": told(one.rules),
        "difference": profiles.difference(before, one.text) if before else "",
        "before": before,
        "title": f"Version {number} of the guardrails {holds}",
    }
    return frame.page(request, "lineage/guardrail_version.html", context)


@evidence_read
def guardrails_try(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """A text tried on the records of a time; without one the form, with what holds in it. What is tried is kept nowhere."""
    newest = profiles.newest()
    text = _given(request) or newest.text
    given = {name: request.POST.get(name, "").strip() for name in ("from", "to", "q")}
    context: dict[str, Any] = {
        "newest": newest, "text": text, "asked": given | {"from": given["from"] or "7d"}, "may": profiles.may(viewer),
        "title": "Try guardrails on what was recorded",
    }  # fmt: skip
    status = 200
    if request.method == "POST":
        try:
            context |= _tried(viewer, text, given, newest, frame.window(request).environment)
        except (errors.GuardrailsInvalid, errors.QueryInvalid) as fault:
            context |= {"fault": fault, "title": "This cannot be tried"}
            status = fault.status
    answer = frame.page(request, "lineage/guardrails_try.html", context)
    answer.status_code = status
    return answer


def _given(request: HttpRequest) -> str:
    """The text in the form, or of the file that was uploaded with it. Raises GuardrailsInvalid."""
    upload = request.FILES.get("file")
    if upload is None:
        return request.POST.get("text", "").replace("\r\n", "\n")
    raw = upload.read(profiles.TEXT_MOST + 1)
    try:
        return str(raw.decode().replace("\r\n", "\n"))
    except UnicodeDecodeError as error:
        raise errors.GuardrailsInvalid("The file is not text in UTF-8. Nothing was tried.") from error


def _tried(
    viewer: Viewer, text: str, given: dict[str, str], newest: Version, environment: str | None
) -> dict[str, Any]:
    now = timezone.now()
    window = queries.between(frame.moment(given["from"] or "7d", now), frame.moment(given["to"], now), environment)
    rules = profiles.load(text, newest.number + 1)
    trial = queries.dry_run(viewer, rules, newest.rules, given["q"], window)
    graver = sum(shift.count for shift in trial.from_current if shift.is_graver)
    changes = words.counted(graver, "statement") if trial.judged else "no statement"
    return {
        "trial": trial,
        "coverage": trial.coverage,
        "difference": profiles.difference(newest, text),
        "outcomes": rule_words.OUTCOMES,
        "title": f"It would newly stop, hold, cut or mask {changes} of {words.number(trial.judged)}",
        "simulated": frame.may_show_simulated(window, trial.coverage),
    }


@require_POST
@signed_in
def guardrails_set(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    made = profiles.establish(viewer, _given(request), request.POST.get("reason", ""))
    return redirect("guardrail-version", number=made.number)
