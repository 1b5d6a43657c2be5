"""Signing in by OpenID Connect: who the provider says somebody is, checked, and which seat that is (docs/access.md).

allauth asks the provider for its addresses, keeps the state of a sign-in in the session, and exchanges the code with PKCE. The nonce, the
id token's signature and claims, and the seat are ours. Nobody becomes a member by this: a seat was added before.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Any

import jwt
import requests
from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from config import openid
from lineage import access, errors
from lineage import sign_in as signing
from lineage.models import OpenIdAccount, Role, User

ALGORITHMS = ("RS256", "ES256")
LEEWAY_SECONDS = 60
SCOPE = ("openid", "email")
REQUIRED = ("iss", "sub", "aud", "exp", "iat", "nonce")
ADDRESSES = ("authorization_endpoint", "token_endpoint", "jwks_uri")
METHODS_MOST = 100
SUBJECT_MOST = 255
"""What the standard allows a subject to be long (OpenID Connect Core, section 2)."""


class Provider(OpenIDConnectProvider):  # type: ignore[misc]
    """The one provider, from the settings alone: allauth has no table here to find another in."""

    @property
    def server_url(self) -> str:
        return settings.OPENID.issuer.rstrip("/") + "/.well-known/openid-configuration"

    def get_oauth2_adapter(self, request: HttpRequest) -> Adapter:
        return Adapter(request, self.app.provider_id)


class Adapter(OpenIDConnectOAuth2Adapter):  # type: ignore[misc]
    """allauth's, speaking to that provider alone, and only if it names itself as the settings do."""

    def get_provider(self) -> Provider:
        app = SocialApp(
            provider="openid_connect", provider_id="openid", name=settings.OPENID.name, client_id=settings.OPENID.client_id,
            secret=settings.OPENID.client_secret, settings={"oauth_pkce_enabled": True, "scope": SCOPE},
        )  # fmt: skip
        return Provider(self.request, app=app)

    @property
    def openid_config(self) -> dict[str, Any]:
        if not hasattr(self, "_openid_config"):
            found = _fetched(self.get_provider().server_url)
            if found.get("issuer") != settings.OPENID.issuer or not all(
                openid.is_safe(found.get(name)) for name in ADDRESSES
            ):
                raise errors.ProviderUnavailable(
                    "The provider names itself otherwise than TOUCHSTONE_OIDC_ISSUER does, or has addresses without TLS. "
                    "Sign in with your password, and tell the operator."
                )
            self._openid_config = found
        return self._openid_config

    def get_callback_url(self, request: HttpRequest, app: SocialApp) -> str:
        path = reverse("openid-callback")
        return settings.PUBLIC_URL + path if settings.PUBLIC_URL else request.build_absolute_uri(path)


def start(request: HttpRequest, following: str) -> HttpResponse:
    """Leads to the provider. Raises ProviderUnavailable."""
    nonce = secrets.token_urlsafe(32)
    try:
        answer: HttpResponse = (
            Adapter(request, "openid")
            .get_provider()
            .redirect(request, "login", next_url=following, auth_params={"nonce": nonce}, nonce=nonce)
        )
    except requests.RequestException as error:
        raise errors.ProviderUnavailable from error
    return answer


def finish(request: HttpRequest) -> tuple[User, str, dict[str, str]]:
    """Who came back from the provider, where they wanted to go, and how they are known there. Their coming, or the refusal, is recorded.

    Raises SignInRefused, SeatEnded, SignInPutOff and ProviderUnavailable.
    """
    counted = signing.count_from(request)
    try:
        claims, following = _told(request)
        with transaction.atomic():
            user, is_first = _seat(claims)
            told = "signed in by OpenID Connect"
            signing.record(user, f"{told}; the account there is theirs from now on" if is_first else told)
    except errors.SignInRefused as refused:
        signing.record(User.objects.filter(email=refused.email).first(), f"sign-in refused: {refused.why}")
        raise
    except errors.SeatEnded as ended:
        signing.record(User.objects.get(email=ended.email), "sign-in refused: the seat has ended")
        raise
    except (requests.RequestException, errors.ProviderUnavailable) as error:
        signing.uncount(counted)
        raise errors.ProviderUnavailable(getattr(error, "message", None)) from error
    signing.uncount(counted)
    return user, following, _known(claims)


def _known(claims: dict[str, Any]) -> dict[str, str]:
    """Issuer and subject, and the methods of authentication where the provider tells them (RFC 8176)."""
    told = claims.get("amr")
    methods = [one for one in told if isinstance(one, str) and one.isprintable()] if isinstance(told, list) else []
    return {
        "by": "openid",
        "issuer": claims["iss"],
        "subject": claims["sub"],
        "methods": ", ".join(methods)[:METHODS_MOST],
    }


def _told(request: HttpRequest) -> tuple[dict[str, Any], str]:
    """What the provider says of who comes back in this session, and where they go. Raises SignInRefused and ProviderUnavailable."""
    adapter = Adapter(request, "openid")
    provider = adapter.get_provider()
    try:
        state = provider.unstash_redirect_state(request, request.GET.get("state", ""))
    except PermissionDenied as error:
        raise errors.SignInRefused(
            "it was not begun in this session, or long ago, or came back before",
            "This sign-in was begun elsewhere or too long ago, or was used already. Begin again here.",
        ) from error
    if not request.GET.get("code"):
        raise errors.SignInRefused(
            "the provider sent no code",
            "Your provider did not let you in. Try again there, or sign in with your password.",
        )
    try:
        client = adapter.get_client(request, provider.app)
        answer = adapter.get_access_token_data(request, provider.app, client, state["pkce_code_verifier"])
    except (OAuth2Error, KeyError) as error:
        raise _doubt("the provider gave no token for the code") from error
    claims = _checked(adapter, answer.get("id_token"), state["nonce"])
    if "email" not in claims:
        claims |= _profile(adapter, answer["access_token"], claims["sub"])
    return claims, state.get("next") or "/"


def _checked(adapter: Adapter, token: object, nonce: str) -> dict[str, Any]:
    """The claims of an id token that is signed by the provider, for us, now, for this sign-in. Raises SignInRefused."""
    client_id = settings.OPENID.client_id
    try:
        if not isinstance(token, str):
            raise jwt.InvalidTokenError("none")
        header = jwt.get_unverified_header(token)
        if header.get("alg") not in ALGORITHMS:
            raise jwt.InvalidAlgorithmError("another")
        key = _key_for(adapter, header)
        claims = jwt.decode(
            token, key, algorithms=list(ALGORITHMS), audience=client_id, issuer=settings.OPENID.issuer, leeway=LEEWAY_SECONDS,
            options={"require": list(REQUIRED)},
        )  # fmt: skip
    except jwt.PyJWTError as error:
        raise _doubt(f"the id token does not hold ({type(error).__name__})") from error
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", None if several else client_id) != client_id:
        raise _doubt("the id token was made for another program")
    if not hmac.compare_digest(str(claims["nonce"]).encode("utf-8", "replace"), nonce.encode()):
        raise _doubt("the id token is of another sign-in (nonce)")
    subject = claims["sub"]
    if not 0 < len(subject) <= SUBJECT_MOST or not subject.isprintable():
        raise _doubt("the id token's subject is none")
    return claims


def _key_for(adapter: Adapter, header: dict[str, Any]) -> jwt.PyJWK:
    """The provider's key that the token says it is signed with; a token that names none fits where there is one alone."""
    found = jwt.PyJWKSet.from_dict(_fetched(adapter.openid_config["jwks_uri"])).keys
    fitting = [
        key for key in found
        if key.algorithm_name == header["alg"] and key.public_key_use in (None, "sig") and header.get("kid") in (None, key.key_id)
    ]  # fmt: skip
    if len(fitting) != 1:
        raise jwt.InvalidKeyError("none")
    return fitting[0]


def _profile(adapter: Adapter, access_token: object, subject: str) -> dict[str, Any]:
    """The e-mail address of providers that leave it out of the id token: of the same subject, or nothing."""
    address = adapter.openid_config.get("userinfo_endpoint")
    if not openid.is_safe(address):
        return {}
    found = _fetched(str(address), {"Authorization": f"Bearer {access_token}"})
    if found.get("sub") != subject:
        raise _doubt("the profile is somebody else's")
    return {name: found.get(name) for name in ("email", "email_verified")}


def _fetched(address: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """A JSON object from the provider. RequestException; ProviderUnavailable where it is something else."""
    with get_adapter().get_requests_session() as session:
        answer = session.get(address, headers=headers)
        answer.raise_for_status()
        found = answer.json()
    if not isinstance(found, dict):
        raise errors.ProviderUnavailable
    return found


def _doubt(why: str) -> errors.SignInRefused:
    return errors.SignInRefused(
        why,
        "What your provider said of you could not be trusted. Begin again; if it happens again, sign in with your password and "
        "tell the operator.",
    )


def _seat(claims: dict[str, Any]) -> tuple[User, bool]:
    """The seat of this account there, and whether it was bound just now. Raises SignInRefused and SeatEnded."""
    who = {"issuer": claims["iss"], "subject": claims["sub"]}
    bound = OpenIdAccount.objects.filter(**who).first()
    number = bound.user_id if bound else _claimed(claims).pk
    user = User.objects.select_for_update().get(pk=number)
    if user.role == Role.SERVICE:
        raise errors.SignInRefused("the seat is a service's", "A service comes with its API token.", user.email)
    if not user.is_active:
        raise errors.SignInRefused("the seat is closed", "Your seat is closed. Ask an administrator.", user.email)
    access.check_seat(user)
    account, is_first = OpenIdAccount.objects.get_or_create(user=user, issuer=who["issuer"], defaults=who)
    if account.subject != who["subject"]:
        raise errors.SignInRefused(
            "another account at the provider is this person's",
            "Your seat belongs to another account at your provider. Ask an administrator to release it, if that account was yours.",
            user.email,
        )
    return user, is_first


def _claimed(claims: dict[str, Any]) -> User:
    """The seat of the e-mail address that the provider has verified. Raises SignInRefused."""
    email = claims.get("email")
    # In upper case some letters outside of ASCII are letters of ASCII: they would claim another's address.
    if not isinstance(email, str) or not email.isascii() or not email.isprintable() or len(email) > 254:
        raise errors.SignInRefused(
            "the provider gave no e-mail address",
            "Your provider gave no e-mail address that a seat here could have. Ask the operator to have it sent.",
        )
    if claims.get("email_verified") is not True:
        raise errors.SignInRefused(
            "the provider has not verified the e-mail address",
            "Your provider has not verified your e-mail address. Verify it there and begin again.",
        )
    found = list(User.objects.filter(email__iexact=email)[:2])
    if len(found) != 1:
        raise errors.SignInRefused(
            "nobody with this e-mail address has a seat",
            "Nobody here has the e-mail address that your provider gave. Ask an administrator for a seat.",
        )
    return found[0]
