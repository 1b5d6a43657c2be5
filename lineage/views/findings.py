"""Findings: the list, one of them with its triage and proof of delivery, the rules as they are set, and who is told."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from lineage import errors, queries, words
from lineage.access import Viewer
from lineage.answers import evidence_read, signed_in
from lineage.findings import receivers, ruling, triage
from lineage.findings.rules import SEVERITIES, Rule, Ruleset, Threshold
from lineage.queries.found import STATES
from lineage.views import frame
from lineage.views.names import lines

STATE_WORDS = {"open": "open", "closed": "closed", "explained": "explained since"}
MEANINGS = {
    "owner": "is its owner now", "note": "noted", "verdict": "gave the verdict", "reopen": "opened it again",
}  # fmt: skip


@require_GET
@evidence_read
def findings(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """The list; open ones where the address names no state, `state=all` for all."""
    window, asked = frame.window(request), request.GET
    state = asked.get("state", "open")
    narrowed = queries.Narrowed(
        asked.get("rule", "")[:60], asked.get("severity", "")[:10], state if state in STATES else ""
    )
    answer, facets = queries.found(
        viewer, window, frame.limit(request) or 50, asked.get("cursor"), asked.get("q", ""), narrowed
    )
    what = "open finding" if state == "open" else "finding"
    least = "" if answer.total.exact else "At least "
    context = {
        "answer": answer,
        "facets": facets,
        "chosen": {"rule": narrowed.rule, "severity": narrowed.severity, "state": state},
        "q": asked.get("q", ""),
        "may_set": ruling.may(viewer),
        "title": f"{least}{words.counted(answer.total.value, what)} {frame.period(request)}",
        "simulated": frame.shows_simulated(window, answer.items),
    }
    return frame.page(request, "lineage/findings.html", context)


@require_GET
@evidence_read
def finding(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    told = queries.finding(viewer, number)
    row = told["finding"]
    state = triage.VERDICTS.get(row["verdict"]) or STATE_WORDS[row["state"]]
    context = told | {
        "imported": queries.tickets(viewer, [row["ticket"], *(event["ticket"] for event in told["events"])]),
        "title": f"Finding {number}: {row['title']}, {state}",
        "state_word": state,
        "verdicts": triage.VERDICTS,
        "acts": MEANINGS,
        "simulated": frame.shows_simulated(frame.window(request), [row]),
    }
    return frame.page(request, "lineage/finding.html", context)


@require_POST
@signed_in
def finding_triage(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    given = {name: request.POST.get(name, "") for name in ("act", "value", "note")}
    if given["act"].startswith("verdict:"):
        given["act"], _, given["value"] = given["act"].partition(":")
    elif given["act"] in ("note", "reopen"):
        given["value"] = ""
    triage.establish(viewer, number, given["act"], given["value"], given["note"])
    return redirect("finding", number=number)


@require_http_methods(["GET", "POST"])
@evidence_read
def finding_rules(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """The rules with what they mean, how they are set, by whom and why; for some a form to set them otherwise."""
    versions = ruling.versions()
    ruleset = versions[0].ruleset
    if request.method == "POST":
        off = [rule.id for rule in ruleset.rules if not request.POST.get(f"on-{rule.id}")]
        values = {t.name: _given(t, request.POST.get(t.name, "")) for t in ruleset.thresholds}
        ruling.establish(viewer, values, off, request.POST.get("reason", ""))
        return redirect("finding-rules")
    context = {
        "ruleset": ruleset,
        "rules": [_told(rule, ruleset) for rule in ruleset.rules],
        "thresholds": [(t, _shown(ruleset.values[t.name])) for t in ruleset.thresholds],
        "versions": versions,
        "may": ruling.may(viewer),
        "title": f"{len(ruleset.on)} of {words.counted(len(ruleset.rules), 'rule')} are on, version {versions[0].number}",
    }
    return frame.page(request, "lineage/finding_rules.html", context)


def _told(rule: Rule, ruleset: Ruleset) -> dict[str, Any]:
    return {"rule": rule, "is_on": rule.id not in ruleset.off, "condition": ruleset.condition(rule)}


def _given(threshold: Threshold, text: str) -> Any:
    """A form's text as the threshold's kind of value. Raises FindingInvalid for what is no number."""
    text = text.strip()
    if isinstance(threshold.default, int):
        if not (text.isascii() and text.isdigit() and len(text) < 12):
            raise errors.FindingInvalid(
                f"“{threshold.title}” is a whole number. Nothing was changed.", field=threshold.name
            )
        return int(text)
    if isinstance(threshold.default, tuple):
        return tuple(dict.fromkeys(word for word in text.replace(",", " ").split() if word))
    return text


def _shown(value: Any) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)


@require_http_methods(["GET", "POST"])
@evidence_read
def finding_receivers(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """Who is told of what; a new secret is on the answer to the form, and never again."""
    if not ruling.may(viewer):
        raise errors.AccessDenied(
            "Receivers of findings are shown to security and administrators whose scope is everything."
        )
    context: dict[str, Any] = {}
    if request.method == "POST":
        one, secret = receivers.establish(viewer, _wanted(request), request.POST.get("reason", ""))
        context = {"changed": one, "secret": secret}
    everybody = receivers.in_scope(viewer)
    on = sum(1 for one in everybody if one.is_on)
    context |= {
        "receivers": [(one, receivers.shown_address(one)) for one in everybody],
        "kinds": receivers.KINDS,
        "severities": (*SEVERITIES, receivers.NO_FINDINGS),
        "rules": ruling.current().rules,
        "title": f"{words.counted(on, 'receiver')} {'is' if on == 1 else 'are'} told of findings",
    }
    return frame.page(request, "lineage/finding_receivers.html", context)


def _wanted(request: HttpRequest) -> dict[str, Any]:
    given = request.POST
    return {
        "name": given.get("name", "").strip(), "kind": given.get("kind", ""), "address": given.get("address", "").strip(),
        "severity": given.get("severity", ""), "rules": given.getlist("rules"),
        "environments": lines(given, "environments"), "datasources": lines(given, "datasources"),
        "is_on": bool(given.get("is_on")), "new_secret": bool(given.get("new_secret")),
    }  # fmt: skip
