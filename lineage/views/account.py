"""Signing in and out, and the page of one's own seat."""

from __future__ import annotations

from django.conf import settings
from django.contrib import auth
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from lineage import api_tokens, errors, openid, queries, seats
from lineage import sign_in as signing
from lineage.access import Viewer
from lineage.answers import for_members, signed_in
from lineage.models import Role, User
from lineage.views import frame
from lineage.views.access import TOKEN_DAYS, in_person, wanted_token

BACKEND = "django.contrib.auth.backends.ModelBackend"


@sensitive_post_parameters()
@never_cache
def sign_in(request: HttpRequest) -> HttpResponse:
    """The sign-in form; afterwards the page that was asked for, if it is one of ours."""
    following = _following(request, request.POST.get("next") or request.GET.get("next"))
    email, refused = request.POST.get("username", ""), None
    if request.method == "POST":
        try:
            user = signing.by_password(request, email, request.POST.get("password", ""))
        except (errors.TokenInvalid, errors.SignInPutOff) as error:
            return _form(request, following, error, email, error.status)
        return _entered(request, user, following, {"by": "password"})
    if request.GET.get("why") == errors.SeatEnded.code:
        refused = errors.SeatEnded("")
    return _form(request, following, refused, email)


@require_GET
@never_cache
def openid_start(request: HttpRequest) -> HttpResponse:
    """Leads to the provider. By a link, since Chrome holds `form-action` against where a form's answer leads."""
    if not settings.OPENID.is_on:
        raise Http404
    following = _following(request, request.GET.get("next"))
    try:
        return openid.start(request, following)
    except errors.ProviderUnavailable as error:
        return _form(request, following, error, status=error.status)


@require_GET
@never_cache
def openid_callback(request: HttpRequest) -> HttpResponse:
    """Where the provider sends people back to."""
    if not settings.OPENID.is_on:
        raise Http404
    try:
        user, following, known = openid.finish(request)
    except (errors.TokenInvalid, errors.SignInPutOff, errors.ProviderUnavailable) as error:
        return _form(request, "/", error, status=error.status)
    return _entered(request, user, _following(request, following), known)


def _following(request: HttpRequest, wanted: str | None) -> str:
    """The page that was asked for, if it is one of ours."""
    host = request.get_host()
    is_ours = wanted and url_has_allowed_host_and_scheme(wanted, {host}, require_https=request.is_secure())
    return wanted if wanted and is_ours else "/"


def _entered(request: HttpRequest, user: User, following: str, known: dict[str, str]) -> HttpResponse:
    auth.login(request, user, backend=BACKEND)
    signing.keep(request, known)
    return redirect("connect" if following == "/" and user.role == Role.MEMBER else following)


def _form(
    request: HttpRequest, following: str, refused: errors.TouchstoneError | None, email: str = "", status: int = 200
) -> HttpResponse:
    provider = settings.OPENID.name if settings.OPENID.is_on else ""
    context = {"refused": refused, "email": email, "next": following, "provider": provider}
    answer = render(request, "account/login.html", context, status=status)
    if isinstance(refused, errors.SignInPutOff):
        answer["Retry-After"] = str(refused.seconds)
    return answer


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    auth.logout(request)
    return redirect("login")


@require_http_methods(["GET", "POST"])
@signed_in
@for_members
@in_person
@sensitive_variables("secret", "context")
def account(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """Your own seat: role and scope in words, your tokens and password, and what you read lately."""
    user = User.objects.get(email=viewer.email)
    secret = _changed(request, viewer, user) if request.method == "POST" else ""
    if request.method == "POST" and not secret:
        return redirect("account")
    context = {
        "secret": secret,
        "tokens": api_tokens.own(viewer),
        "has_password": user.has_usable_password(),
        "reads": queries.own_reads(viewer),
        "days": TOKEN_DAYS,
        "title": f"Your seat: {viewer.label}",
    }
    return frame.page(request, "access/account.html", context)


def _changed(request: HttpRequest, viewer: Viewer, user: User) -> str:
    """Does what one of the page's forms asks for; a secret where one was made."""
    if request.POST.get("do") == "token":
        return api_tokens.make(viewer, user, wanted_token(request.POST))
    if request.POST.get("do") != "password":
        raise errors.QueryInvalid("Send one of the forms of this page.")
    seats.set_own_password(user, request.POST.get("old", ""), request.POST.get("new", ""))
    auth.update_session_auth_hash(request, user)
    return ""
