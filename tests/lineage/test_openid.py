"""Sign-in by OpenID Connect against a provider on this machine: who is let in, and every lie that lets nobody in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from django.contrib.sessions.models import Session
from django.core import checks
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from config import openid
from lineage import errors, seats, tree
from lineage.models import OpenIdAccount, User
from tests import story
from tests.lineage.openid import CLIENT, KEY, SECRET, Provider
from tests.lineage.test_seats import HOUSE, noticed, recorded

pytestmark = pytest.mark.slow

DANA = "dana@shop.example"
START, LOGIN = "/accounts/openid/", "/accounts/login/"
DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.stop()


@pytest.fixture
def provider(running: Provider, store: str, settings: Any) -> Provider:
    running.honest()
    settings.OPENID = openid.Provider(running.issuer, CLIENT, SECRET, "Shop & <b>Sons</b>")
    return running


def begun(provider: Provider, browser: Client, following: str = "/account/") -> str:
    """Where the browser goes back to, after the person signed in at the provider."""
    led = browser.get(START, {"next": following})
    assert led.status_code == 302
    assert led["Location"].startswith(f"{provider.issuer}/authorize?")
    return provider.enter(led["Location"])


def is_in(browser: Client) -> bool:
    return "_auth_user_id" in browser.session


def refused(provider: Provider, browser: Client | None = None, status: int = 401) -> str:
    """One whole try that must let nobody in; the last note of it."""
    browser = browser or Client()
    before = OpenIdAccount.objects.count(), tree.head()
    answer = browser.get(begun(provider, browser))
    assert (answer.status_code, is_in(browser)) == (status, False)
    assert "You are not signed in." in answer.content.decode()
    assert "<b>Sons" not in answer.content.decode()
    assert (OpenIdAccount.objects.count(), tree.head()) == (before[0], before[1] + 1)
    return noticed()[-1]


def test_who_has_a_seat_comes_in_by_the_provider_and_stays_who_they_are(provider: Provider) -> None:
    user, browser = story.person(DANA), Client()
    form = browser.get(f"{LOGIN}?next=/search").content.decode()
    assert 'href="/accounts/openid/?next=%2Fsearch">Sign in with Shop &amp; &lt;b&gt;Sons' in form
    back = begun(provider, browser)
    before = browser.session.session_key
    entered = browser.get(back)
    assert (entered.status_code, entered["Location"]) == (302, "/account/")
    assert browser.session["_auth_user_id"] == str(user.pk)
    kept = browser.session["signed_in"]
    assert (kept["by"], kept["issuer"], kept["subject"], kept["methods"]) == ("openid", provider.issuer, "u-1", "")
    assert browser.session.session_key != before
    assert not Session.objects.filter(session_key=before).exists()
    assert browser.get("/account/").status_code == 200
    # From now on the account counts, not the address.
    provider.told |= {"email": "other@shop.example", "email_verified": False, "amr": ["pwd", "otp", 7, "a\0b"]}
    again = Client()
    assert again.get(begun(provider, again, "https://evil.example/"))["Location"] == "/"
    assert again.session["_auth_user_id"] == str(user.pk)
    assert again.session["signed_in"]["methods"] == "pwd, otp"
    told = f"{DANA}: signed in by OpenID Connect"
    assert noticed() == [f"{told}; the account there is theirs from now on", told]
    # Somebody else whom the provider gives the same address is another person.
    provider.told = {"sub": "u-2", "email": DANA, "email_verified": True}
    assert refused(provider) == f"{DANA}: sign-in refused: another account at the provider is this person's"
    call_command("user", "release", DANA)
    assert "account at" in recorded()[0]["decision"]["transition"]
    third = Client()
    third.get(begun(provider, third))
    assert third.session["_auth_user_id"] == str(user.pk)
    assert OpenIdAccount.objects.get().subject == "u-2"


def test_an_address_that_only_the_profile_holds_is_taken_for_the_same_subject_alone(provider: Provider) -> None:
    story.person(DANA)
    provider.told = {"sub": "u-1"}
    provider.profile = {"sub": "u-9", "email": DANA, "email_verified": True}
    assert refused(provider) == "None: sign-in refused: the profile is somebody else's"
    provider.profile["sub"] = "u-1"
    browser = Client()
    assert browser.get(begun(provider, browser)).status_code == 302
    assert is_in(browser)


def test_an_id_token_that_does_not_hold_lets_nobody_in(provider: Provider) -> None:
    story.person(DANA)
    long_ago = int(timezone.now().timestamp()) - 600
    lies: dict[str, dict[str, Any]] = {
        "is of another sign-in": {"nonce": "n" * 43},
        "ImmatureSignatureError": {"iat": long_ago + 1200},
        "ExpiredSignatureError": {"exp": long_ago + 300},
        "InvalidAudienceError": {"aud": "another"},
        "InvalidIssuerError": {"iss": "https://another.example"},
        "made for another program": {"aud": [CLIENT, "another"]},
        "was made for another program": {"aud": [CLIENT, "another"], "azp": "another"},
        "InvalidSubjectError": {"sub": 7},
        "subject is none": {"sub": "a\0b"},
    }
    for why, lie in lies.items():
        provider.lie = lambda claims, lie=lie: claims.update(lie)  # type: ignore[misc]
        assert why in refused(provider)
    for name in ("nonce", "exp", "aud", "iss", "sub"):
        provider.lie = lambda claims, name=name: claims.pop(name)  # type: ignore[misc]
        assert "MissingRequiredClaimError" in refused(provider)
    provider.honest()
    provider.sign = lambda claims: jwt.encode(claims, provider.other_key, "RS256", headers={"kid": KEY})
    assert "InvalidSignatureError" in refused(provider)
    provider.sign = lambda claims: jwt.encode(claims, provider.key, "RS256", headers={"kid": "another"})
    assert "InvalidKeyError" in refused(provider)
    provider.sign = lambda claims: jwt.encode(claims, None, "none", headers={"kid": KEY})  # type: ignore[arg-type]
    assert "InvalidAlgorithmError" in refused(provider)
    provider.sign = lambda claims: jwt.encode(claims, SECRET.ljust(32), "HS256", headers={"kid": KEY})
    assert "InvalidAlgorithmError" in refused(provider)
    provider.sign = lambda claims: "no token"
    assert "DecodeError" in refused(provider)
    assert not OpenIdAccount.objects.exists()


def test_only_an_open_seat_of_a_person_with_a_verified_address_is_entered(provider: Provider) -> None:
    story.person("admin@shop.example")
    for told, why in (
        ({"email_verified": False}, "the provider has not verified the e-mail address"),
        ({"email_verified": "true"}, "the provider has not verified the e-mail address"),
        ({}, "nobody with this e-mail address has a seat"),
        ({"email": "adm\u0131n@shop.example"}, "the provider gave no e-mail address"),
        ({"email": None}, "the provider gave no e-mail address"),
    ):
        provider.honest()
        provider.told |= told
        assert refused(provider) == f"None: sign-in refused: {why}"
    assert User.objects.count() == 1
    provider.honest()
    user = story.person(DANA)
    for change, why in (
        ({"ends_at": timezone.now() - DAY}, "the seat has ended"),
        ({"ends_at": None, "is_active": False}, "the seat is closed"),
        ({"is_active": True, "role": "service"}, "the seat is a service's"),
    ):
        User.objects.filter(pk=user.pk).update(**change)
        assert refused(provider) == f"{DANA}: sign-in refused: {why}"
    with pytest.raises(errors.AccessInvalid):
        seats.release(HOUSE, user)


def test_an_answer_of_the_provider_is_used_once_and_in_the_session_that_asked(provider: Provider) -> None:
    story.person(DANA)
    browser, stranger = Client(), Client()
    back = begun(provider, browser)
    assert stranger.get(back).status_code == 401
    assert not is_in(stranger)
    assert browser.get(back).status_code == 302
    browser.post("/accounts/logout/")
    replayed = browser.get(back)
    assert (replayed.status_code, is_in(browser)) == (401, False)
    assert "Begin again here" in replayed.content.decode()
    provider.begun.clear()
    denied = browser.get(begun(provider, browser).split("?")[0] + "?error=access_denied&error_description=<script>x")
    assert (denied.status_code, is_in(browser)) == (401, False)
    assert "script>x" not in denied.content.decode()
    state = begun(provider, browser).split("state=")[1]
    assert (
        browser.get(f"{START}callback/?error=access_denied&error_description=<script>x&state={state}").status_code
        == 401
    )
    state = begun(provider, browser).split("state=")[1]
    assert browser.get(f"{START}callback/?code=guessed&state={state}").status_code == 401
    stale = "None: sign-in refused: it was not begun in this session, or long ago, or came back before"
    assert noticed() == [
        stale, f"{DANA}: signed in by OpenID Connect; the account there is theirs from now on", stale, stale,
        "None: sign-in refused: the provider sent no code",
        "None: sign-in refused: the provider gave no token for the code",
    ]  # fmt: skip


def test_a_provider_that_is_gone_or_another_leaves_the_password(provider: Provider, settings: Any) -> None:
    story.person(DANA)
    browser = Client()
    back = begun(provider, browser)
    for change in ({"issuer": "https://another.example"}, {"token_endpoint": "http://shop.example/token"}):
        provider.discovery = change
        assert browser.get(START).status_code == 503
    answer = browser.get(back)
    assert (answer.status_code, is_in(browser)) == (503, False)
    settings.OPENID = openid.Provider("http://127.0.0.1:9", CLIENT, SECRET)
    gone = browser.get(START)
    assert gone.status_code == 503
    assert "Sign in with your password" in gone.content.decode()
    assert browser.post(LOGIN, {"username": DANA, "password": story.PASSWORD}).status_code == 302
    assert is_in(browser)


def test_without_a_provider_nothing_of_it_is_there_and_a_half_set_one_is_named(store: str, settings: Any) -> None:
    whole = ("https://id.shop.example", CLIENT, SECRET)
    unusable = [openid.Provider(*("" if n == lacking else v for n, v in enumerate(whole))) for lacking in range(3)]
    unusable += [
        openid.Provider("http://id.shop.example", CLIENT, SECRET),
        openid.Provider("https://a.example?b", CLIENT, SECRET),
    ]
    for settings.OPENID in (openid.Provider(), *unusable):
        for path in (
            START,
            f"{START}callback/",
            "/accounts/",
            "/accounts/signup/",
            "/accounts/email/",
            "/accounts/social/",
        ):
            assert Client().get(path).status_code == 404
        assert "openid" not in Client().get(LOGIN).content.decode()
        faults = [one for one in checks.run_checks() if one.id == "touchstone.E001"]
        assert [one.hint is not None for one in faults] == [True] * bool(
            settings.OPENID.issuer or settings.OPENID.client_id
        )
    assert openid.Provider(*whole).is_on
    assert SECRET not in repr(openid.Provider(*whole))
