"""The page Connect: a token for a database behind a gateway, shown once, with ready lines for usual clients."""

from __future__ import annotations

import re
from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods

from lineage import connecting, connection_lines, words
from lineage.access import Viewer
from lineage.answers import for_members, signed_in
from lineage.views import frame

CLIENTS = {
    "psycopg": ("psycopg", "libpq reads the token from PGPASSWORD."),
    "sqlalchemy": ("SQLAlchemy", "The driver reads the token from PGPASSWORD."),
    "jdbc": ("JDBC", "Give the token as the password property; it does not belong in the address."),
}
ABOUT_AGENT = ("id", "name", "version", "run_id", "model")


@require_http_methods(["GET", "POST"])
@signed_in
@for_members
@sensitive_variables("issued", "context")
def connect(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """The form; after it was sent, the token and the lines with it. Issuing is in the log before this answers."""
    places = connecting.databases(viewer)
    title = f"{words.counted(len(places), 'database')} open to you through a gateway"
    context: dict[str, Any] = {"places": places, "title": title if places else "No gateway has declared a database"}
    if request.method == "POST":
        issued = connecting.issue(viewer, asked(request.POST))
        lines = connection_lines.lines(issued.place.host, issued.place.port, issued.place.name, issued.user)
        context |= {
            "issued": issued,
            "shell": connection_lines.for_shell(issued.token, lines["psql"]),
            "lines": [(label, lines[name], how) for name, (label, how) in CLIENTS.items()],
            "title": f"Ready for {issued.place.name} until {issued.expires_at:%H:%M:%S} UTC",
        }
    return frame.page(request, "lineage/connect.html", context)


def asked(form: QueryDict) -> dict[str, Any]:
    """What the form says, without what was left empty; `connecting.issue` judges it."""
    said: dict[str, Any] = {name: form.get(name, "").strip() for name in ("database", "purpose", "ticket")}
    agent = {name: form.get(f"agent_{name}", "").strip() for name in ABOUT_AGENT}
    if any(agent.values()):
        said["agent"] = {name: value for name, value in agent.items() if value}
    minutes = form.get("minutes", "").strip()
    if minutes:
        said["minutes"] = int(minutes) if re.fullmatch("[0-9]{1,5}", minutes) else minutes
    return said
