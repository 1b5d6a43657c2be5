"""Real tokens and keys for the tests of who signs in."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from enforcement.gateway import identity
from enforcement.gateway.identity import Issuer, Verifier

AT = dt.datetime(2026, 11, 21, 9, 0, tzinfo=dt.UTC)
STORE = "store.example/log"
OIDC = "https://login.example"


class Keys:
    """A store's Ed25519 key and an OIDC issuer's RSA key, with their sets."""

    def __init__(self) -> None:
        self.store = Ed25519PrivateKey.generate()
        self.oidc: RSAPrivateKey = generate_private_key(65537, 2048)

    def store_set(self) -> dict[str, Any]:
        return {"issuer": STORE, "audience": identity.AUDIENCE, "keys": [jwk(self.store, "EdDSA", "a1")]}

    def oidc_set(self) -> dict[str, Any]:
        return {"keys": [jwk(self.oidc, "RS256", "r1")]}

    def oidc_issuer(self, **more: Any) -> Issuer:
        return Issuer(**{"name": "login", "issuer": OIDC, "audience": "touchstone-db", "keys": self.oidc_set(), **more})

    def verifier(self, **more: Any) -> Verifier:
        return Verifier([identity.store_issuer(self.store_set()), self.oidc_issuer(**more)])


def jwk(key: Any, algorithm: str, kid: str, **more: Any) -> dict[str, Any]:
    found = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**found, "kid": kid, "use": "sig", **more}


def claims(**more: Any) -> dict[str, Any]:
    """What the store says of Dana; None leaves a claim out."""
    told = {
        "iss": STORE, "aud": identity.AUDIENCE, "sub": "dana@shop.example", "email": "dana@shop.example", "name": "Dana Reyes",
        "touchstone_type": "human", "roles": ["auditor", "dba"], "databases": ["shop"], "jti": "t-1", "iat": AT, "nbf": AT,
        "exp": AT + dt.timedelta(minutes=15),
    }  # fmt: skip
    return {name: value for name, value in {**told, **more}.items() if value is not None}


def oidc_claims(**more: Any) -> dict[str, Any]:
    told = {"iss": OIDC, "aud": "touchstone-db", "touchstone_type": None, "databases": None, "roles": None, "nbf": None}
    return claims(**{**told, **more})


def signed(key: Any, told: dict[str, Any], algorithm: str = "EdDSA", **header: Any) -> str:
    kid = {"kid": "a1" if algorithm == "EdDSA" else "r1"}
    return jwt.encode(told, key, algorithm, headers={name: value for name, value in (kid | header).items() if value})


def part(value: Any) -> str:
    """A header or claims as they stand in a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forged(key: Ed25519PrivateKey, told: dict[str, Any]) -> str:
    """A token of claims that the library would not sign."""
    plain = {name: value.timestamp() if isinstance(value, dt.datetime) else value for name, value in told.items()}
    body = f"{part({'alg': 'EdDSA', 'kid': 'a1'})}.{part(plain)}"
    return f"{body}.{base64.urlsafe_b64encode(key.sign(body.encode())).rstrip(b'=').decode()}"
