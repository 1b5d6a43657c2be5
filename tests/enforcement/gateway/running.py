"""A gateway for tests: with a throw-away authority, a signer of tokens, and a PostgreSQL behind it that speaks TLS."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import psycopg
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID

from demo.monitored import Monitored
from enforcement import spool as spools
from enforcement.gateway import server, settings
from lineage import guardrails

BASE = Path(__file__).resolve().parent.parent.parent.parent
ALLOW_ALL = "version = 1\n"
ISSUER = "https://touchstone.test"
SHOP = """
create table customers (id int primary key, name text not null, email text, iban text, note text);
insert into customers select n, 'Customer ' || n, 'c' || n || '@mail.example', null, 'note ' || n from generate_series(1, 50) n;
create table orders (id int primary key, customer_id int references customers, total numeric(10, 2), placed_at timestamptz default now());
insert into orders select n, 1 + n % 50, n * 1.5 from generate_series(1, 200) n;
create table notes (id serial primary key, text text);
grant select, insert, update, delete, truncate on all tables in schema public to app;
grant usage on all sequences in schema public to app;
grant create on schema public to app;
"""


def until(holds: Callable[[], Any], seconds: float = 30) -> Any:
    """Wait until `holds` gives something true; that."""
    end = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.02)


class Authority:
    """A certificate authority that lives as long as the test; `folder` holds ca.crt, server.crt and server.key."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.ca = folder, folder / "ca.crt"
        self.certificate, self.key = folder / "server.crt", folder / "server.key"
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Test authority {secrets.token_hex(4)}")])
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca = self._built(name, name, ca_key.public_key(), is_ca=True).sign(ca_key, hashes.SHA256())
        own_key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        own = self._built(subject, name, own_key.public_key(), is_ca=False).sign(ca_key, hashes.SHA256())
        self.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
        self.certificate.write_bytes(own.public_bytes(serialization.Encoding.PEM))
        private(self.key, own_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ))  # fmt: skip

    def _built(self, subject: x509.Name, issuer: x509.Name, key: Any, *, is_ca: bool) -> x509.CertificateBuilder:
        today = dt.datetime.now(dt.UTC)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
        made = made.serial_number(x509.random_serial_number())
        made = made.not_valid_before(today - dt.timedelta(days=1)).not_valid_after(today + dt.timedelta(days=2))
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        made = made.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        return made if is_ca else made.add_extension(x509.SubjectAlternativeName(names), critical=False)


class Signer:
    """Makes tokens as the store makes them; `keys` is the file with its public key."""

    def __init__(self, folder: Path) -> None:
        self._key = ed25519.Ed25519PrivateKey.generate()
        public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self._key.public_key()))
        self.keys = folder / "keys.json"
        self.keys.write_text(json.dumps({"keys": [{**public, "kid": "test", "use": "sig", "alg": "EdDSA"}]}))

    def token(self, who: str = "dana@shop.example", **more: Any) -> str:
        """A token of the person (or with `touchstone_type="service"` the service) `who`; claims can be replaced, None leaves out.

        `agent="report-bot"` makes it an agent's that works for `who`; `minutes=-5` an expired one.
        """
        now = dt.datetime.now(dt.UTC)
        minutes, agent = more.pop("minutes", 30), more.pop("agent", None)
        claims: dict[str, Any] = {
            "iss": ISSUER, "aud": "touchstone-gateway", "sub": who, "email": who if "@" in who else None,
            "name": who.partition("@")[0].title(), "touchstone_type": "human", "roles": [], "databases": ["shop"],
            "jti": secrets.token_hex(8), "iat": now + dt.timedelta(minutes=min(minutes, 0) - 1), "exp": now + dt.timedelta(minutes=minutes),
        }  # fmt: skip
        if agent:
            claims["act"] = {"sub": agent, "agent": {"name": agent, "version": "1", "run_id": "run-1"}}
        claims = {name: value for name, value in (claims | more).items() if value is not None}
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": "test"})


class Shop:
    """A database of its own behind the gateway, with the accounts `app` and `other`; reached with TLS and without the gateway."""

    def __init__(self, cluster: Monitored, authority: Authority, folder: Path) -> None:
        self.cluster, self.authority, self.folder = cluster, authority, folder
        self.name = f"shop_{secrets.token_hex(4)}"
        self.port = cluster.port
        with cluster.connect() as admin:
            for role in ("app", "other"):
                admin.execute(
                    f"do $$ begin create role {role} login; exception when duplicate_object then null; end $$"
                )
                password = f"{role}-{cluster.port}-password"
                admin.execute(f"alter role {role} password '{password}'")
                private(folder / f"{role}.password", password.encode())
            admin.execute(f"create database {self.name}")
        self.run(SHOP)

    def run(self, text: str, *parameters: Any) -> list[Any]:
        """As superuser, around the gateway; the rows of the last statement."""
        with self.cluster.connect(self.name) as admin:
            cursor = admin.execute(text, parameters or None)
            while cursor.nextset():
                pass
            return cursor.fetchall() if cursor.description else []

    def sessions(self) -> list[tuple[Any, ...]]:
        """What the database has open for the accounts, without the gateway's own."""
        return self.run(
            "select pid, state, query from pg_stat_activity where datname = current_database() and usename in ('app', 'other')"
            " and application_name not like 'touchstone-gateway%'"
        )

    def is_running(self, text: str) -> bool:
        """Whether a statement with this text runs in one of them."""
        return any(text in query and state == "active" for _, state, query in self.sessions())

    def waits(self) -> list[str]:
        """What the active ones wait for."""
        found = self.run(
            "select wait_event from pg_stat_activity where datname = current_database() and usename in ('app', 'other')"
            " and state = 'active' and wait_event is not null"
        )
        return [str(row[0]) for row in found]

    def drop(self) -> None:
        with self.cluster.connect() as admin:
            admin.execute(f"drop database {self.name} with (force)")


def serve_tls(cluster: Monitored, authority: Authority) -> None:
    """Make a running cluster speak TLS with the authority's certificate, until `serve_plain`."""
    for path in (authority.certificate, authority.key):
        copied = cluster.data / path.name
        shutil.copy(path, copied)
        copied.chmod(0o600)
        if cluster.user is not None:
            os.chown(copied, cluster.user.pw_uid, cluster.user.pw_gid)
    with cluster.connect() as admin:
        admin.execute("alter system set ssl = on")
        admin.execute("select pg_reload_conf()")
    until(lambda: _ssl_of(cluster) == "on")


def serve_plain(cluster: Monitored) -> None:
    with cluster.connect() as admin:
        admin.execute("alter system reset ssl")
        admin.execute("select pg_reload_conf()")


def _ssl_of(cluster: Monitored) -> str:
    with cluster.connect() as admin:
        return str(admin.execute("show ssl").fetchall()[0][0])


def private(path: Path, content: bytes) -> None:
    """A file that only its owner reads."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_bytes(content)


class Client:
    """What a client needs to reach a gateway of the tests, in a thread or a process."""

    port: int
    shop: Shop
    signer: Signer
    folder: Path

    def parameters(self, who: str = "dana@shop.example", **more: Any) -> dict[str, Any]:
        """libpq parameters; `claims={…}` go into the token, everything else is libpq's."""
        claims = more.pop("claims", {})
        token = more.pop("password", None) or self.signer.token(who, **claims)
        return {
            "host": "localhost", "port": self.port, "dbname": "shop", "user": who, "password": token,
            "sslmode": "verify-full", "sslrootcert": str(self.shop.authority.ca), "connect_timeout": 30, **more,
        }  # fmt: skip

    def connect(
        self, who: str = "dana@shop.example", *, autocommit: bool = True, **more: Any
    ) -> psycopg.Connection[Any]:
        """A psycopg connection through the gateway."""
        return psycopg.connect(
            psycopg.conninfo.make_conninfo("", **self.parameters(who, **more)), autocommit=autocommit
        )

    def psql(
        self, *commands: str, who: str = "dana@shop.example", stdin: str | None = None, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """psql with each of `commands` as -c, or with `stdin` as its script."""
        told = {
            **os.environ,
            "PGPASSWORD": (parameters := self.parameters(who, **more)).pop("password"),
            "PGAPPNAME": "psql",
        }
        options = [part for command in commands for part in ("-c", command)]
        line = [
            "psql",
            "-X",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=0",
            psycopg.conninfo.make_conninfo("", **parameters),
            *options,
        ]
        return subprocess.run(line, env=told, input=stdin, capture_output=True, text=True, timeout=120, check=False)

    def events(self, **wanted: Any) -> list[dict[str, Any]]:
        """The events that were spooled so far, in order; those whose fields are as `wanted`."""
        found = []
        for path in sorted((self.folder / "spool" / "segments").glob("*.seg")):
            for frame, _ in spools.frames(path):
                found += [json.loads(line).get("record") for line in frame.lines]
        return [one for one in found if one and all(one.get(name) == value for name, value in wanted.items())]

    def sessions(self) -> list[dict[str, Any]]:
        """The session events of clients: the gateway's own are left out."""
        return [one for one in self.events(kind="session") if one["actor"].get("type") != "system"]

    def queries(self, text: str) -> list[dict[str, Any]]:
        """The query events whose statement holds `text`."""
        return [one for one in self.events(kind="query") if text in (one.get("statement") or {}).get("text", "")]


def settings_file(
    folder: Path, shop: Shop, signer: Signer, gateway: str = "", database: str = "", more: str = ""
) -> Path:
    """A settings file; the texts are put at the end of their tables."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key, ca = shop.authority.certificate, shop.authority.key, shop.authority.ca
    path = folder / "gateway.toml"
    path.write_text(f"""
[gateway]
name = "test"
folder = "{folder}"
listen = "127.0.0.1:0"
tls_certificate = "{certificate}"
tls_key = "{key}"
drain_seconds = 2
{gateway}

[[issuer]]
name = "test"
kind = "touchstone"
issuer = "{ISSUER}"
audience = "touchstone-gateway"
algorithms = ["EdDSA"]
keys_file = "{signer.keys}"

[[database]]
name = "shop"
datasource = "shop"
environment = "production"
host = "localhost"
port = {shop.port}
dbname = "{shop.name}"
sslrootcert = "{ca}"
{database}

[[database.account]]
account = "app"
password_file = "{shop.folder / "app.password"}"
types = ["human", "service", "agent"]
people = ["*@shop.example", "importer"]

[[database.account]]
account = "other"
password_file = "{shop.folder / "other.password"}"
people = ["carol@shop.example"]
{more}
""")
    return path


class Running(Client):
    """A gateway in a thread of the test's own process."""

    def __init__(self, folder: Path, shop: Shop, signer: Signer, **texts: str) -> None:
        self.folder, self.shop, self.signer = folder, shop, signer
        self.settings = settings.load(settings_file(folder, shop, signer, **texts))
        self.port = 0
        self.gateway: server.Gateway
        self.loop: asyncio.AbstractEventLoop
        self._ready = threading.Event()
        self._fault: BaseException | None = None
        # A daemon: a gateway that does not get ready must not keep the tests from ending.
        self._thread = threading.Thread(target=self._run, name="gateway", daemon=True)
        self._thread.start()
        self._ready.wait(60)
        if self._fault is not None:
            raise self._fault
        until(lambda: self.gateway.served["shop"].keeper.current)

    def call(self, work: Callable[[], Any]) -> Any:
        """Do something in the gateway's event loop; its result."""

        async def done() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result(60)

    def rules(self, text: str = ALLOW_ALL) -> None:
        """From now on these guardrails hold."""
        self.call(lambda: self.gateway.put_rules(guardrails.load(text)))

    def reload(self) -> None:
        """Return when the catalog has been read again."""
        asyncio.run_coroutine_threadsafe(self.gateway.served["shop"].keeper.load(), self.loop).result(60)

    def stop(self) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.gateway.stop)
            self._thread.join(60)

    def _run(self) -> None:
        try:
            uvloop.run(self._serve())
        except BaseException as error:  # noqa: BLE001  told to the test, which waits
            self._fault = error
            self._ready.set()

    async def _serve(self) -> None:
        queue = spools.Spool(self.folder / "spool")
        self.loop = asyncio.get_running_loop()
        self.gateway = server.Gateway(self.settings, queue, None)
        _, self.port = await self.gateway.start()
        self._ready.set()
        try:
            await self.gateway.run()
        finally:
            self.gateway.recorder.close()
            queue.close()


class Process(Client):
    """A gateway as `python -m enforcement.gateway`."""

    program = ("-m", "enforcement.gateway")

    def __init__(self, folder: Path, shop: Shop, signer: Signer, **texts: str) -> None:
        self.folder, self.shop, self.signer = folder, shop, signer
        self.process = subprocess.Popen(
            [sys.executable, *self.program, settings_file(folder, shop, signer, **texts)],
            cwd=BASE, stdout=subprocess.PIPE, stderr=(folder / "stderr").open("wb"), text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        told = re.match(r"listening on .*:(\d+)$", line := self.process.stdout.readline())
        assert told, f"{line!r} {(folder / 'stderr').read_text()}"
        self.port = int(told[1])

    def memory_kib(self) -> int:
        """Resident memory now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.returncode
