"""The embedded PostgreSQL: many starters, private folders, root and others, and killed servers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from config import cluster
from config.embedded import Embedded

pytestmark = pytest.mark.slow
BASE = Path(__file__).resolve().parent.parent
STARTER = """
import sys
from pathlib import Path
import psycopg
from config.embedded import Embedded
with Embedded(Path(sys.argv[1])).ensure() as server:
    with psycopg.connect(server.dsn("owner")) as connection:
        connection.execute("create table if not exists seen(pid int)") if sys.argv[2:] else None
        connection.execute("insert into seen values (%s)", [sys.argv[3]]) if sys.argv[2:] else None
    print("up", flush=True)
    sys.stdin.readline()
"""


class Person:
    """Who runs the starters: ourselves or, when we are root, an ordinary user. Each has a 0700 folder."""

    def __init__(self, ordinary: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="touchstone embedded's "))
        self.root = self.folder / "data"
        self.prefix: list[str] = []
        user = cluster.server_user()
        if ordinary and user is not None:
            shutil.chown(self.folder, user.pw_uid, user.pw_gid)
            # The interpreter may lie in root's home: this person may read everything, and is nobody special otherwise.
            self.prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups",
                           "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [*self.prefix, sys.executable, "-c", STARTER, str(self.root), *words]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=BASE, text=True, **pipes)

    def postmaster(self) -> int:
        return int((cluster.home_of(self.root) / "pg" / "postmaster.pid").read_text().splitlines()[0])

    def remove(self) -> None:
        home = cluster.home_of(self.root)
        cluster.kill_orphans(home / "pg")
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(params=[False, True] if os.geteuid() == 0 else [False], ids=lambda p: "user" if p else "ourselves")
def person(request: pytest.FixtureRequest) -> Iterator[Person]:
    someone = Person(request.param)
    yield someone
    someone.remove()


def up(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == "up\n", process.communicate()[1]


def leave(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate("\n", timeout=60)
    assert process.returncode == 0, errors


def eventually(condition: object, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.1)
    return False


def servers(person: Person) -> list[int]:
    pgdata = cluster.home_of(person.root) / "pg"
    return [pid for pid in cluster._pids() if cluster._works_in(pid, pgdata)]


def test_five_starters_at_once_share_one_server_that_leaves_with_the_last(person: Person) -> None:
    starters = [person.start() for _ in range(5)]
    for starter in starters:
        up(starter)
    masters = {person.postmaster()}
    for starter in starters[:4]:
        leave(starter)
    assert person.postmaster() in masters
    leave(starters[4])
    assert not servers(person)
    assert not Embedded(person.root).supervised()


def test_a_killed_postmaster_is_started_again_and_nothing_committed_is_lost(person: Person) -> None:
    first = person.start("seen", "1")
    up(first)
    for round_number in range(5):
        killed = person.postmaster()
        os.kill(killed, signal.SIGKILL)
        other = person.start("seen", str(round_number + 2))
        up(other)
        leave(other)
        assert person.postmaster() != killed
    leave(first)
    last = person.start("seen", "7")
    up(last)
    leave(last)
    if not person.prefix:
        with Embedded(person.root).ensure() as server, psycopg.connect(server.dsn("owner")) as connection:
            assert connection.execute("select array_agg(pid order by pid) from seen").fetchone() == (list(range(1, 8)),)


def test_a_killed_user_does_not_keep_the_server_running(person: Person) -> None:
    starter = person.start()
    up(starter)
    starter.kill()
    starter.communicate()
    assert eventually(lambda: not servers(person) and not Embedded(person.root).supervised())


def test_a_killed_supervisor_takes_its_server_along_and_another_takes_over(person: Person) -> None:
    starter = person.start()
    up(starter)
    supervisor = parent(person.postmaster())
    os.kill(supervisor, signal.SIGKILL)
    other = person.start()
    up(other)
    leave(other)
    leave(starter)
    assert eventually(lambda: not servers(person))


def test_an_initdb_that_was_cut_short_is_done_again(person: Person) -> None:
    person.root.mkdir()
    if person.prefix:
        shutil.chown(person.root, person.folder.stat().st_uid, person.folder.stat().st_gid)
    subprocess.run([*person.prefix, "mkdir", "-m", "700", str(person.root / "pg.new")], check=True)
    starter = person.start()
    up(starter)
    leave(starter)
    assert (cluster.home_of(person.root) / "pg" / "PG_VERSION").exists()


def test_the_folder_above_keeps_its_mode_and_only_its_owner_may_connect(person: Person) -> None:
    starter = person.start()
    up(starter)
    socket = cluster.socket_folder(cluster.home_of(person.root))
    assert person.folder.stat().st_mode & 0o777 == 0o700
    assert socket.stat().st_mode & 0o777 == 0o700
    leave(starter)


def test_a_path_too_long_for_a_socket_gets_a_short_private_folder(person: Person) -> None:
    person.root = person.folder / ("x" * 90)
    starter = person.start()
    up(starter)
    leave(starter)


def test_a_foreign_process_in_postmaster_pid_neither_stops_the_start_nor_is_harmed() -> None:
    person = Person(ordinary=False)
    try:
        starter = person.start()
        up(starter)
        leave(starter)
        bystander = subprocess.Popen(["sleep", "60"])
        pidfile = cluster.home_of(person.root) / "pg" / "postmaster.pid"
        pidfile.write_text(f"{bystander.pid}\n")
        again = person.start()
        up(again)
        leave(again)
        assert bystander.poll() is None
        bystander.kill()
        bystander.wait()
    finally:
        person.remove()


def test_a_server_without_durable_writes_or_with_an_open_door_is_never_configured() -> None:
    assert "fsync = on" in cluster.SETTINGS
    assert "full_page_writes = on" in cluster.SETTINGS
    assert "listen_addresses = ''" in cluster.SETTINGS
    assert "trust" not in cluster.HBA


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
