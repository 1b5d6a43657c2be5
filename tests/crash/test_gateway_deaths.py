"""Gateway and database are stopped or killed in the middle of work, and the gateway's disk is full: database, events and clients agree."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.monitored import Monitored
from tests.crash import work as works
from tests.crash.work import CLIENTS, Crowd, Work
from tests.enforcement.gateway.fixtures import *  # noqa: F403
from tests.enforcement.gateway.running import BASE, Authority, Process, Shop, Signer, until

pytestmark = pytest.mark.slow
SEED = 4
KILLS = 4


class Again:
    """The gateway of one folder, started again and again."""

    def __init__(self, folder: Path, shop: Shop, signer: Signer) -> None:
        folder.mkdir()
        self.folder, self.shop, self.signer = folder, shop, signer
        self.made: list[Process] = []

    def start(self) -> Process:
        self.made.append(Process(self.folder, self.shop, self.signer))
        return self.made[-1]

    def kill(self) -> None:
        self.made[-1].process.kill()
        self.made[-1].process.wait(60)


@pytest.fixture
def again(served_shop: Shop, signer: Signer, tmp_path: Path) -> Iterator[Again]:
    made = Again(tmp_path / "again", served_shop, signer)
    yield made
    for one in made.made:
        one.stop()


@pytest.fixture(scope="module")
def lasting(
    monitored_with_tls: Monitored, authority: Authority, signer: Signer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Process]:
    """One gateway that lives through all that does not kill it, and ends in order."""
    folder = tmp_path_factory.mktemp("lasting")
    shop = Shop(monitored_with_tls, authority, folder)
    made = Process(folder, shop, signer)
    try:
        yield made
    finally:
        status = made.stop()
        shop.drop()
    assert status == 0


def test_kills_of_the_gateway_at_any_moment(again: Again, served_shop: Shop) -> None:
    chance, done = random.Random(SEED), list[Work]()
    for number in range(KILLS):
        with Crowd(again.start(), f"k{number}") as crowd:
            crowd.wait_for(chance.randint(5, 60))
            again.kill()
            crowd.stopping.set()
        done += crowd.done
    again.start().stop()
    # The database ends by itself what the killed ones ran.
    works.nothing_left(served_shop)
    works.all_ended(again.made[-1])
    works.agree(done, served_shop, again.made[-1].events())


def test_what_waits_for_a_lock_ends_when_the_gateway_is_killed(again: Again, served_shop: Shop) -> None:
    client = again.start().connect(autocommit=False)
    client.execute("update customers set note = 'never' where id = 2")
    with served_shop.cluster.connect(served_shop.name) as blocker, blocker.transaction():
        blocker.execute("select from customers where id = 1 for update")
        client.pgconn.send_query(b"update customers set note = 'waited' where id = 1")
        until(lambda: served_shop.is_running("waited"))
        again.kill()
        works.nothing_left(served_shop)
    assert served_shop.run("select note from customers where id < 3 order by id") == [("note 1",), ("note 2",)]
    again.start().stop()
    (told,) = again.made[-1].queries("waited")
    assert (told["flags"], told["transaction"]["outcome"]) == (["answer_lost"], "unknown")


def stop_fast(shop: Shop) -> None:
    shop.cluster.stop()
    shop.cluster.start()


def stop_at_once(shop: Shop) -> None:
    assert shop.cluster.process is not None
    shop.cluster.process.send_signal(signal.SIGQUIT)
    shop.cluster.process.wait(60)
    shop.cluster.start()


def kill_it(shop: Shop) -> None:
    shop.cluster.kill9()
    shop.cluster.start()


def kill_one_session(shop: Shop) -> None:
    """The postmaster then ends all the others, recovers and goes on."""
    until(lambda: any(ends_all(shop, pid) for pid, *_ in shop.sessions()[:1]))


def ends_all(shop: Shop, pid: int) -> bool:
    """Whether killing this session ended another one: it may have been over, and only not yet taken note of."""
    with shop.cluster.connect(shop.name) as other:
        if not is_killed(pid):
            return False
        with contextlib.suppress(psycopg.OperationalError):
            other.execute("select pg_sleep(5)")
            return False
    return True


def is_killed(pid: int) -> bool:
    """Whether this ended it; its client may have left first."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def terminate_sessions(shop: Shop) -> None:
    """At a moment when some are at work: who is between two transactions notices nothing."""
    until(lambda: shop.run(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app' and state <> 'idle'"
        " and application_name not like 'touchstone-gateway%'"
    ))  # fmt: skip


@pytest.mark.parametrize("stop", [stop_fast, stop_at_once, kill_it, kill_one_session, terminate_sessions])
def test_the_database_goes_and_comes_back(lasting: Process, stop: Callable[[Shop], None]) -> None:
    with Crowd(lasting, stop.__name__) as crowd:
        crowd.wait_for(30)
        stop(lasting.shop)
        until(lambda: any(work.error is not None for work in crowd.done))
        before = len(crowd.done)
        until(lambda: any(work.is_whole for work in list(crowd.done)[before + CLIENTS :]), 60)
    works.nothing_left(lasting.shop)
    works.all_ended(lasting)
    works.agree(crowd.done, lasting.shop, lasting.events())


def test_a_full_disk_lets_nothing_run_until_it_takes_again(lasting: Process) -> None:
    gateway, shop = lasting, lasting.shop
    with Crowd(gateway, "full") as crowd:
        crowd.wait_for(30)
        # Nothing can be written any more, not even to the gateway's log.
        _, hard = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (1, hard))
        until(lambda: len([work for work in crowd.done if work.error is not None]) > 2 * CLIENTS)
        kept, rows = crowd.kept, shop.run("select count(*) from notes")
        until(lambda: len([work for work in crowd.done if work.error is not None]) > 4 * CLIENTS)
        assert (crowd.kept, shop.run("select count(*) from notes")) == (kept, rows)
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        crowd.wait_for(30)
    codes = {getattr(work.error, "sqlstate", None) for work in crowd.done if work.error is not None}
    assert codes <= {"58030", None}
    works.nothing_left(shop)
    works.all_ended(gateway)
    works.agree(crowd.done, shop, gateway.events())


def test_a_second_gateway_on_one_folder_does_not_start(lasting: Process) -> None:
    line = [sys.executable, "-m", "enforcement.gateway", str(lasting.folder / "gateway.toml")]
    second = subprocess.run(line, cwd=BASE, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 2
    assert f"{lasting.folder / 'spool'} is in use" in second.stderr
    with lasting.connect() as client:
        assert client.execute("select 1").fetchone() == (1,)


def test_a_hang_up_signal_changes_nothing(lasting: Process) -> None:
    with lasting.connect(autocommit=False) as client:
        client.execute("insert into notes (text) values ('through it')")
        lasting.process.send_signal(signal.SIGHUP)
        until(lambda: "SIGHUP changes nothing" in (lasting.folder / "stderr").read_text())
        client.commit()
    assert lasting.shop.run("select text from notes where text = 'through it'") == [("through it",)]


@pytest.mark.parametrize(
    ("hours", "sentence"),
    [(1, "not valid yet. Compare the clocks"), (-1, "expired at .*; the gateway's clock says ")],
    ids=["gateway an hour behind", "gateway an hour ahead"],
)
def test_clocks_that_are_an_hour_apart_are_said_to_be(lasting: Process, hours: int, sentence: str) -> None:
    now = dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours)
    claims: dict[str, Any] = {"iat": now, "exp": now + dt.timedelta(minutes=15)}
    known = len(failures(lasting))
    with pytest.raises(psycopg.OperationalError, match=sentence):
        lasting.connect(claims=claims)
    (failed,) = until(lambda: failures(lasting)[known:])
    assert failed["error"]["code"] == "28000"
    assert lasting.shop.sessions() == []


def failures(gateway: Process) -> list[dict[str, Any]]:
    return [one for one in gateway.events(kind="session") if one["session"]["phase"] == "failed"]
