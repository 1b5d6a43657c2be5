"""Access: who is let in, their tokens, and the sources that may send. Secrets are shown once, on the answer to a form."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from lineage import access, api_tokens, errors, feeds, seats, sources, words
from lineage.access import Viewer
from lineage.answers import signed_in
from lineage.models import ApiToken, Role, Source, User
from lineage.views import frame
from lineage.views.names import lines

View = Callable[..., HttpResponse]
STATES = {"open": "open", "ended": "has ended", "closed": "closed"}
TOKEN_DAYS = 90


def in_person(view: View) -> View:
    """Under `signed_in`: an API token opens none of these pages, so that a narrow one cannot make a wider one."""

    @functools.wraps(view)
    def wrapped(request: HttpRequest, viewer: Viewer, *args: Any, **kwargs: Any) -> HttpResponse:
        if access.bearer(request):
            raise errors.AccessDenied(
                "Sign in as a person: an API token gives no access to others. The refusal is recorded."
            )
        return view(request, viewer, *args, **kwargs)

    return wrapped


def state_of(user: User) -> str:
    return "open" if access.is_open(user) else "ended" if user.is_active else "closed"


def _row(user: User) -> dict[str, Any]:
    return {"user": user, "viewer": access.viewer_of(user), "state": state_of(user), "word": STATES[state_of(user)]}


def wanted_seat(given: QueryDict) -> seats.Wanted:
    """How the form says a seat shall be. Raises QueryInvalid for a time that cannot be read."""
    now = timezone.now()
    times = {name: frame.moment(given.get(name, "").strip(), now) for name in ("from_at", "until_at", "ends_at")}
    scopes = {name: lines(given, name) for name in ("datasources", "environments", "groups")}
    return seats.Wanted(
        role=given.get("role", ""), datasources=scopes["datasources"], environments=scopes["environments"],
        groups=scopes["groups"], from_at=times["from_at"], until_at=times["until_at"], ends_at=times["ends_at"],
    )  # fmt: skip


@require_http_methods(["GET", "POST"])
@signed_in
@in_person
@sensitive_variables("secret", "context")
def seats_page(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """All seats, and the form for another one; what lets a new one in is shown once."""
    if feeds.may_look(viewer) and not seats.may(viewer) and request.method == "GET":
        return redirect("access-sources")
    context: dict[str, Any] = {}
    if request.method == "POST":
        user, secret = seats.add(viewer, request.POST.get("email", ""), wanted_seat(request.POST))
        if user.role == Role.SERVICE:
            secret = api_tokens.make(viewer, user, api_tokens.Wanted(name="first"))
        context = {"made": user, "secret": secret}
    rows = [_row(user) for user in seats.listed(viewer)]
    open_ = sum(row["state"] == "open" for row in rows)
    context |= {
        "rows": rows,
        "roles": Role.choices,
        "title": f"{words.counted(open_, 'seat')} {'is' if open_ == 1 else 'are'} open",
    }
    return frame.page(request, "access/people.html", context)


@require_http_methods(["GET", "POST"])
@signed_in
@in_person
@sensitive_variables("secret", "context")
def seat_page(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    """One seat: its role, scope and end, with the forms that change it."""
    user = seats.one(viewer, number)
    secret = _changed(viewer, user, request.POST) if request.method == "POST" else ""
    if request.method == "POST" and not secret:
        return redirect("access-seat", number=number)
    tokens = api_tokens.listed(viewer).filter(user=user)
    context = _row(user) | {
        "secret": secret, "tokens": tokens, "roles": Role.choices, "is_own": user.email == viewer.email,
        "title": f"{user.email}: {Role(user.role).label}, {STATES[state_of(user)]}",
    }  # fmt: skip
    # The frame shows who looks; the page shows whose seat it is.
    context["of"] = context.pop("viewer")
    return frame.page(request, "access/seat.html", context)


def _changed(viewer: Viewer, user: User, given: QueryDict) -> str:
    """Does what the form asks for; a secret where one was made."""
    match given.get("do"):
        case "change":
            seats.change(viewer, user, wanted_seat(given))
        case "close":
            seats.close(viewer, user)
        case "reopen":
            seats.reopen(viewer, user)
        case "password":
            return seats.reset_password(viewer, user)
        case "token":
            return api_tokens.make(viewer, user, wanted_token(given))
        case _:
            raise errors.QueryInvalid("Send one of the forms of this page.")
    return ""


def wanted_token(given: QueryDict) -> api_tokens.Wanted:
    """How the form says a token shall be; it ends after 90 days unless another time is given."""
    now = timezone.now()
    times = {name: frame.moment(given.get(name, "").strip(), now) for name in ("from_at", "until_at")}
    days = given.get("days", "").strip() or str(TOKEN_DAYS)
    if not (days.isascii() and days.isdigit() and 0 < int(days[:6]) <= api_tokens.MOST_DAYS):
        raise errors.QueryInvalid(f"A token lasts from 1 to {api_tokens.MOST_DAYS} days.", days="number")
    return api_tokens.Wanted(
        name=given.get("name", ""), datasources=lines(given, "datasources"), environments=lines(given, "environments"),
        from_at=times["from_at"], until_at=times["until_at"], expires_at=now + dt.timedelta(days=int(days)),
    )  # fmt: skip


@require_GET
@signed_in
@in_person
def tokens_page(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """Everybody's API tokens that were not revoked."""
    found = list(api_tokens.listed(viewer))
    title = f"{words.counted(len(found), 'API token')} not revoked"
    return frame.page(request, "access/tokens.html", {"tokens": found, "title": title, "now": timezone.now()})


@require_POST
@signed_in
@in_person
def token_revoke(request: HttpRequest, viewer: Viewer, number: int) -> HttpResponse:
    """Revokes a token: of oneself, or of anybody by an administrator."""
    is_own = ApiToken.objects.filter(pk=number, user__email=viewer.email).exists()
    api_tokens.revoke(viewer, number)
    return redirect("account" if is_own else "access-tokens")


@require_http_methods(["GET", "POST"])
@signed_in
@in_person
@sensitive_variables("secret", "context")
def sources_page(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """The sources in scope; for administrators the forms that add and revoke one."""
    context: dict[str, Any] = {}
    if request.method == "POST":
        given = request.POST
        if given.get("do") == "revoke":
            feeds.revoke(viewer, given.get("name", ""))
            return redirect("access-sources")
        wanted = feeds.Wanted(
            name=given.get("name", "").strip(), format=given.get("format", ""), datasource=given.get("datasource", "").strip(),
            environment=given.get("environment", "").strip() or "default", asserts=tuple(given.getlist("asserts")),
            context_roles=lines(given, "context_roles"),
        )  # fmt: skip
        context = {"secret": feeds.add(viewer, wanted), "made": wanted}
    found: list[Source] = list(feeds.listed(viewer))
    active = sum(source.revoked_at is None for source in found)
    context |= {
        "sources": found, "formats": sources.FORMATS, "assertions": feeds.ASSERTIONS, "may": seats.may(viewer),
        "title": f"{words.counted(active, 'source')} may send",
    }  # fmt: skip
    return frame.page(request, "access/sources.html", context)
