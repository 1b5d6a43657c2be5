"""The gateway beside a direct connection and pgbouncer: added latency, statements a second of a core, streams, masking, memory.

Everything on one machine and the loopback, without TLS on any of the three ways, with the guardrails that hold from the first
minute; the gateway records each statement to its disk as it always does. Rounds are interleaved; medians are printed.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import re
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jwt
import psycopg
from cryptography.hazmat.primitives.asymmetric import ed25519

from benchmarks._running import ROOT, machine, wait_for
from benchmarks.collectors import QUIET, cpu_seconds
from demo.monitored import DEBIAN, Monitored, free_port

ROUNDS, SECONDS, SCALE = 3, 5, 5
IDLE_SESSIONS = 1000
STREAM_ROWS = 2_000_000
PAGES, PAGE_ROWS = 400, 500
SCRIPTS = {"select-only": "--select-only", "TPC-B": "--builtin=tpcb-like"}
WIDE = f"select n, repeat('x', 100) as filler from generate_series(1, {STREAM_ROWS}) n"
ACCOUNT = "bench"
SETTINGS = """
[gateway]
name = "bench"
folder = "run"
listen = "127.0.0.1:{listen}"
cleartext_on_loopback = true
max_sessions = {sessions}
max_sessions_per_identity = {sessions}
spool_limit_mib = 16384
[[issuer]]
name = "bench"
kind = "touchstone"
issuer = "https://bench.test"
audience = "touchstone-gateway"
algorithms = ["EdDSA"]
keys_file = "keys.json"
[[database]]
name = "bench"
datasource = "bench"
environment = "production"
host = "127.0.0.1"
port = {port}
sslmode = "disable"
insecure_because = "all three ways are measured without TLS"
[[database.account]]
account = "{ACCOUNT}"
password_file = "password"
types = ["human", "service", "agent"]
"""


@dataclass
class Way:
    """One way to the database: where it is, as whom, with which password."""

    name: str
    port: int
    user: str
    password: str
    latencies: dict[tuple[str, int], list[list[float]]] = field(default_factory=dict)

    def dsn(self, **more: str) -> str:
        return psycopg.conninfo.make_conninfo(
            "",
            host="127.0.0.1",
            port=self.port,
            user=self.user,
            password=self.password,
            dbname="bench",
            sslmode="disable",
            **more,
        )


def main() -> None:
    root = Path(tempfile.mkdtemp(prefix="touchstone-bench-"))
    root.chmod(0o711)
    database = Monitored(root, settings=QUIET | {"max_connections": str(IDLE_SESSIONS + 100)})
    if not database.has_pgaudit or shutil.which("pgbouncer") is None:
        raise SystemExit(
            "This needs Debian's postgresql-15, postgresql-15-pgaudit and pgbouncer; apt-get install them."
        )
    try:
        database.start()
        password = prepare(database)
        direct = Way("direct", database.port, ACCOUNT, password)
        with (
            bouncer(root, database, password) as bounced,
            gateway(root, database, password) as (process, through, agent),
        ):
            print(f"{machine()}; PostgreSQL 15, pgbench scale {SCALE}, {SECONDS} s, median of {ROUNDS} rounds\n")
            latency([direct, bounced, through], process, root)
            streams([direct, bounced, through], process)
            masking(direct, agent)
            idle(process, through)
    finally:
        database.remove()
        shutil.rmtree(root, ignore_errors=True)


def prepare(database: Monitored) -> str:
    """The database `bench` with pgbench's tables and customers to mask; the password of its account."""
    password = secrets.token_urlsafe(12)
    with database.connect() as admin:
        admin.execute(f"create role {ACCOUNT} login password '{password}'")
        admin.execute(f"create database bench owner {ACCOUNT}")
    environment = {**os.environ, "PGPASSWORD": password}
    subprocess.run(
        [DEBIAN / "bin/pgbench", "-i", "-q", f"--scale={SCALE}", "-h", "127.0.0.1", "-p", str(database.port), "-U", ACCOUNT, "bench"],
        env=environment, check=True, capture_output=True,
    )  # fmt: skip
    with database.connect("bench") as admin:
        admin.execute("create table customers (id int primary key, name text, email text, iban text)")
        admin.execute(
            "insert into customers select n, 'Customer ' || n, 'c' || n || '@mail.example', 'DE89370400440532013000' "
            f"from generate_series(1, {PAGES * PAGE_ROWS}) n"
        )
        admin.execute(f"grant select on customers to {ACCOUNT}")
        admin.execute("vacuum analyze")
    return password


@contextmanager
def bouncer(root: Path, database: Monitored, password: str) -> Iterator[Way]:
    """pgbouncer in session mode, as the gateway gives each client a connection of its own."""
    folder, port = root / "bouncer", free_port()
    folder.mkdir()
    (folder / "users").write_text(f'"{ACCOUNT}" "{password}"\n')
    (folder / "bouncer.ini").write_text(f"""
[databases]
bench = host=127.0.0.1 port={database.port} dbname=bench
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = session
max_client_conn = 200
default_pool_size = 100
ignore_startup_parameters = extra_float_digits,options
logfile = {folder}/log
""")
    for path in (folder, *folder.iterdir()):
        shutil.chown(path, "postgres") if os.geteuid() == 0 else None
    words = ["pgbouncer", *(["-u", "postgres"] if os.geteuid() == 0 else []), f"{folder}/bouncer.ini"]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 30, "pgbouncer answers")
        yield Way("pgbouncer", port, ACCOUNT, password)
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def gateway(root: Path, database: Monitored, password: str) -> Iterator[tuple[subprocess.Popen[bytes], Way, Way]]:
    """Its process, and the ways of a service and of an agent through it."""
    folder, port = root / "gateway", free_port()
    folder.mkdir()
    key = ed25519.Ed25519PrivateKey.generate()
    public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key()))
    (folder / "keys.json").write_text(json.dumps({"keys": [{**public, "kid": "bench", "use": "sig", "alg": "EdDSA"}]}))
    secret = folder / "password"
    secret.touch(mode=0o600)
    secret.write_text(password)
    text = SETTINGS.format(listen=port, port=database.port, sessions=IDLE_SESSIONS + 50, ACCOUNT=ACCOUNT)
    (folder / "gateway.toml").write_text(text)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "enforcement.gateway", folder / "gateway.toml"], cwd=ROOT, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_for(
            lambda: b"listening" in (folder / "log").read_bytes(), 60, f"the gateway answers; see {folder / 'log'}"
        )
        time.sleep(2)
        service = token(key, "orders-api", touchstone_type="service")
        agent = token(key, "dana@bench.test", act={"sub": "report-bot", "agent": {"name": "report-bot"}})
        yield process, Way("gateway", port, ACCOUNT, service), Way("gateway", port, ACCOUNT, agent)
    finally:
        process.terminate()
        process.wait(60)


def token(key: ed25519.Ed25519PrivateKey, who: str, **claims: object) -> str:
    now = dt.datetime.now(dt.UTC)
    told = {
        "iss": "https://bench.test", "aud": "touchstone-gateway", "sub": who, "name": who, "touchstone_type": "human", "roles": [],
        "databases": ["bench"], "jti": secrets.token_hex(8), "iat": now, "exp": now + dt.timedelta(hours=3),
    }  # fmt: skip
    return jwt.encode(told | claims, key, algorithm="EdDSA", headers={"kid": "bench"})


def latency(ways: list[Way], process: subprocess.Popen[bytes], root: Path) -> None:
    """Latency of each transaction as pgbench logs it, and the gateway's CPU for each statement."""
    used: dict[str, list[float]] = {name: [] for name in SCRIPTS}
    for _, name, clients, way in itertools.product(range(ROUNDS), SCRIPTS, (1, 16), ways):
        before = cpu_seconds(process)
        found = pgbench(way, clients, SCRIPTS[name], root)
        way.latencies.setdefault((name, clients), []).append(found)
        if way.name == "gateway" and clients == 16:
            statements = len(found) * (1 if name == "select-only" else 7)
            used[name].append(statements / (cpu_seconds(process) - before))
    print("| pgbench | clients | way | p50 ms | p99 ms | added p50 | added p99 | transactions/s |")
    print("|---|---|---|---|---|---|---|---|")
    for name in SCRIPTS:
        for clients in (1, 16):
            compare(ways, (name, clients))
    for name, found in used.items():
        print(f"\n{name}: {statistics.median(found):,.0f} statements for each CPU second of the gateway (16 clients)")


def compare(ways: list[Way], case: tuple[str, int]) -> None:
    """The table's rows for one load."""
    base = [middle(ways[0].latencies[case], q) for q in (0.5, 0.99)]
    for way in ways:
        rounds = way.latencies[case]
        p50, p99 = (middle(rounds, q) for q in (0.5, 0.99))
        rate = statistics.median(len(r) / SECONDS for r in rounds)
        added = "– | –" if way is ways[0] else f"{p50 - base[0]:.2f} | {p99 - base[1]:.2f}"
        print(f"| {case[0]} | {case[1]} | {way.name} | {p50:.2f} | {p99:.2f} | {added} | {rate:,.0f} |")


def middle(rounds: list[list[float]], quantile: float) -> float:
    """The median over the rounds of one quantile of the latencies, in milliseconds."""
    return statistics.median(sorted(r)[int(len(r) * quantile)] for r in rounds) / 1000


def pgbench(way: Way, clients: int, option: str, root: Path) -> list[float]:
    """Microseconds of every transaction of one run."""
    prefix = root / f"log-{secrets.token_hex(4)}"
    environment = {**os.environ, "PGPASSWORD": way.password, "PGSSLMODE": "disable"}
    jobs = min(2, clients)
    done = subprocess.run(
        [DEBIAN / "bin/pgbench", option, "--no-vacuum", "--log", f"--log-prefix={prefix}", f"--client={clients}", f"--jobs={jobs}",
         f"--time={SECONDS}", "-h", "127.0.0.1", "-p", str(way.port), "-U", way.user, "bench"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{way.name}: {done.stderr[-2000:]}")
    found = []
    for path in root.glob(f"{prefix.name}*"):
        found += [float(line.split()[2]) for line in path.read_text().splitlines()]
        path.unlink()
    return found


def streams(ways: list[Way], process: subprocess.Popen[bytes]) -> None:
    """A big result and a big COPY, whole."""
    print(f"\n| {STREAM_ROWS:,} rows of 100 letters | way | MB/s | of direct |\n|---|---|---|---|")
    for what in ("select", "copy"):
        base = 0.0
        for way in ways:
            rates = [stream(way, what) for _ in range(ROUNDS)]
            rate = statistics.median(rates)
            base = base or rate
            print(f"| {what} | {way.name} | {rate:,.0f} | {rate / base:.0%} |")
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    print(f"\nThe gateway's memory at most until here: {int(peak[1]) / 1024 if peak else 0:,.0f} MB")


def stream(way: Way, what: str) -> float:
    """Megabytes a second, by psql that throws them away."""
    text = WIDE if what == "select" else f"copy ({WIDE}) to stdout"
    environment = {**os.environ, "PGPASSWORD": way.password}
    reach = psycopg.conninfo.make_conninfo(way.dsn(), password=None)
    began = time.monotonic()
    done = subprocess.run(
        ["psql", "-X", "-q", "-A", "-t", "-v", "FETCH_COUNT=0", "-c", text, "-o", "/dev/null", reach],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{way.name}: {done.stderr[-2000:]}")
    return STREAM_ROWS * 108 / (time.monotonic() - began) / 1e6


def masking(direct: Way, agent: Way) -> None:
    """Values masked a second: an agent's pages of customers (name, e-mail, IBAN masked), beside the same pages direct."""
    took = {way.name: statistics.median(pages(way) for _ in range(ROUNDS)) for way in (direct, agent)}
    values = PAGES * PAGE_ROWS * 3
    more = took["gateway"] - took["direct"]
    print(
        f"\n{PAGES} pages of {PAGE_ROWS} customers with 3 masked columns: direct {took['direct']:.2f} s, gateway {took['gateway']:.2f} s;"
    )
    print(f"{values / took['gateway']:,.0f} values masked a second, {values / more:,.0f} in what the gateway adds")


def pages(way: Way) -> float:
    with psycopg.connect(way.dsn(), autocommit=True) as session:
        began = time.monotonic()
        for page in range(PAGES):
            first = page * PAGE_ROWS + 1
            found = session.execute(
                "select id, name, email, iban from customers where id between %s and %s", [first, first + PAGE_ROWS - 1]
            ).fetchall()
            if len(found) != PAGE_ROWS or ("@mail.example" in (found[0][2] or "")) != (way.name == "direct"):
                raise RuntimeError(f"{way.name} answered {found[:1]}")
        return time.monotonic() - began


def idle(process: subprocess.Popen[bytes], through: Way) -> None:
    """Memory of sessions that do nothing."""

    def resident() -> int:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        return int(found[1]) if found else 0

    before = resident()
    sessions = [psycopg.connect(through.dsn()) for _ in range(IDLE_SESSIONS)]
    for session in sessions:
        session.execute("select 1")
        session.commit()
    grown = resident() - before
    print(f"\n{IDLE_SESSIONS:,} idle sessions: {grown / 1024:,.0f} MB, {grown / IDLE_SESSIONS:,.0f} KB each")
    for session in sessions:
        session.close()


if __name__ == "__main__":
    main()
