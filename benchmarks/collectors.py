"""pgbench transactions a second on a monitored PostgreSQL 15: with nothing, server log, pgAudit, change capture.

Collectors run beside the database and send to a stand-in on the loopback that acknowledges everything: in production the
store works elsewhere. Rounds are interleaved; the median is printed, with the CPU of the collectors for each transaction.
"""

from __future__ import annotations

import http.server
import multiprocessing
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psycopg
import zstandard

from benchmarks._running import ROOT, machine, wait_for
from demo.monitored import DEBIAN, Monitored, free_port

ROUNDS = 3
SECONDS = 6
CLIENTS = 4
SCALE = 5
QUIET = {
    "wal_level": "replica", "shared_preload_libraries": "", "logging_collector": "off", "log_destination": "stderr",
    "log_connections": "off", "log_disconnections": "off",
}  # fmt: skip
NO_PGAUDIT = {"shared_preload_libraries": ""}


@dataclass(frozen=True)
class Case:
    """What the database does besides its work; `collectors` run beside it."""

    name: str
    settings: dict[str, str]
    collectors: tuple[str, ...] = ()


CASES = (
    Case("nothing", QUIET),
    Case("server log of all statements", NO_PGAUDIT | {"log_statement": "all", "wal_level": "replica"}),
    Case("pgAudit", {"wal_level": "replica"}),
    Case("pgAudit, pglog sending", {"wal_level": "replica"}, ("pglog",)),
    Case("change capture, pgwal sending", QUIET | {"wal_level": "logical"}, ("pgwal",)),
    Case("pgAudit and change capture, both sending", {}, ("pglog", "pgwal")),
)


class Sink(http.server.BaseHTTPRequestHandler):
    """Acknowledges every item of every batch."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "zstd":
            body = zstandard.ZstdDecompressor().stream_reader(body).read()
        answer = msgspec.json.encode({"ok": True, "items": [{"status": "accepted"}] * body.count(b"\n")})
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:
        """Silent."""


def serve(port: int) -> None:
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Sink).serve_forever()


def main() -> None:
    root = Path(tempfile.mkdtemp(prefix="touchstone-bench-"))
    root.chmod(0o711)
    port = free_port()
    sink = multiprocessing.Process(target=serve, args=(port,), daemon=True)
    sink.start()
    wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 10, "the stand-in answers")
    database = Monitored(root)
    if not database.has_pgaudit:
        raise SystemExit("This needs Debian's postgresql-15 and postgresql-15-pgaudit; apt-get install them.")
    try:
        measure(database, root, f"http://127.0.0.1:{port}")
    finally:
        sink.terminate()
        database.remove()
        shutil.rmtree(root, ignore_errors=True)


def measure(database: Monitored, root: Path, url: str) -> None:
    database.settings = dict(QUIET)
    database.start()
    with database.connect() as admin:
        admin.execute("create database bench")
    pgbench(database, "--initialize", "--quiet", f"--scale={SCALE}")
    database.stop()
    rates: dict[str, list[float]] = {case.name: [] for case in CASES}
    beside: dict[str, list[float]] = {case.name: [] for case in CASES}
    for turn in range(ROUNDS):
        for case in CASES:
            rate, cpu = one_round(database, case, root / f"{turn}-{len(rates[case.name])}", url)
            rates[case.name].append(rate)
            beside[case.name].append(cpu)
    print(f"{machine()}; pgbench TPC-B, scale {SCALE}, {CLIENTS} clients, {SECONDS} s, median of {ROUNDS} rounds\n")
    print("| beside the work | transactions/s | of nothing | collectors' CPU a transaction |")
    print("|---|---|---|---|")
    base = statistics.median(rates["nothing"])
    for name, found in rates.items():
        rate, cpu = statistics.median(found), statistics.median(beside[name])
        print(f"| {name} | {rate:,.0f} | {rate / base:.0%} | {f'{cpu * 1e6:,.0f} us' if cpu else '–'} |")


def one_round(database: Monitored, case: Case, folder: Path, url: str) -> tuple[float, float]:
    """Transactions a second, and the collectors' CPU seconds for each."""
    database.settings = dict(case.settings)
    database.start()
    folder.mkdir(exist_ok=True)
    running = [start(name, database, folder / name / case.name.replace(" ", "-"), url) for name in case.collectors]
    try:
        if "pgwal" in case.collectors:
            wait_for(lambda: slots(database) == 1, 30, "change capture has its slot")
        pgbench(database, "--time=1")
        before = sum(map(cpu_seconds, running))
        output = pgbench(database, f"--time={SECONDS}")
        used = sum(map(cpu_seconds, running)) - before
    finally:
        for collector in running:
            collector.terminate()
            collector.wait(60)
        if "pgwal" in case.collectors:
            with database.connect("bench") as admin:
                admin.execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots")
                admin.execute("drop publication if exists touchstone")
        database.stop()
    found = re.search(r"tps = ([0-9.]+)", output)
    done = re.search(r"transactions actually processed: ([0-9]+)", output)
    assert found, output
    assert done, output
    return float(found[1]), used / int(done[1])


def start(name: str, database: Monitored, spool: Path, url: str) -> subprocess.Popen[bytes]:
    """One collector as its page tells to start it."""
    place = [str(database.log_dir), "--from-end"] if name == "pglog" else [database.dsn(dbname="bench"), "--create"]
    more = ["--accept-refused-updates"] if name == "pgwal" else []
    environment = {**os.environ, "TOUCHSTONE_URL": url, "TOUCHSTONE_TOKEN": "bench"}
    spool.parent.mkdir(parents=True, exist_ok=True)
    with (spool.parent / "collector.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"enforcement.{name}", *place, *more, "--canary-seconds", "0", "--spool", str(spool)],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def slots(database: Monitored) -> int:
    with psycopg.connect(database.dsn(dbname="bench")) as connection:
        row = connection.execute("select count(*) from pg_replication_slots where active").fetchone()
        return row[0] if row else 0


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    words = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:13])) / os.sysconf("SC_CLK_TCK")


def pgbench(database: Monitored, *words: str) -> str:
    """What pgbench prints."""
    load = [] if "--initialize" in words else [f"--client={CLIENTS}", "--jobs=2", "--no-vacuum"]
    environment = {**os.environ, "PGPASSWORD": database.superuser_password}
    place = ["-h", "127.0.0.1", "-p", str(database.port), "-U", "postgres", "bench"]
    done = subprocess.run(
        [DEBIAN / "bin/pgbench", *words, *load, *place], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    return done.stdout


if __name__ == "__main__":
    main()
