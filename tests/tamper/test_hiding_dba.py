"""The DBA of the monitored database who hides, done for real: a superuser there, real collectors, a running store.

One database and one store for all of it. Each deed leaves the capture working again. What is slow (a grace time, a silence)
is waited for once, at the end of each test, by asking the store's findings.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from benchmarks._running import ROOT, Product, wait_for
from demo.monitored import Monitored

pytestmark = [pytest.mark.slow, pytest.mark.in_order]
WITHIN_SECONDS = 60
TABLE = (
    "create table orders (id int primary key, amount int); insert into orders select n, 0 from generate_series(1, 20) n"
)
A_CLOCK_AN_HOUR_OFF = """
import datetime, runpy, sys
real = datetime.datetime
class Wrong(real):
    @classmethod
    def now(cls, tz=None):
        return real.now(tz) - datetime.timedelta(hours=1)
import enforcement.shipper
enforcement.shipper.dt.datetime = Wrong
sys.argv = sys.argv[1:]
runpy.run_module('enforcement.pgstate', run_name='__main__')
"""


class Scene:
    """The running store, the monitored server with its database `shop`, and the three collectors."""

    def __init__(self, product: Product, server: Monitored, folder: Path) -> None:
        self.product, self.server, self.folder = product, server, folder
        self.dsn = server.dsn(dbname="shop")
        self.auditor = product.manage("user", "add", "auditor@shop.example", "--role", "auditor", "--token")
        self.tokens = {name: self._source(name, form) for name, form in FORMATS.items()}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        for name in FORMATS:
            self.start(name)
        wait_for(self.is_captured, 60, "change capture reads its slot")
        wait_for(lambda: self.heard("state"), 60, "the first state came")
        wait_for(lambda: self.heard("log"), 60, "the first line of the log came")
        # Before anybody hides anything, whichever test comes first.
        self.after_honest_work = self.work_honestly()

    def work_honestly(self) -> tuple[set[str], dict[str, str]]:
        """Work of every honest kind; the rules that find something in it, and how complete each source is then."""
        self.run(
            "begin",
            "update orders set amount = 1 where id = 1",
            "commit",
            "update orders set amount = 2 where id in (2, 3)",
        )
        self.run("begin", "update orders set amount = 9 where id = 1", "rollback", "grant select on orders to public")
        self.run("truncate notes", "grant select on orders to public", "vacuum orders", "analyze orders")
        wait_for(lambda: len(self.ask("events?q=kind:change+source:wal")["items"]) >= 4, 30, "the changes came")
        # Longer than the grace time: what the store misses, it has told by then.
        time.sleep(6)
        found = self.ask("findings?limit=1000")["items"]
        rules = {f"{f['rule']}: {f['op']}" if f["rule"] == "approval-missing" else f["rule"] for f in found}
        return rules, {c["source"]: c["state"] for c in self.ask("events?limit=1")["coverage"]}

    def _source(self, name: str, form: str) -> str:
        return self.product.manage(
            "source", "add", name, "--format", form, "--environment", "production", "--datasource", "shop"
        )

    def start(self, name: str, *before: str) -> None:
        """Starts one collector; `before` replaces `-m enforcement.NAME` by other words."""
        module, *words = COLLECTORS[name](self)
        command = [
            sys.executable,
            *(before or ("-m", f"enforcement.{module}")),
            *words,
            "--spool",
            str(self.folder / name),
        ]
        environment = os.environ | {"TOUCHSTONE_URL": self.product.url, "TOUCHSTONE_TOKEN": self.tokens[name]}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*command, "--heartbeat-seconds", "0.5"], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )  # fmt: skip

    def stop(self, name: str) -> None:
        process = self.running.pop(name)
        process.terminate()
        process.wait(30)

    def close(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGKILL)
            process.wait()

    def run(self, *statements: str) -> None:
        """As superuser, in one session."""
        with psycopg.connect(self.dsn, autocommit=True) as session:
            for statement in statements:
                session.execute(statement.encode())

    def is_captured(self) -> bool:
        with self.server.connect() as session:
            query = "select 1 from pg_replication_slots where slot_name = 'hiding' and active"
            return session.execute(query).fetchone() is not None

    def ask(self, path: str) -> dict[str, Any]:
        status, answer = self.product.request("GET", f"/api/v1/{path}", self.auditor)
        assert status == 200, answer
        return dict(answer)

    def heard(self, name: str) -> bool:
        return bool(self.ask(f"events?limit=1&q=source:{name}")["items"])

    def findings(self, rule: str) -> list[str]:
        return [f["sentence"] for f in self.ask("findings?limit=1000")["items"] if f["rule"] == rule]

    def expect(self, rule: str, saying: str) -> None:
        """Waits until a finding of this rule says so."""
        try:
            wait_for(lambda: any(saying in s for s in self.findings(rule)), WITHIN_SECONDS, f"{rule}: {saying}")
        except TimeoutError as error:
            raise AssertionError(f"{error}; it says {self.findings(rule)}; {self.logs()}") from None

    def settled(self) -> None:
        """Until the next snapshot of the catalogs would see what was done before."""
        time.sleep(1.0)

    def logs(self) -> str:
        return "\n".join(f"{p.name}: {p.read_text()[-500:]}" for p in self.folder.glob("*.log"))

    def expect_coverage(self, source: str, state: str) -> None:
        def holds() -> bool:
            answer = self.ask("events?limit=1")["coverage"]
            return any(c["source"] == source and state in [s["state"] for s in c["spans"]] for c in answer)

        wait_for(holds, WITHIN_SECONDS, f"{source} is told to be {state}")


FORMATS = {"log": "postgres-csvlog", "wal": "pgoutput", "state": "pgstate"}
COLLECTORS: dict[str, Callable[[Scene], tuple[str, ...]]] = {
    "log": lambda s: ("pglog", str(s.server.log_dir), "--from-end", "--canary-dsn", s.dsn, "--canary-seconds", "1",
                      "--canary-within", "20"),
    "wal": lambda s: ("pgwal", s.dsn, "--create", "--slot", "hiding", "--publication", "touchstone", "--canary-seconds", "1"),
    "state": lambda s: ("pgstate", s.dsn, "--watch", "0.3"),
}  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Monitored]:
    """A server of its own: these deeds stop it, and change what all its databases log."""
    root = Path(tempfile.mkdtemp(prefix="touchstone-hiding-"))
    root.chmod(0o711)
    cluster = Monitored(root)
    if not cluster.has_pgaudit:
        pytest.skip("needs Debian's PostgreSQL 15 with pgAudit")
    cluster.start()
    yield cluster
    cluster.remove()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def scene(server: Monitored) -> Iterator[Scene]:
    folder = Path(tempfile.mkdtemp(prefix="touchstone-hiding-store-"))
    folder.chmod(0o711)
    (folder / "data").mkdir(mode=0o711)
    (folder / "spools").mkdir()
    with server.connect() as admin:
        admin.execute("create database shop")
    with server.connect("shop") as admin:
        admin.execute("create extension pgaudit")
        for statement in TABLE.split(";"):
            admin.execute(statement.encode())
        admin.execute("alter table orders replica identity full")
        admin.execute("create table notes (id int primary key)")
        admin.execute("create role dba superuser")
        admin.execute("create role clerk")
        admin.execute("create publication touchstone for all tables")
        admin.execute("create publication listed for table orders, notes")
    product = Product(
        folder / "data",
        TOUCHSTONE_COVERAGE_SECONDS="1",
        TOUCHSTONE_COVERAGE_GRACE_SECONDS="2",
        TOUCHSTONE_SILENCE_SECONDS="6",
        TOUCHSTONE_WEB_WORKERS="1",
    )
    product.start()
    playing: Scene | None = None
    try:
        playing = Scene(product, server, folder / "spools")
        yield playing
    finally:
        if playing is not None:
            playing.close()
        product.stop()
        shutil.rmtree(folder, ignore_errors=True)


def test_honest_work_is_no_finding(scene: Scene) -> None:
    rules, states = scene.after_honest_work
    # The grants, in production, cite no ticket: they are told as that, and as nothing else.
    assert rules <= {"privilege-change", "truncate-or-drop", "approval-missing: privilege"}
    assert states == dict.fromkeys(FORMATS, "complete")


def test_a_publication_that_sends_less(scene: Scene) -> None:
    scene.run("alter publication listed drop table orders")
    scene.settled()
    scene.run("alter publication listed add table orders")
    scene.expect("capture-weakened", "takes tables out of publication listed")
    scene.expect("capture-weakened", "publication listed: sends public.orders → no longer sends public.orders")
    scene.expect_coverage("wal", "weakened")


def test_a_publication_and_a_replica_identity_changed_and_changed_back(scene: Scene) -> None:
    scene.run("alter table orders replica identity nothing", "alter table orders replica identity full")
    scene.run(
        "set pgaudit.log = 'none'",
        "alter publication listed drop table notes",
        "alter publication listed add table notes",
        "alter table orders replica identity nothing",
        "alter table orders replica identity full",
    )
    scene.expect("capture-weakened", "sets the replica identity of a table to nothing")
    scene.expect("capture-weakened", "table public.notes in publication listed was written")
    scene.expect("capture-weakened", "table public.orders was written")


def test_settings_changed_and_changed_back(scene: Scene) -> None:
    scene.run("alter role dba set pgaudit.log = 'none'", "alter role clerk superuser",
              "alter system set pgaudit.log = 'ddl'", "select pg_reload_conf()")  # fmt: skip
    scene.settled()
    scene.run("alter system reset pgaudit.log", "select pg_reload_conf()", "alter role dba reset pgaudit.log",
              "alter role clerk nosuperuser")  # fmt: skip
    scene.expect("capture-weakened", "setting pgaudit.log: all → ddl")
    scene.expect("capture-weakened", "sets pgaudit.log to 'ddl'")
    scene.expect("capture-weakened", "The server read its configuration: pgaudit.log is now 'ddl'")
    scene.expect("capture-weakened", "setting dba@*:pgaudit.log: all")
    scene.expect("capture-weakened", "sets pgaudit.log to 'none'")
    scene.expect("capture-weakened", "role clerk: no superuser → superuser")
    scene.expect_coverage("log", "weakened")


def test_a_session_that_switches_logging_off_and_writes(scene: Scene) -> None:
    scene.run("set pgaudit.log = 'none'", "update orders set amount = 66 where id = 6", "reset pgaudit.log")
    scene.expect("changes-without-statement", "changed 1 rows of public.orders")
    scene.expect("capture-weakened", "resets pgaudit.log, which was set to something else before")


def test_triggers_switched_off_in_a_session(scene: Scene) -> None:
    scene.run("set session_replication_role = replica", "update orders set amount = 7 where id = 7")
    scene.expect("replication-role", "sets session_replication_role to 'replica'")
    wait_for(
        lambda: "7" in str(scene.ask("events?q=kind:change+key:7")["items"]), 30, "the row is captured all the same"
    )


def test_forged_audit_text(scene: Scene) -> None:
    scene.run("do $$begin raise log 'AUDIT: SESSION,1,1,READ,SELECT,,,select of somebody else,<none>'; end$$")
    scene.expect("forged-log-line", "only pretends to be from pgAudit")


def test_a_false_claim_in_a_context_message(scene: Scene) -> None:
    scene.run(
        "begin",
        """select pg_logical_emit_message(true, 'touchstone', '{"actor": "dana@shop.example"}')""",
        "update orders set amount = 13 where id = 13",
        "commit",
    )
    scene.expect("false-claim", "postgres claimed in a context message to be somebody else")


def test_a_table_moved_out_of_the_write_ahead_log(scene: Scene) -> None:
    scene.run("alter publication listed drop table orders")
    scene.run(
        "alter table orders set unlogged",
        "update orders set amount = 88 where id in (8, 9)",
        "alter table orders set logged",
    )
    scene.run("alter publication listed add table orders")
    scene.expect("rows-not-captured", "postgres wrote 2 rows of public.orders")
    scene.expect("capture-weakened", "takes a table out of the write-ahead log")


def test_a_slot_dropped_and_a_slot_advanced(scene: Scene) -> None:
    scene.stop("wal")
    scene.run("select pg_drop_replication_slot('hiding')", "update orders set amount = 10 where id = 10")
    scene.settled()
    scene.start("wal")
    scene.expect("slot-lost", "slot hiding: at")
    scene.expect("slot-lost", "the slot was dropped")
    wait_for(scene.is_captured, 30, "change capture reads a new slot")
    scene.stop("wal")
    scene.run(
        "update orders set amount = 11 where id = 11",
        "select pg_replication_slot_advance('hiding', pg_current_wal_lsn())",
    )
    scene.start("wal")
    scene.expect("slot-lost", "Somebody else moved the slot")
    scene.expect("capture-weakened", "moves a replication slot forward")
    scene.expect("rows-not-captured", "wrote 1 rows of public.orders")
    wait_for(scene.is_captured, 30, "change capture reads on")


def newest_log(scene: Scene) -> Path:
    return max(scene.server.log_dir.glob("*.csv"), key=lambda p: p.stat().st_mtime)


def test_the_log_cut_removed_and_moved_away(scene: Scene) -> None:
    os.truncate(newest_log(scene), 0)
    scene.expect("log-lost", "was truncated while it was followed")
    scene.stop("log")
    scene.run("update orders set amount = 12 where id = 12", "select pg_rotate_logfile()")
    time.sleep(1.5)
    for path in sorted(scene.server.log_dir.glob("*.csv"))[:-1]:
        path.unlink()
    scene.start("log")
    scene.expect("log-lost", "was removed or overwritten before the collector came back")
    scene.expect("changes-without-statement", "changed 1 rows of public.orders")
    newest_log(scene).unlink()
    scene.expect("log-lost", "removed or moved away while it was followed")
    scene.run("select pg_rotate_logfile()")


def test_a_collector_that_is_stopped(scene: Scene) -> None:
    scene.stop("state")
    scene.expect("silence", "state is silent since")
    scene.expect_coverage("state", "silent")
    scene.start("state")


def test_a_clock_an_hour_off(scene: Scene) -> None:
    scene.stop("state")
    scene.start("state", "-c", A_CLOCK_AN_HOUR_OFF, "pgstate")
    scene.expect("clock-skew", "The clock of state is wrong")
    scene.stop("state")
    scene.start("state")


def test_the_spool_destroyed(scene: Scene) -> None:
    scene.stop("state")
    shutil.rmtree(scene.folder / "state")
    scene.start("state")
    scene.expect("gap", "state: its numbers begin anew")


def test_the_server_started_again_without_its_log(scene: Scene) -> None:
    scene.run("alter system set logging_collector = off")
    scene.server.stop()
    scene.server.start()
    scene.expect("capture-weakened", "setting logging_collector: on → off")
    scene.expect("canary-missing", "did not come back")
