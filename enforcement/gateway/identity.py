"""Who signs in: the token in the password, checked against the issuers that the gateway trusts.

Tokens are signed JWTs (RFC 7519), by the store itself or by a listed OIDC issuer. What is not understood is refused. Pure but
for one thing: where an issuer's tokens are `single_use`, a verifier remembers those used until they expire.
"""

from __future__ import annotations

import base64
import datetime as dt
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from lineage.events import Agent, Principal

AUDIENCE = "touchstone-gateway"
MOST_BYTES = 16 * 1024
MOST_ACTORS = 5
LEEWAY = dt.timedelta(seconds=60)
# Signatures with a public key alone: with HS* whoever can check a token could make one.
KEY_KINDS: dict[str, tuple[str, str | None]] = {
    "EdDSA": ("OKP", "Ed25519"), "ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "ES512": ("EC", "P-521"),
    "RS256": ("RSA", None), "RS384": ("RSA", None), "RS512": ("RSA", None),
    "PS256": ("RSA", None), "PS384": ("RSA", None), "PS512": ("RSA", None),
}  # fmt: skip
RSA_LEAST_BITS = 2048
CLAIMS = {"id": "sub", "email": "email", "name": "name", "roles": "roles"}
_SHAPE = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
AGAIN = "Get a new token: page Connect, `bin/manage connect`, or your sign-in provider."


class SignInRefused(Exception):
    """Nobody is let in. `code` is stable and in kebab-case; `sentence` says why and never holds the token."""

    def __init__(self, code: str, sentence: str) -> None:
        self.code = code
        self.sentence = sentence
        super().__init__(f"{code}: {sentence}")


class TokenRefused(SignInRefused):
    """The token is not one that lets in. What to do is always the same: `AGAIN`, the hint beside the sentence."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who signed in. An agent has its own id, and `on_behalf_of` the person, if any; `roles` are then that person's.

    `delegation`: earlier actors of the `act` chain, the latest first. `databases`: the datasources that the token is for;
    None means that its issuer does not say, and any may be asked for.
    """

    id: str
    type: Literal["human", "service", "agent"]
    auth_method: Literal["touchstone-token", "oidc"]
    token_id: str
    expires_at: dt.datetime
    name: str | None = None
    email: str | None = None
    roles: tuple[str, ...] = ()
    on_behalf_of: Principal | None = None
    delegation: tuple[Principal, ...] = ()
    agent: Agent | None = None
    mfa: bool | None = None
    claims_purpose: str | None = None
    claims_ticket: str | None = None
    databases: tuple[str, ...] | None = None


class Issuer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose tokens are believed, for which audience, signed how, and where they say what.

    `keys` is a JWK set (RFC 7517). `claims` renames id, email, name, roles ("realm_access.roles" reaches inside). A token of a
    client in `agent_clients` (`azp`) is an agent's; one that holds a claim with the value in `service_claims` is a service's.
    """

    name: str
    issuer: str
    audience: str
    kind: Literal["touchstone", "oidc"] = "oidc"
    keys: dict[str, Any] = {}
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    claims: dict[str, str] = {}
    agent_clients: tuple[str, ...] = ()
    service_claims: dict[str, str] = {}
    single_use: bool = False
    longest_seconds: int = 12 * 3600

    def __post_init__(self) -> None:
        """Raises ValueError for what would weaken the check or mean nothing."""
        if strange := [name for name in self.algorithms if name not in KEY_KINDS]:
            raise ValueError(f"issuer {self.name}: {', '.join(strange)} is not allowed; use {', '.join(KEY_KINDS)}")
        if unknown := [name for name in self.claims if name not in CLAIMS]:
            raise ValueError(f"issuer {self.name}: claims are {', '.join(CLAIMS)}, not {', '.join(unknown)}")
        if not (self.issuer and self.audience and self.algorithms):
            raise ValueError(f"issuer {self.name}: issuer, audience and algorithms must be given")

    def claim(self, claims: Mapping[str, Any], what: str) -> Any:
        """The claim that stands for `what`; its name as it is, else its dotted path."""
        name = self.claims.get(what, CLAIMS[what])
        if name in claims:
            return claims[name]
        found: Any = claims
        for part in name.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found


def store_issuer(told: Mapping[str, Any]) -> Issuer:
    """The store as an issuer, from its JWK set (`GET /api/v1/gateway/keys`, or the exchange). ValueError if it is none."""
    issuer, listed = told.get("issuer"), told.get("keys")
    if not isinstance(issuer, str) or not isinstance(listed, list):
        raise ValueError("the store's keys are an object with issuer and keys")
    return Issuer(
        name="store", kind="touchstone", issuer=issuer, audience=AUDIENCE, algorithms=("EdDSA",), keys={"keys": listed}
    )


class Verifier:
    """Checks tokens of its issuers. `verify` may be called from several threads."""

    def __init__(self, issuers: Iterable[Issuer]) -> None:
        self._issuers: dict[str, tuple[Issuer, dict[tuple[str, str], Any]]] = {}
        self._used: dict[tuple[str, str], dt.datetime] = {}
        self._lock = threading.Lock()
        for issuer in issuers:
            self.put(issuer)

    def put(self, issuer: Issuer) -> None:
        """Takes an issuer, or its new keys, into use. ValueError: another one with this address counts already."""
        before = self._issuers.get(issuer.issuer)
        if before and before[0].name != issuer.name:
            raise ValueError(f"{before[0].name} and {issuer.name} are both called {issuer.issuer}")
        self._issuers[issuer.issuer] = issuer, _usable(issuer)

    def knows(self, issuer: str) -> Issuer | None:
        found = self._issuers.get(issuer)
        return found[0] if found else None

    def verify(self, token: str, now: dt.datetime) -> Identity:
        """Whose token this is. Raises TokenRefused, and nothing else, whatever the token is.

        Code `key-unknown`: the issuer is known, its key is not; its set may have changed (`issuer_of`).
        """
        try:
            return self._verify(token, now)
        except TokenRefused:
            raise
        except Exception:  # noqa: BLE001 - whatever a decoder of somebody else's bytes raises, nobody is let in
            # Without its cause, whose words could hold the token.
            raise TokenRefused("token-unreadable", "The password is not a token that can be read.") from None

    def _verify(self, token: str, now: dt.datetime) -> Identity:
        header, claims = _parts(token)
        issuer, usable = self._issuers.get(_string(claims, "iss") or "", (None, {}))
        if issuer is None:
            raise TokenRefused("issuer-unknown", "This gateway does not know who issued the token.")
        _check_signature(token, header, issuer, usable)
        expires_at = _check_claims(claims, issuer, now)
        identity = _identity(issuer, claims, expires_at)
        if issuer.single_use:
            self._use(issuer, identity, now)
        return identity

    def _use(self, issuer: Issuer, identity: Identity, now: dt.datetime) -> None:
        key = (issuer.issuer, identity.token_id)
        with self._lock:
            self._used = {one: until for one, until in self._used.items() if until + LEEWAY > now}
            if not identity.token_id or key in self._used:
                raise TokenRefused("token-used", "The token was used before, and lets in only once.")
            self._used[key] = identity.expires_at


def issuer_of(token: str) -> str | None:
    """The issuer that a token names, unchecked: to look for its keys."""
    try:
        return _string(_parts(token)[1], "iss")
    except Exception:  # noqa: BLE001 - the verifier refuses it in its own words
        return None


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    if len(token) > MOST_BYTES:
        raise TokenRefused("token-too-large", f"The token is larger than {MOST_BYTES:,} bytes. Ask for fewer claims.")
    if not _SHAPE.fullmatch(token):
        raise TokenRefused("token-unreadable", "The password is not a token: passwords do not let in here.")
    header, claims, _ = token.split(".")
    return _json(header), _json(claims)


def _json(part: str) -> dict[str, Any]:
    return msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), type=dict[str, Any])


def _usable(issuer: Issuer) -> dict[tuple[str, str], Any]:
    """(key id, algorithm) -> public key, for the keys of the set that this issuer may sign with."""
    found: dict[tuple[str, str], Any] = {}
    for jwk in issuer.keys.get("keys", ()):
        for algorithm in issuer.algorithms:
            if isinstance(jwk, dict) and isinstance(jwk.get("kid"), str) and _fits(jwk, algorithm):
                try:
                    key = jwt.PyJWK(jwk, algorithm=algorithm).key
                except jwt.PyJWTError:
                    continue
                if _is_strong_public(key):
                    found.setdefault((jwk["kid"], algorithm), key)
    return found


def _fits(jwk: Mapping[str, Any], algorithm: str) -> bool:
    kty, crv = KEY_KINDS[algorithm]
    signs = jwk.get("use", "sig") == "sig" and "verify" in (jwk.get("key_ops") or ("verify",))
    return signs and jwk.get("kty") == kty and crv in (None, jwk.get("crv")) and jwk.get("alg", algorithm) == algorithm


def _is_strong_public(key: object) -> bool:
    """A private key in a set is somebody's mistake and no longer theirs alone."""
    if isinstance(key, rsa.RSAPublicKey):
        return key.key_size >= RSA_LEAST_BITS
    return isinstance(key, (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey))


def _check_signature(
    token: str, header: Mapping[str, Any], issuer: Issuer, usable: Mapping[tuple[str, str], Any]
) -> None:
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm not in issuer.algorithms:
        raise TokenRefused("algorithm-refused", f"The token is not signed in a way that {issuer.name} uses.")
    if "crit" in header or "b64" in header:
        raise TokenRefused("header-refused", "The token needs an extension that is not understood here.")
    if not isinstance(kid, str):
        raise TokenRefused("key-missing", "The token does not name its key (kid).")
    key = usable.get((kid, str(algorithm)))
    if key is None:
        raise TokenRefused("key-unknown", f"The key of the token is not one of {issuer.name}'s now.")
    try:
        jwt.PyJWS(algorithms=[str(algorithm)]).decode(token, key, algorithms=[str(algorithm)])
    except jwt.InvalidTokenError:
        raise TokenRefused("signature-wrong", "The token was changed or forged.") from None


def _check_claims(claims: Mapping[str, Any], issuer: Issuer, now: dt.datetime) -> dt.datetime:
    """Audience and times; returns when the token ends."""
    audiences = claims.get("aud")
    if issuer.audience not in (audiences if isinstance(audiences, list) else [audiences]):
        raise TokenRefused("audience-wrong", "The token was made for another service.")
    issued, expires = _time(claims, "iat"), _time(claims, "exp")
    begins = _time(claims, "nbf") if "nbf" in claims else issued
    if expires + LEEWAY <= now:
        raise TokenRefused(
            "token-expired",
            f"The token expired at {expires:%Y-%m-%d %H:%M:%S} UTC; the gateway's clock says {now:%Y-%m-%d %H:%M:%S}.",
        )
    if max(issued, begins) > now + LEEWAY:
        raise TokenRefused(
            "token-early", "The token is not valid yet. Compare the clocks of its issuer and the gateway."
        )
    if expires - issued > dt.timedelta(seconds=issuer.longest_seconds):
        raise TokenRefused(
            "token-too-long",
            f"The token is valid for longer than {issuer.longest_seconds} s, which is not let in here.",
        )
    return expires


def _time(claims: Mapping[str, Any], name: str) -> dt.datetime:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**37:
        raise TokenRefused("claims-incomplete", f"The token has no usable {name}.")
    return dt.datetime.fromtimestamp(value, dt.UTC)


def _identity(issuer: Issuer, claims: Mapping[str, Any], expires_at: dt.datetime) -> Identity:
    subject = _subject(issuer, claims)
    actors = _actors(claims, subject, issuer)
    common: dict[str, Any] = {
        "auth_method": "touchstone-token" if issuer.kind == "touchstone" else "oidc",
        "token_id": _string(claims, "jti") or "", "expires_at": expires_at,
        "roles": _strings(issuer.claim(claims, "roles"), "roles"), "mfa": _mfa(claims),
        "claims_purpose": _string(claims, "purpose", 1024), "claims_ticket": _string(claims, "ticket"),
        "databases": _strings(claims.get("databases"), "databases") if issuer.kind == "touchstone" else None,
    }  # fmt: skip
    if not actors:
        return Identity(id=subject.id or "", name=subject.name, email=subject.email, type=_kind(subject), **common)
    (agent, *earlier) = actors
    return Identity(
        id=agent.id or "", name=agent.name, type="agent", agent=agent,
        on_behalf_of=None if subject.id == agent.id else subject,
        delegation=tuple(Principal(id=one.id, name=one.name, type="agent") for one in earlier), **common,
    )  # fmt: skip


def _kind(subject: Principal) -> Literal["human", "service"]:
    return "service" if subject.type == "service" else "human"


def _subject(issuer: Issuer, claims: Mapping[str, Any]) -> Principal:
    """The person or service that the token is about. An e-mail address that the issuer calls unverified is left out."""
    id_ = _text(issuer.claim(claims, "id"), "id")
    email = _text(issuer.claim(claims, "email"), "email")
    if not id_:
        raise TokenRefused("claims-incomplete", "The token does not say whose it is.")
    kind: Literal["human", "service"]
    if issuer.kind == "touchstone":
        kind = claims.get("touchstone_type", "")
        if kind not in ("human", "service"):
            raise TokenRefused("claims-incomplete", "The token does not say whether a person has it.")
    else:
        said = (str(claims.get(name)) == value for name, value in issuer.service_claims.items() if name in claims)
        kind = "service" if any(said) else "human"
    verified = claims.get("email_verified", True) in (True, "true")
    name = _text(issuer.claim(claims, "name"), "name")
    return Principal(id=id_, name=name, email=email if verified else None, type=kind)


def _actors(claims: Mapping[str, Any], subject: Principal, issuer: Issuer) -> list[Agent]:
    """Who acts for the subject, the latest first (RFC 8693 section 4.1). A client that is an agent acts by itself."""
    found: list[Agent] = []
    act = claims.get("act")
    while act is not None:
        id_ = _text(act.get("sub"), "act") if isinstance(act, dict) else None
        if id_ is None or len(found) == MOST_ACTORS:
            raise TokenRefused("act-refused", f"The token's chain of actors is unclear or longer than {MOST_ACTORS}.")
        told = act.get("agent") if isinstance(act.get("agent"), dict) else {}
        said = {name: _string(told, name) for name in ("name", "version", "run_id", "model")}
        found.append(Agent(id=id_, **{**said, "name": said["name"] or _string(act, "name")}))
        act = act.get("act")
    client = _string(claims, "azp") or _string(claims, "client_id")
    if not found and client in issuer.agent_clients:
        if subject.type == "service":
            # An agent that signs in as itself acts for nobody.
            return [Agent(id=subject.id, name=subject.name or client)]
        found.append(Agent(id=client))
    return found


def _mfa(claims: Mapping[str, Any]) -> bool | None:
    """Whether several factors were used, where the methods (RFC 8176) tell."""
    methods = claims.get("amr")
    if not isinstance(methods, list) or not methods:
        return None
    return True if "mfa" in methods else False if methods == ["pwd"] else None


def _strings(value: Any, name: str) -> tuple[str, ...]:
    listed: Sequence[Any] = value if isinstance(value, list) else () if value is None else (value,)
    return tuple(text for one in listed if (text := _text(one, name)))


def _string(claims: Mapping[str, Any], name: str, most: int = 512) -> str | None:
    return _text(claims.get(name), name, most)


def _text(value: Any, name: str, most: int = 512) -> str | None:
    """A claim's text; None when it is absent or empty. Raises TokenRefused for what could not stand in a record."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > most or _UNFIT.search(value):
        raise TokenRefused("claims-unreadable", f"The token's claim {name} is not a text of at most {most} characters.")
    return value
