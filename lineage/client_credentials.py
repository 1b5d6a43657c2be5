"""A source's token by OAuth 2.0 client credentials (RFC 6749, section 4.4), for senders that know no other way.

The client's id is the source's name, its secret the source's token, and that very token is the answer: no right is new.
"""

from __future__ import annotations

import base64
import binascii

from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from lineage import access, errors
from lineage.models import Source

EXPIRES_SECONDS = 3600
"""How soon the sender asks again, and so learns that its token was revoked."""


@csrf_exempt
@require_POST
def token(request: HttpRequest) -> JsonResponse:
    """POST /api/v1/token. Raises BodyUnreadable for another grant, TokenInvalid for a pair that does not belong together."""
    if request.POST.get("grant_type") != "client_credentials":
        raise errors.BodyUnreadable("Send grant_type=client_credentials as a form.")
    name, secret = _basic(request) or (request.POST.get("client_id", ""), request.POST.get("client_secret", ""))
    known = Source.objects.filter(name=name, token_hash=access.token_hash(secret), revoked_at__isnull=True)
    if not secret or not known.exists():
        raise errors.TokenInvalid
    answer = JsonResponse({"access_token": secret, "token_type": "Bearer", "expires_in": EXPIRES_SECONDS})
    answer["Cache-Control"] = "no-store"
    return answer


def _basic(request: HttpRequest) -> tuple[str, str] | None:
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise errors.TokenInvalid from None
    return name, secret
