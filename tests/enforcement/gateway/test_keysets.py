"""Where public keys come from, when newer ones are looked for, and what happens when they cannot be had."""

from __future__ import annotations

import datetime as dt
import http.server
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from enforcement.gateway import identity, keysets
from enforcement.gateway.identity import TokenRefused, Verifier
from enforcement.gateway.keysets import KeySets, KeysUnavailable
from tests.enforcement.gateway import tokens
from tests.enforcement.gateway.tokens import AT, OIDC, Keys, claims, oidc_claims, signed


class Provider(http.server.ThreadingHTTPServer):
    """An issuer's https server with one page: its key set."""

    body: bytes = b"{}"
    status = 200
    asked = 0
    certificate = ""

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server_port}/keys?v=1"


class Page(http.server.BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys()


@pytest.fixture
def provider(keys: Keys, tmp_path: Path) -> Iterator[Provider]:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Provider(("127.0.0.1", 0), Page)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.certificate = str(certificate)
    server.body = json.dumps(keys.oidc_set()).encode()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Clock:
    """Time that passes when told."""

    now = AT.timestamp()

    def __call__(self) -> float:
        return self.now


def sets(keys: Keys, provider: Provider, folder: Path, clock: Clock) -> KeySets:
    return KeySets(
        [keys.oidc_issuer(keys={})], {OIDC: provider.url}, folder / "keys", ca_file=provider.certificate, clock=clock
    )


def refused(of: KeySets | Verifier, token: str) -> str:
    with pytest.raises(TokenRefused) as found:
        of.verify(token, AT)
    return found.value.code


def test_keys_are_fetched_when_first_needed_and_kept_for_a_start_without_the_issuer(
    keys: Keys, provider: Provider, tmp_path: Path
) -> None:
    token, clock = signed(keys.oidc, oidc_claims(), "RS256"), Clock()
    first = sets(keys, provider, tmp_path, clock)
    assert first.verify(token, AT).id == "dana@shop.example"
    first.verify(token, AT)
    assert provider.asked == 1
    clock.now = dt.datetime.now(dt.UTC).timestamp()
    provider.status = 503
    assert sets(keys, provider, tmp_path, clock).verify(token, AT).id == "dana@shop.example"


def test_an_unknown_key_id_looks_for_newer_keys_once_a_minute(keys: Keys, provider: Provider, tmp_path: Path) -> None:
    clock = Clock()
    known = sets(keys, provider, tmp_path, clock)
    newer = generate_private_key(65537, 2048)
    token = signed(newer, oidc_claims(), "RS256", kid="r2")
    known.verify(signed(keys.oidc, oidc_claims(), "RS256"), AT)
    for _ in range(5):
        assert refused(known, token) == "key-unknown"
    assert provider.asked == 1
    provider.body = json.dumps({"keys": [tokens.jwk(newer, "RS256", "r2")]}).encode()
    assert refused(known, token) == "key-unknown"
    clock.now += 61
    assert known.verify(token, AT).id == "dana@shop.example"
    assert provider.asked == 2
    # A key that its issuer took out counts no more.
    assert refused(known, signed(keys.oidc, oidc_claims(), "RS256")) == "key-unknown"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"keys": 5}', b"x" * 2_000_000, b'{"keys": []}'])
def test_an_answer_that_is_no_key_set_lets_nobody_in(
    keys: Keys, provider: Provider, tmp_path: Path, body: bytes
) -> None:
    provider.body = body
    assert refused(sets(keys, provider, tmp_path, Clock()), signed(keys.oidc, oidc_claims(), "RS256")) == "key-unknown"


def test_keys_that_cannot_be_had_again_for_a_day_count_no_more(keys: Keys, provider: Provider, tmp_path: Path) -> None:
    token, clock = signed(keys.oidc, oidc_claims(), "RS256"), Clock()
    known = sets(keys, provider, tmp_path, clock)
    known.verify(token, AT)
    provider.status = 302
    clock.now += 3700
    assert known.verify(token, AT).id == "dana@shop.example"
    assert provider.asked == 2
    clock.now += 24 * 3600
    assert refused(known, token) == "key-unknown"
    provider.status = 200
    clock.now += 61
    assert known.verify(token, AT).id == "dana@shop.example"


def test_keys_come_over_https_with_a_good_certificate_alone(keys: Keys, provider: Provider, tmp_path: Path) -> None:
    with pytest.raises(KeysUnavailable, match="no https"):
        keysets.fetch(provider.url.replace("https", "http"), provider.certificate)
    with pytest.raises(KeysUnavailable, match="SSLCertVerificationError"):
        keysets.fetch(provider.url)
    with pytest.raises(KeysUnavailable, match="SSLCertVerificationError"):
        keysets.fetch(provider.url.replace("localhost", "127.0.0.1"), provider.certificate)
    assert provider.asked == 0


def test_keys_from_a_file_are_read_again_when_a_key_is_unknown(keys: Keys, tmp_path: Path) -> None:
    file, clock = tmp_path / "set.json", Clock()
    file.write_text('{"keys": []}')
    known = KeySets([keys.oidc_issuer(keys={})], {OIDC: str(file)}, tmp_path / "kept", clock=clock)
    token = signed(keys.oidc, oidc_claims(), "RS256")
    assert refused(known, token) == "key-unknown"
    file.write_text(json.dumps(keys.oidc_set()))
    clock.now += 61
    assert known.verify(token, AT).id == "dana@shop.example"
    file.write_text("cut")
    with pytest.raises(ValueError, match="no JSON object"):
        KeySets([keys.oidc_issuer(keys={})], {OIDC: str(file)}, tmp_path / "kept", clock=clock)


def test_the_stores_keys_are_kept_for_a_start_without_the_store(keys: Keys, tmp_path: Path) -> None:
    token = signed(keys.store, claims())
    first = KeySets([], {}, tmp_path)
    assert refused(first, token) == "issuer-unknown"
    first.put_store(keys.store_set())
    assert KeySets([], {}, tmp_path).verify(token, AT).id == "dana@shop.example"
    with pytest.raises(ValueError, match="issuer and keys"):
        first.put_store({"keys": []})
    assert first.verify(token, AT).id == "dana@shop.example"
    first.put_store({**keys.store_set(), "keys": []})
    assert refused(first, token) == "key-unknown"
    for kept in tmp_path.iterdir():
        kept.write_text('{"cut')
    assert refused(KeySets([], {}, tmp_path), token) == "issuer-unknown"


def test_the_store_cannot_speak_for_another_issuer(keys: Keys, tmp_path: Path) -> None:
    known = KeySets([keys.oidc_issuer()], {}, tmp_path)
    with pytest.raises(ValueError, match="both called"):
        known.put_store({**keys.store_set(), "issuer": OIDC})
    assert known.verify(signed(keys.oidc, oidc_claims(), "RS256"), AT).auth_method == "oidc"
    assert identity.issuer_of("nonsense") is None
