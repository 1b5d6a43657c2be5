"""Tokens: who has a good one is known; every other one is refused with what to do."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from enforcement.gateway import identity
from enforcement.gateway.identity import Issuer, TokenRefused, Verifier
from lineage.events import Principal
from tests.enforcement.gateway import tokens
from tests.enforcement.gateway.tokens import AT, Keys, claims, forged, oidc_claims, part, signed

MINUTE = dt.timedelta(minutes=1)


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys()


def refused(verifier: Verifier, token: str, at: dt.datetime = AT) -> str:
    with pytest.raises(TokenRefused) as found:
        verifier.verify(token, at)
    assert token not in str(found.value) or not token
    return found.value.code


def test_a_token_of_the_store_says_who_signed_in_for_what(keys: Keys) -> None:
    token = signed(keys.store, claims(purpose="close the month", ticket="OPS-42"))
    who = keys.verifier().verify(token, AT)
    assert (who.id, who.email, who.name, who.type) == ("dana@shop.example", "dana@shop.example", "Dana Reyes", "human")
    assert (who.roles, who.databases, who.token_id) == (("auditor", "dba"), ("shop",), "t-1")
    assert (who.claims_purpose, who.claims_ticket) == ("close the month", "OPS-42")
    assert (who.auth_method, who.expires_at) == ("touchstone-token", AT + 15 * MINUTE)
    assert (who.on_behalf_of, who.agent, who.delegation) == (None, None, ())


def test_an_agent_signs_in_as_itself_and_for_its_person(keys: Keys) -> None:
    act = {
        "sub": "report-bot", "agent": {"name": "Report bot", "version": "3", "run_id": "r-9", "model": "m-1"},
        "act": {"sub": "planner", "name": "Planner"},
    }  # fmt: skip
    who = keys.verifier().verify(signed(keys.store, claims(act=act)), AT)
    assert (who.id, who.type, who.name, who.email) == ("report-bot", "agent", "Report bot", None)
    assert who.on_behalf_of == Principal(
        id="dana@shop.example", name="Dana Reyes", email="dana@shop.example", type="human"
    )
    assert who.agent is not None
    assert (who.agent.id, who.agent.version, who.agent.run_id, who.agent.model) == ("report-bot", "3", "r-9", "m-1")
    assert who.delegation == (Principal(id="planner", name="Planner", type="agent"),)


def test_a_service_is_told_from_a_person(keys: Keys) -> None:
    assert keys.verifier().verify(signed(keys.store, claims(touchstone_type="service")), AT).type == "service"
    assert refused(keys.verifier(), signed(keys.store, claims(touchstone_type="admin"))) == "claims-incomplete"


def test_a_token_of_a_listed_issuer_lets_in_by_its_own_claim_names(keys: Keys) -> None:
    verifier = keys.verifier(claims={"roles": "realm_access.roles", "id": "preferred_username"})
    told = oidc_claims(
        preferred_username="dana", realm_access={"roles": ["dba"]}, aud=["other", "touchstone-db"], amr=["pwd", "mfa"]
    )
    who = verifier.verify(signed(keys.oidc, told, "RS256"), AT)
    assert (who.id, who.roles, who.type, who.auth_method, who.mfa) == ("dana", ("dba",), "human", "oidc", True)
    assert who.databases is None


def test_an_unverified_address_is_no_address(keys: Keys) -> None:
    token = signed(keys.oidc, oidc_claims(email="ceo@shop.example", email_verified=False, sub="u-1"), "RS256")
    who = keys.verifier().verify(token, AT)
    assert (who.id, who.email) == ("u-1", None)


def test_a_client_that_is_an_agent_makes_the_identity_an_agents(keys: Keys) -> None:
    verifier = keys.verifier(agent_clients=("bot-client",), service_claims={"gty": "client-credentials"})
    who = verifier.verify(signed(keys.oidc, oidc_claims(azp="bot-client"), "RS256"), AT)
    assert (who.type, who.id) == ("agent", "bot-client")
    assert who.on_behalf_of is not None
    assert who.on_behalf_of.id == "dana@shop.example"
    own = oidc_claims(azp="bot-client", gty="client-credentials", sub="svc-7", email=None)
    alone = verifier.verify(signed(keys.oidc, own, "RS256"), AT)
    assert (alone.type, alone.id, alone.on_behalf_of) == ("agent", "svc-7", None)
    service = oidc_claims(azp="other", gty="client-credentials", sub="svc-8", email=None)
    assert verifier.verify(signed(keys.oidc, service, "RS256"), AT).type == "service"


def test_an_unsigned_token_is_refused(keys: Keys) -> None:
    told = {name: value for name, value in claims().items() if name not in ("iat", "nbf", "exp")}
    body = part({**told, "iat": AT.timestamp(), "exp": AT.timestamp() + 60})
    assert refused(keys.verifier(), f"{part({'alg': 'none', 'kid': 'a1'})}.{body}.{part({})}") == "algorithm-refused"
    assert refused(keys.verifier(), f"{part({'alg': 'none', 'kid': 'a1'})}.{body}.") == "token-unreadable"
    assert refused(keys.verifier(), f"{part({'alg': 'EdDSA', 'kid': 'a1'})}.{body}.{part({})}") == "signature-wrong"


@pytest.mark.parametrize("encoding", ["pem", "raw", "jwk"])
def test_a_signature_made_with_the_public_key_as_a_secret_is_refused(keys: Keys, encoding: str) -> None:
    public = keys.oidc.public_key()
    secret = {
        "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "raw": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "jwk": json.dumps(keys.oidc_set()["keys"][0]).encode(),
    }[encoding]
    body = oidc_claims(iat=AT.timestamp(), exp=AT.timestamp() + 60)
    text = f"{part({'alg': 'HS256', 'kid': 'r1'})}.{part(body)}"
    mac = base64.urlsafe_b64encode(hmac.digest(secret, text.encode(), hashlib.sha256)).rstrip(b"=").decode()
    assert refused(keys.verifier(), f"{text}.{mac}") == "algorithm-refused"


def test_an_issuer_that_would_allow_shared_secrets_is_no_issuer() -> None:
    for algorithm in ("HS256", "none", "RS1"):
        with pytest.raises(ValueError, match="is not allowed"):
            Issuer(name="x", issuer="https://x", audience="y", algorithms=(algorithm,))
    with pytest.raises(ValueError, match="audience"):
        Issuer(name="x", issuer="https://x", audience="")


def test_each_issuers_keys_count_for_its_own_tokens_alone(keys: Keys) -> None:
    as_store = signed(keys.oidc, claims(), "RS256")
    as_login = signed(keys.store, oidc_claims(), "EdDSA", kid="a1")
    assert refused(keys.verifier(), as_store) == "algorithm-refused"
    assert refused(keys.verifier(), as_login) == "key-unknown"
    assert refused(keys.verifier(), signed(keys.store, claims(iss="https://else.example"))) == "issuer-unknown"
    assert refused(keys.verifier(), signed(Ed25519PrivateKey.generate(), claims())) == "signature-wrong"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"aud": "another-service"}, "audience-wrong"), ({"aud": []}, "audience-wrong"), ({"aud": None}, "audience-wrong"),
        ({"iss": None}, "issuer-unknown"), ({"iss": 7}, "claims-unreadable"), ({"sub": None}, "claims-incomplete"),
        ({"sub": "a\x00b"}, "claims-unreadable"), ({"sub": "x" * 600}, "claims-unreadable"), ({"exp": None}, "claims-incomplete"),
        ({"iat": None}, "claims-incomplete"), ({"exp": True}, "claims-incomplete"), ({"exp": 10**15}, "claims-incomplete"),
        ({"nbf": "soon"}, "claims-incomplete"), ({"exp": AT - 2 * MINUTE}, "token-expired"),
        ({"nbf": AT + 2 * MINUTE}, "token-early"), ({"iat": AT + 2 * MINUTE, "nbf": None}, "token-early"),
        ({"exp": AT + dt.timedelta(hours=13)}, "token-too-long"), ({"roles": [{"a": 1}]}, "claims-unreadable"),
        ({"act": "bot"}, "act-refused"), ({"act": {}}, "act-refused"), ({"act": {"sub": 5}}, "claims-unreadable"),
    ],
)  # fmt: skip
def test_a_token_with_wrong_claims_is_refused(keys: Keys, change: dict[str, Any], code: str) -> None:
    assert refused(keys.verifier(), forged(keys.store, claims(**change))) == code


def test_clocks_may_differ_by_a_minute_and_no_more(keys: Keys) -> None:
    token = signed(keys.store, claims())
    keys.verifier().verify(token, AT - dt.timedelta(seconds=59))
    keys.verifier().verify(token, AT + 15 * MINUTE + dt.timedelta(seconds=59))
    assert refused(keys.verifier(), token, AT - dt.timedelta(seconds=61)) == "token-early"
    assert refused(keys.verifier(), token, AT + 16 * MINUTE) == "token-expired"


def test_every_changed_byte_is_noticed(keys: Keys) -> None:
    token, verifier = signed(keys.store, claims()), keys.verifier()
    for at in range(0, len(token), 7):
        other = "A" if token[at] != "A" else "B"
        if token[at] == "." or at == len(token) - 1:
            continue
        refused(verifier, token[:at] + other + token[at + 1 :])
    mixed = token.split(".")
    other_claims = signed(keys.store, claims(sub="root@shop.example")).split(".")
    assert refused(verifier, f"{mixed[0]}.{other_claims[1]}.{mixed[2]}") == "signature-wrong"


def test_the_header_must_name_a_known_key_and_nothing_that_is_not_understood(keys: Keys) -> None:
    verifier = keys.verifier()
    assert refused(verifier, signed(keys.store, claims(), kid="")) == "key-missing"
    assert refused(verifier, signed(keys.store, claims(), kid="zz")) == "key-unknown"
    assert refused(verifier, signed(keys.store, claims(), crit=["exp"], exp=1)) == "header-refused"
    stranger = Ed25519PrivateKey.generate()
    smuggled = signed(stranger, claims(), jwk=tokens.jwk(stranger, "EdDSA", "a1"), jku="https://evil.example/keys")
    assert refused(verifier, smuggled) == "signature-wrong"


def test_a_chain_of_actors_has_five_links_at_most(keys: Keys) -> None:
    act: dict[str, Any] = {"sub": "a1"}
    for n in range(2, 6):
        act = {"sub": f"a{n}", "act": act}
    who = keys.verifier().verify(signed(keys.store, claims(act=act)), AT)
    assert [who.id, *(one.id for one in who.delegation)] == ["a5", "a4", "a3", "a2", "a1"]
    assert refused(keys.verifier(), signed(keys.store, claims(act={"sub": "a6", "act": act}))) == "act-refused"


def test_a_huge_or_deep_token_is_refused_before_it_is_read(keys: Keys) -> None:
    assert refused(keys.verifier(), signed(keys.store, claims(name="x" * 20_000))) == "token-too-large"
    deep = base64.urlsafe_b64encode(b'{"a":' * 1100).rstrip(b"=").decode()
    assert refused(keys.verifier(), f"{deep}.{deep}.AAAA") == "token-unreadable"


def test_keys_that_are_weak_private_or_for_something_else_do_not_count(keys: Keys) -> None:
    weak = generate_private_key(65537, 1024)
    private = jwt.get_algorithm_by_name("RS256").to_jwk(keys.oidc, as_dict=True) | {"kid": "r3"}
    jwks = [
        tokens.jwk(weak, "RS256", "r1"), tokens.jwk(keys.oidc, "RS256", "r2", use="enc"), private, {"kid": "r4"}, "nonsense",
        tokens.jwk(keys.oidc, "RS256", "r5", alg="RS512"), tokens.jwk(keys.oidc, "RS256", "r6", key_ops=["encrypt"]),
    ]  # fmt: skip
    verifier = Verifier([keys.oidc_issuer(keys={"keys": jwks})])
    for n in range(1, 7):
        token = jwt.encode(oidc_claims(), keys.oidc, "RS256", headers={"kid": f"r{n}"})
        assert refused(verifier, token) == "key-unknown", n


def test_a_token_opens_sessions_until_it_ends_unless_its_issuer_lets_in_once(keys: Keys) -> None:
    token = signed(keys.oidc, oidc_claims(), "RS256")
    often, once = keys.verifier(), keys.verifier(single_use=True)
    for _ in range(3):
        often.verify(token, AT)
    once.verify(token, AT)
    assert refused(once, token) == "token-used"
    once.verify(signed(keys.oidc, oidc_claims(jti="t-2"), "RS256"), AT)
    assert refused(once, signed(keys.oidc, oidc_claims(jti=None), "RS256")) == "token-used"


def test_two_issuers_cannot_share_a_name_and_the_stores_place_cannot_be_taken(keys: Keys) -> None:
    with pytest.raises(ValueError, match="both called"):
        Verifier([identity.store_issuer(keys.store_set()), keys.oidc_issuer(issuer=tokens.STORE)])
    for told in ({}, {"issuer": "x"}, {"issuer": 3, "keys": []}):
        with pytest.raises(ValueError, match="issuer and keys"):
            identity.store_issuer(told)


@given(
    st.one_of(
        st.text(), st.from_regex(r"[A-Za-z0-9_-]{1,40}\.[A-Za-z0-9_-]{1,80}\.[A-Za-z0-9_-]{0,40}", fullmatch=True)
    )
)
def test_no_string_lets_in_and_none_raises_anything_but_a_refusal(token: str) -> None:
    verifier = Verifier([Issuer(name="x", issuer="https://x", audience="y")])
    with pytest.raises(TokenRefused):
        verifier.verify(token, AT)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
NAMES = st.sampled_from(
    ["iss", "aud", "sub", "exp", "iat", "nbf", "act", "roles", "email", "jti", "azp", "amr", "databases"]
)
SIGNER = Ed25519PrivateKey.generate()


@given(st.dictionaries(NAMES, JSON, max_size=6))
def test_whatever_a_signed_token_claims_it_lets_in_as_someone_or_is_refused(change: dict[str, Any]) -> None:
    token = forged(SIGNER, {**claims(), **change})
    told = {"issuer": tokens.STORE, "keys": [tokens.jwk(SIGNER, "EdDSA", "a1")]}
    with contextlib.suppress(TokenRefused):
        who = Verifier([identity.store_issuer(told)]).verify(token, AT)
        assert who.id
        assert who.expires_at > AT - MINUTE
