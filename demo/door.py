"""The way into the order database: the gateway's settings, its throw-away certificate, and tokens as its users get them."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import time
import urllib.error
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from demo import authority
from demo.monitored import free_port
from demo.shop import DATABASE, DATASOURCE, Shop
from demo.store import Store

ENVIRONMENT = "production"
PATIENCE_SECONDS = 120
VISITOR_MINUTES = 60
APPROVER = "security@shop.example"
PEOPLE = tuple(f"{name}@shop.example" for name in ("alice", "bob", "carol", "dana", "erin", "visitor"))
SERVICES = ("orders-api", "reporting")
ACCOUNTS = {
    "alice": ("human", ["alice@shop.example"]),
    "bob": ("human", ["bob@shop.example"]),
    "carol": ("human", ["carol@shop.example"]),
    "visitor": ("human", ["visitor@shop.example"]),
    "ops_console": ("human", ["bob@shop.example", "erin@shop.example"]),
    "analyst_agent": ("agent", ["dana@shop.example"]),
    "orders_api": ("service", ["orders-api"]),
    "reporting": ("service", ["reporting"]),
    "touchstone_gateway": ("service", ["nobody"]),
}
"""Who works under which account. The last is the gateway's own, for the catalog: no token says that it is nobody's."""
EXCUSED = ["touchstone", "touchstone_gateway", "warehouse", "visitor", "postgres"]
"""Who rightly goes around: collectors, the gateway for the catalog, a terminal that cannot use one, you, and what measures this demo."""


class Door:
    """The gateway of this demo. Everything of it lies in `folder`; `keys` are the API tokens of those who work."""

    def __init__(self, folder: Path, store: Store, shop: Shop, keys: Mapping[str, str]) -> None:
        self.folder, self.store, self.shop, self.keys = folder, store, shop, keys
        self.port = free_port()
        self.certificate = folder / "gateway.crt"
        self.settings = folder / "settings.toml"

    def write(self, source_token: str) -> None:
        """Settings, certificate and secrets, for `python -m enforcement.gateway`."""
        self.folder.mkdir(mode=0o700)
        self._write_certificate()
        private(self.folder / "gateway.token", source_token)
        private(self.folder / "visitor.token", self.keys["visitor@shop.example"])
        for account in ACCOUNTS:
            private(self.folder / f"{account}.password", self.shop.passwords[account])
        self.settings.write_text(self._text())

    def wait(self) -> None:
        """Until the store gives tokens for it. RuntimeError when it does not come up."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self.token("visitor@shop.example", minutes=1)
                return
            except urllib.error.HTTPError as error:
                if error.code != 404 or time.monotonic() > deadline:
                    raise RuntimeError(f"the gateway is not there: {error.read(2000).decode()}") from error
            time.sleep(1)

    def token(self, who: str, **wanted: Any) -> str:
        """What somebody gives as password: asked for with their API token, as a program of theirs would."""
        body = {"database": DATABASE, **{name: value for name, value in wanted.items() if value}}
        return str(self.store.post("/api/v1/connect", self.keys[who], body)["token"])

    def dsn(self, login: str, who: str, **wanted: Any) -> str:
        """A connection string through the gateway: `who`, under the account `login`, with purpose, ticket, agent."""
        return psycopg.conninfo.make_conninfo(
            "", host="127.0.0.1", port=self.port, dbname=DATABASE, user=login, password=self.token(who, **wanted),
            sslmode="verify-full", sslrootcert=str(self.certificate),
        )  # fmt: skip

    def decide(self, request_id: str, reason: str) -> None:
        """Another person approves a held statement as soon as the store lists it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while request_id not in {row["request_id"] for row in self.store.ask("gateway/held")["items"]}:
            if time.monotonic() > deadline:
                raise RuntimeError(f"request {request_id} did not come to the store")
            time.sleep(0.2)
        self.store.post(
            f"/api/v1/gateway/held/{request_id}/decision",
            self.keys[APPROVER],
            {"decision": "approve", "reason": reason},
        )

    def write_psql(self, program: str) -> Path:
        """A script of the visitor's own: psql through the gateway. Its token lets in for an hour."""
        where = f"host=127.0.0.1 port={self.port} dbname={DATABASE} user=visitor@shop.example sslmode=verify-full"
        line = (
            f"PGPASSWORD={self.token('visitor@shop.example', minutes=VISITOR_MINUTES)} PGSSLROOTCERT={self.certificate}"
        )
        until = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=VISITOR_MINUTES)
        again = f"TOUCHSTONE_DATA={self.store.environment['TOUCHSTONE_DATA']} TOUCHSTONE_TOKEN_FILE={self.folder / 'visitor.token'}"
        file = self.folder.parent / "gateway.psql"
        private(
            file,
            f"# The token lets in until {until:%H:%M} UTC. Then: {again} bin/manage connect {DATABASE}\n"
            f'{line} exec {program} "{where}" "$@"\n',
        )
        return file

    def _write_certificate(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        here = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        made = authority.certificate("Demo gateway", key, ca=True, names=here)
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        private(self.folder / "gateway.key", secret.decode())

    def _text(self) -> str:
        return f"""\
[gateway]
name = "shop-gateway"
folder = "spool"
listen = "127.0.0.1:{self.port}"
tls_certificate = "gateway.crt"
tls_key = "gateway.key"
store = "{self.store.url}"
token_file = "gateway.token"

[[database]]
name = "{DATABASE}"
datasource = "{DATASOURCE}"
environment = "{ENVIRONMENT}"
host = "127.0.0.1"
port = {self.shop.server.port}
sslmode = "disable"
insecure_because = "gateway and database are on one machine, and this database was made without TLS"
required = true
other_accounts = {json.dumps(EXCUSED)}
catalog_account = "touchstone_gateway"
{"".join(_account(name, *who) for name, who in ACCOUNTS.items())}"""


def _account(name: str, kind: str, people: list[str]) -> str:
    return f"""
[[database.account]]
account = "{name}"
password_file = "{name}.password"
types = ["{kind}"]
people = {json.dumps(people)}
"""


def private(file: Path, text: str) -> None:
    """A file that only its owner reads."""
    file.touch(mode=0o600)
    file.write_text(text)
