"""`bin/demo`: a store, a monitored order database, collectors, people at work, and where to look.

Everything is started from the main thread, which then only tends it; the preparation and the story run beside it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import fcntl
import json
import os
import shutil
import socket
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from config import cluster, embedded, serve
from demo import authority, check, shop, simulated
from demo.actors import Actors, Book
from demo.auditor import Auditor
from demo.desk import Desk
from demo.desk import serve as serve_desk
from demo.door import APPROVER, SERVICES, Door, private
from demo.door import PEOPLE as WORKERS
from demo.monitored import Monitored
from demo.oncall import OnCall
from demo.store import BASE_DIR, PATIENCE_SECONDS, Store
from demo.story import Story, working_hours

ENVIRONMENT = "production"
MARK = "demo.mark"
PEOPLE = ("auditor", "security", "compliance", "operator", "admin")
SOURCES = {
    "shop-log": ("postgres-csvlog", ENVIRONMENT, shop.DATASOURCE, []),
    "shop-changes": ("pgoutput", ENVIRONMENT, shop.DATASOURCE, []),
    "shop-state": ("pgstate", ENVIRONMENT, shop.DATASOURCE, ["--asserts", "state,grant"]),
    "shop-gateway": ("gateway", ENVIRONMENT, shop.DATASOURCE, []),
    "change-desk": ("events", ENVIRONMENT, shop.DATASOURCE, ["--asserts", "approval"]),
    "generated": ("events", simulated.ENVIRONMENT, simulated.DATASOURCE, ["--asserts", "actor,approval"]),
}


class Demo:
    """Everything that runs during one demo, and the folder that holds it."""

    def __init__(self, folder: Path, port: int, generated: bool = True) -> None:
        self.folder = folder
        self.generated = generated
        self.began_at = dt.datetime.now(dt.UTC)
        self.stopping = threading.Event()
        self.children: list[serve.Child] = []
        self.book = Book()
        self.signins: dict[str, str] = {}
        self.reports = folder / "reports"
        environment = {
            "TOUCHSTONE_DATA": str(folder / "store"),
            "TOUCHSTONE_BIND": f"127.0.0.1:{port}",
            "TOUCHSTONE_URL": f"http://127.0.0.1:{port}",
            "TOUCHSTONE_WORKING_HOURS": working_hours(self.began_at),
        }
        self.store = Store(f"http://127.0.0.1:{port}", environment)
        self.monitored = Monitored(folder / "shop")
        self.on_call = OnCall(folder / "oncall.ndjson")

    def start(self) -> None:
        """Store and order database; called by the main thread, because children die with the thread that made them."""
        (self.folder / "logs").mkdir()
        if authority.openssl():
            clock = authority.serve(authority.Authority(self.folder / "clock"))
            self.store.environment["TOUCHSTONE_TSA"] = f"demo-clock=http://127.0.0.1:{clock.server_address[1]}/"
        self.auditor = Auditor(self.folder / "auditor")
        self.store.environment |= self.auditor.environment
        self._run("store", "config.serve")
        self._tend()
        self.monitored.start()

    def tend(self, until: threading.Event) -> None:
        """Keep all children running until `until` is set or we are told to stop."""
        while not until.is_set() and not self.stopping.is_set():
            self._tend()
            until.wait(0.3)

    def _tend(self) -> None:
        for child in list(self.children):
            child.tend()

    def prepare(self) -> None:
        """People, sources, collectors. Returns when the pages can be used."""
        with ThreadPoolExecutor(1) as pool:
            opened = pool.submit(shop.open_shop, self.monitored)
            self._wait_for_store()
            log_key = self.store.get("/log/key").decode().strip()
            self._run("witness", "lineage.witness", *self.auditor.words(log_key))
            self._set_up_store()
            self.shop = opened.result()
            self.door = Door(self.folder / "gateway", self.store, self.shop, self.keys)
        private(self.folder / "monitored.dsn", self.shop.dsn("visitor") + "\n")
        check.remember_truth(self.monitored)
        self._start_collectors()
        self._wait_for_collectors()
        self.door.write(self.tokens["shop-gateway"])
        self._run("shop-gateway", "enforcement.gateway", str(self.door.settings))
        self.door.wait()
        self.door.write_psql(psql())

    def play(self) -> None:
        """The story, with the generated days beside it; then the report of the demo's own period."""
        self.actors = Actors(self.shop, self.book, self.door)
        desk = Desk(self.folder / "desk.json", self.store, self.tokens["change-desk"])
        host, port = serve_desk(desk).server_address[:2]
        story = Story(self.actors, f"http://{host!s}:{port}", self.stopping)
        with ThreadPoolExecutor(1) as pool:
            days = pool.submit(self._generate)
            story.play()
            self.ended_at = dt.datetime.now(dt.UTC)
            check.settle(self)
            self.book.write(self.folder / "deeds.json")
            self.simulated_events = days.result()
        self.reports.mkdir()
        self._report()

    def _report(self) -> None:
        """The report of the demo's own period, made again while sources were not heard after its end: they are within seconds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self.store.manage("report", "privileged-access", "--from", _text(self.began_at), "--to", _text(self.ended_at),
                              "--out", str(self.reports), "--environment", ENVIRONMENT, "--datasource", shop.DATASOURCE)  # fmt: skip
            (summary,) = self.reports.glob("*.json")
            is_draft = json.loads(summary.read_text())["status"] == "draft"
            if not is_draft or time.monotonic() > deadline or self.stopping.wait(2):
                return
            for file in self.reports.iterdir():
                file.unlink()

    def _generate(self) -> int:
        """How many generated records the store took; none where nobody wants them."""
        if not self.generated:
            return 0
        return simulated.send(self.store, self.tokens["generated"], self.began_at.date())

    def stop(self) -> None:
        """Leave nothing running."""
        self.stopping.set()
        serve.stop(self.children)
        self.monitored.stop()

    def _wait_for_store(self) -> None:
        while not self.store.is_up():
            if self.stopping.wait(0.2):
                raise RuntimeError("stopped while starting")

    def _set_up_store(self) -> None:
        identities = self.folder / "identities.csv"
        identities.write_text(shop.IDENTITIES)
        people = [f"{role}@shop.example" for role in PEOPLE]
        commands = [["user", "add", email, "--role", email.split("@")[0]] for email in people]
        sources = [name for name in SOURCES if self.generated or name != "generated"]
        commands += [_source_words(name) for name in sources]
        commands += [["user", "add", "admin@shop.example", "--role", "admin", "--token"]]
        commands += [["user", "add", APPROVER, "--role", "security", "--token"]]
        limits = ["--datasource", shop.DATASOURCE, "--token"]
        commands += [["user", "add", email, "--role", "member", *limits] for email in WORKERS]
        commands += [["user", "add", name, "--role", "service", *limits] for name in SERVICES]
        commands += [["reference", "import", "identities", str(identities), "--as-of", _text(self.began_at)]]
        if self.generated:
            commands += self._registers()
        commands += [self.on_call.words(ENVIRONMENT)]
        printed = self.store.manage_all(commands)
        self.on_call.secret = printed[-1]
        self.signins = dict(zip(people, printed, strict=False))
        self.tokens = dict(zip(sources, printed[len(people) :], strict=False))
        self.store.token, *others = printed[len(people) + len(sources) :]
        self.keys = dict(zip([APPROVER, *WORKERS, *SERVICES], others, strict=False))
        for name, token in self.tokens.items():
            private(self.folder / f"{name}.token", token)

    def _registers(self) -> list[list[str]]:
        """The identity register and the classes of the generated quarter, as of its first day."""
        first = _text(self.began_at - dt.timedelta(days=simulated.DAYS + 1))
        commands = []
        for kind, text in (("identities", simulated.IDENTITIES), ("tags", simulated.TAGS)):
            path = self.folder / f"simulated-{kind}.csv"
            path.write_text(text)
            commands.append(["reference", "import", kind, str(path), "--as-of", first])
        return commands

    def _start_collectors(self) -> None:
        dsn = self.monitored.dsn("touchstone", None, shop.DATABASE)
        self._collect("shop-log", "pglog", str(self.monitored.log_dir), "--from-end", "--canary-dsn", dsn)
        self._collect("shop-changes", "pgwal", dsn, "--create")
        self._collect("shop-state", "pgstate", dsn)

    def _collect(self, source: str, module: str, *words: str) -> None:
        token, spool = str(self.folder / f"{source}.token"), str(self.folder / "spool" / source)
        words += ("--url", self.store.url, "--token-file", token, "--spool", spool)
        # Not among the words: everybody on this machine can read those.
        self._run(source, f"enforcement.{module}", *words, PGPASSWORD=self.shop.passwords["touchstone"])

    def _run(self, name: str, module: str, *words: str, **more: str) -> None:
        command = [sys.executable, "-m", module, *words]
        log = self.folder / "logs" / f"{name}.log"
        self.children.append(serve.Child(name, command, self.store.environment | more, log))

    def _wait_for_collectors(self) -> None:
        """Until the change collector holds its slot: what happens before that is not watched."""
        deadline = time.monotonic() + 60
        with self.monitored.connect(shop.DATABASE) as connection:
            while time.monotonic() < deadline and not self.stopping.wait(0.2):
                if connection.execute(
                    "select 1 from pg_replication_slots where slot_name = 'touchstone' and active"
                ).fetchone():
                    return
        raise RuntimeError(f"the change collector did not connect; see {self.folder / 'logs'}")


def _source_words(name: str) -> list[str]:
    format_name, environment, datasource, more = SOURCES[name]
    words = ["source", "add", name, "--format", format_name, "--environment", environment]
    return [*words, "--datasource", datasource, *more]


def _text(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def clear(folder: Path) -> None:
    """Begin in an empty folder; what an earlier demo left there goes. SystemExit: the folder holds something else."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARK).exists():
            raise SystemExit(f"{folder} is not empty and no demo's folder. Give another one with --data.")
        for root in (folder / "store" / "postgres", folder / "shop"):
            home = cluster.home_of(root)
            for pgdata in (home / "pg", home / "monitored" / "data"):
                cluster.kill_orphans(pgdata)
            if home != root:
                shutil.rmtree(home, ignore_errors=True)
        for entry in folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


def say_where(demo: Demo) -> None:
    """Address, sign-ins, the order database, and five things to try."""
    url = demo.store.url
    row = f"{url}/tables/{shop.DATASOURCE}/public.customers/rows/4711/"
    signins = "\n".join(f"    {email:24} {password}" for email, password in sorted(demo.signins.items()))
    direct = f'{psql()} "$(cat {demo.folder / "monitored.dsn"})"'
    through = f"sh {demo.folder / 'gateway.psql'}"
    print(f"""
  Touchstone          {url}
  Sign in as
{signins}
  Monitored database  {direct}
  Through the gateway {through}

  Five things to try
    1. Who touched customer 4711?      {row}
    2. For whom did the agent work?    {url}/identities/insight-agent/
    3. Change a row yourself           {through} -c "update customers set phone = '555-0100' where id = 4711"
       What the gateway refuses        {through} -c "drop table notes"
       What it holds for another       {through} -c "delete from notes where id < 100"
       Who decides; who is there now   {url}/approvals/   {url}/sessions/live/
    4. Ask on the command line         TOUCHSTONE_DATA={demo.folder / "store"} bin/manage ask 'relation:customers key:4711'
    5. Take evidence away, check it    TOUCHSTONE_DATA={demo.folder / "store"} bin/manage pack 'key:4711' --out pack.zip
                                       TOUCHSTONE_DATA={demo.folder / "store"} bin/manage policy > policy
                                       .venv/bin/python -m lineage.verify pack.zip --policy policy

  What on call is told: {url}/findings/ and {demo.on_call.file}
  The records of environment {ENVIRONMENT} are real and happen now; those of {simulated.ENVIRONMENT} are generated.
  Ctrl-C stops everything.
""", flush=True)  # fmt: skip


def psql() -> str:
    """The client's program: the machine's, or that of the embedded server."""
    return "psql" if shutil.which("psql") else str(cluster.binaries() / "psql")


def _work(demo: Demo, checking: bool, done: threading.Event, result: list[int]) -> None:
    try:
        demo.prepare()
        say_where(demo)
        demo.play()
        print(f"  The report of the demo's own period lies in {demo.reports}\n", flush=True)
        result.append(check.run(demo) if checking else 0)
    except Exception:  # noqa: BLE001 whatever it was ends the demo, in the open
        if not demo.stopping.is_set():
            traceback.print_exc()
        result.append(1)
    if checking or result != [0]:
        done.set()


def main() -> int:
    """Run the demo; exit status 0 after Ctrl-C, and with --check only when every promise was tested and held."""
    parser = argparse.ArgumentParser(prog="bin/demo", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--data", type=Path, default=BASE_DIR / "var" / "demo", help="folder of this demo (var/demo)")
    parser.add_argument("--without-generated", action="store_true", help="only what really happens, no generated days")
    parser.add_argument("--check", action="store_true", help="test every promise, say what was seen, and stop")
    options = parser.parse_args()
    for name in [n for n in os.environ if n.startswith("TOUCHSTONE_") or n == "DATABASE_URL"]:
        del os.environ[name]
    folder = options.data.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = open(folder.with_name(f"{folder.name}.lock"), "a")  # noqa: SIM115 held until this process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit(f"A demo runs in {folder} already.") from None
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", options.port)) == 0:
            raise SystemExit(f"Port {options.port} is taken. Give another one with --port.")
    clear(folder)
    return _run(Demo(folder, options.port, not options.without_generated), options.check)


def _run(demo: Demo, checking: bool) -> int:
    print("Starting the store and the order database …", flush=True)
    done, result = threading.Event(), list[int]()
    with cluster.stop_signals() as told:
        demo.stopping = told
        try:
            demo.start()
            worker = threading.Thread(target=_work, args=(demo, checking, done, result), daemon=True)
            worker.start()
            demo.tend(done)
        finally:
            demo.stop()
            _wait_for_store_to_stop(demo)
    return result[0] if done.is_set() else 0


def _wait_for_store_to_stop(demo: Demo) -> None:
    server = embedded.Embedded(demo.folder / "store" / "postgres")
    deadline = time.monotonic() + 30
    while server.root.exists() and server.supervised() and time.monotonic() < deadline:
        time.sleep(0.1)


if __name__ == "__main__":
    raise SystemExit(main())
