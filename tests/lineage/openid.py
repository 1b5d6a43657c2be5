"""An OpenID provider on this machine, which a test may make lie."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT, SECRET, KEY = "touchstone", "s3cret & more", "first"
Lie = Callable[[dict[str, Any]], Any]


class Provider:
    """Answers discovery, keys, tokens and profiles; `lie` changes what an id token says, `sign` how it is signed."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.other_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.begun: dict[str, dict[str, str]] = {}
        self.told: dict[str, Any] = {}
        self.profile: dict[str, Any] = {}
        self.lie: Lie = lambda claims: None
        self.sign = self.signed
        self.discovery: dict[str, Any] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.issuer = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def honest(self) -> None:
        self.lie, self.sign, self.discovery, self.profile = (lambda claims: None), self.signed, {}, {}
        self.told = {"sub": "u-1", "email": "Dana@Shop.example", "email_verified": True}

    def signed(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self.key, "RS256", headers={"kid": KEY})

    def enter(self, address: str) -> str:
        """What a browser does at the authorize address once the person has signed in: the query that it comes back with."""
        parts = urlsplit(address)
        assert parts.path == "/authorize"
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        assert (asked["client_id"], set(asked["scope"].split())) == (CLIENT, {"openid", "email"})
        assert len(asked["nonce"]) > 40
        assert asked["nonce"] != asked["state"]
        code = f"code-{len(self.begun)}"
        self.begun[code] = asked
        return f"{urlsplit(asked['redirect_uri']).path}?code={code}&state={asked['state']}"

    def _token(self, form: dict[str, list[str]]) -> dict[str, Any] | None:
        asked = self.begun.pop(form["code"][0], None)
        if asked is None or form["client_secret"] != [SECRET] or form["redirect_uri"] != [asked["redirect_uri"]]:
            return None
        digest = hashlib.sha256(form["code_verifier"][0].encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]:
            return None
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"], **self.told}
        self.lie(claims)
        return {"access_token": "opaque", "token_type": "Bearer", "id_token": self.sign(claims)}

    def _keys(self) -> dict[str, Any]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [public | {"kid": KEY, "use": "sig", "alg": "RS256"}]}

    def _found(self) -> dict[str, Any]:
        names = {
            "authorization_endpoint": "authorize",
            "token_endpoint": "token",
            "jwks_uri": "jwks",
            "userinfo_endpoint": "me",
        }
        told = {name: f"{self.issuer}/{path}" for name, path in names.items()}
        methods = ["client_secret_post", "client_secret_basic"]
        return {"issuer": self.issuer, "token_endpoint_auth_methods_supported": methods} | told | self.discovery

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                pages = {"/.well-known/openid-configuration": provider._found, "/jwks": provider._keys}
                if self.path.startswith("/authorize?"):
                    return self._lead(provider.enter(self.path))
                if self.path == "/me" and self.headers["Authorization"] == "Bearer opaque":
                    return self._answer(provider.profile)
                return self._answer(pages[self.path]() if self.path in pages else None)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self._answer(provider._token(parse_qs(body)) if self.path == "/token" else None)

            def _lead(self, back: str) -> None:
                home = urlsplit(parse_qs(urlsplit(self.path).query)["redirect_uri"][0])
                self.send_response(302)
                self.send_header("Location", f"{home.scheme}://{home.netloc}{back}")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def _answer(self, found: dict[str, Any] | None) -> None:
                body = json.dumps(found or {"error": "invalid_grant"}).encode()
                self.send_response(200 if found else 400)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        return Handler
