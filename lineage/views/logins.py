"""Whose login is whose: what holds, what held, and for some a form to say so."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from lineage import errors, mappings, queries, words
from lineage.access import Viewer
from lineage.answers import evidence_read
from lineage.mappings import Person
from lineage.views import frame


@require_http_methods(["GET", "POST"])
@evidence_read
def logins(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """Mappings in the viewer's scope with their history; a POST says whose a login is from now on, or that it is nobody's."""
    if request.method == "POST":
        told = {
            name: request.POST.get(name, "").strip()
            for name in ("datasource", "db_user", "person", "name", "email", "owner")
        }
        ends = request.POST.get("end") == "1"
        if not ends and not told["person"]:
            raise errors.MappingInvalid("Name the person, service or agent whose login it is. Nothing was changed.")
        kind = request.POST.get("type") or "human"
        person = (
            Person(mappings.NOBODY)
            if ends
            else Person(told["person"], told["name"], told["email"], kind, told["owner"])
        )
        from_at = _moment(request.POST.get("from", ""))
        mappings.establish(viewer, told["datasource"], told["db_user"], person, from_at, request.POST.get("reason", ""))
        return redirect(request.get_full_path())
    now = timezone.now()
    rows = queries.logins(viewer, request.GET.get("datasource", ""), request.GET.get("login", ""))
    held = [
        row
        for row in rows
        if row["person_id"] and row["from_at"] <= now and (row["to_at"] is None or row["to_at"] > now)
    ]
    context: dict[str, Any] = {
        "title": f"{words.counted(len(held), 'login')} {'is' if len(held) == 1 else 'are'} known to be somebody's",
        "rows": [{**row, "holds": row in held} for row in rows],
        "history": queries.login_history(viewer),
        "may": mappings.may(viewer),
        "types": mappings.TYPES,
        "asked": {"datasource": request.GET.get("datasource", ""), "login": request.GET.get("login", "")},
    }
    return frame.page(request, "lineage/logins.html", context)


def _moment(text: str) -> dt.datetime | None:
    """A time as a form's field gives it (UTC); none where it is empty. Raises MappingInvalid."""
    if not text.strip():
        return None
    try:
        return dt.datetime.fromisoformat(text.strip()).replace(tzinfo=dt.UTC)
    except ValueError as error:
        raise errors.MappingInvalid("Write the time as 2026-11-21T09:30, in UTC. Nothing was changed.") from error
