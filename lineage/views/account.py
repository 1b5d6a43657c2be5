"""Signing in and out."""

from __future__ import annotations

from django.contrib import auth
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from lineage import errors
from lineage import sign_in as signing
from lineage.models import Role

BACKEND = "django.contrib.auth.backends.ModelBackend"


@sensitive_post_parameters()
@never_cache
def sign_in(request: HttpRequest) -> HttpResponse:
    """The sign-in form; afterwards the page that was asked for, if it is one of ours."""
    following = request.POST.get("next") or request.GET.get("next") or "/"
    if not url_has_allowed_host_and_scheme(following, {request.get_host()}, require_https=request.is_secure()):
        following = "/"
    email, refused = request.POST.get("username", ""), None
    if request.method == "POST":
        try:
            user = signing.by_password(request, email, request.POST.get("password", ""))
        except (errors.TokenInvalid, errors.SignInPutOff) as error:
            refused = error
        else:
            auth.login(request, user, backend=BACKEND)
            return redirect("connect" if following == "/" and user.role == Role.MEMBER else following)
    elif request.GET.get("why") == errors.SeatEnded.code:
        refused = errors.SeatEnded("")
    context = {"refused": refused, "email": email, "next": following}
    status = refused.status if refused and request.method == "POST" else 200
    answer = render(request, "account/login.html", context, status=status)
    if isinstance(refused, errors.SignInPutOff):
        answer["Retry-After"] = str(refused.seconds)
    return answer


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    auth.logout(request)
    return redirect("login")
