"""How a reader wants pages shown: the zone of times, kept in a cookie of the reader's browser and nowhere else."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods

from lineage import errors, toasts, zones
from lineage.access import Viewer
from lineage.answers import for_members, signed_in
from lineage.views import frame

COOKIE_SECONDS = 365 * 24 * 3600


@require_http_methods(["GET", "POST"])
@signed_in
@for_members
def preferences(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """The form; after it was sent, the page that it came from, with the times in the chosen zone and a way back."""
    if request.method == "GET":
        return frame.page(request, "lineage/preferences.html", {"zones": zones.names(), "title": "How times are shown"})
    chosen = request.POST.get("zone", "")
    if not zones.is_known(chosen):
        raise errors.QueryInvalid(
            "There is no such zone. Choose one of the list, such as Europe/Berlin or UTC.", zone=chosen[:40]
        )
    following = request.POST.get("next", "/")
    if not url_has_allowed_host_and_scheme(following, {request.get_host()}, require_https=request.is_secure()):
        following = "/"
    answer = redirect(following)
    answer.set_cookie(
        zones.COOKIE, chosen, max_age=COOKIE_SECONDS, httponly=True, samesite="Lax", secure=request.is_secure()
    )
    back = {"zone": zones.current(), "next": following}
    toasts.say(request, f"Times on pages are in {chosen} now. Exports and reports stay in UTC.", "/preferences/", back)
    return answer
