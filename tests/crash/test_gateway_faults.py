"""Gateway, database and network die at any point: nothing ran untold, nothing is told twice, no lock stays, no false success."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.crash import work as works
from tests.crash.network import Cut, Direction, Network, borders
from tests.crash.work import Work
from tests.enforcement.gateway.fixtures import *  # noqa: F403
from tests.enforcement.gateway.running import Process, Shop, Signer, until

pytestmark = pytest.mark.slow
SEED = 4
CUTS, CUTS_IN_TLS = 56, 8
PLAIN = {
    "gateway": "cleartext_on_loopback = true",
    "database": 'sslmode = "disable"\ninsecure_because = "the test counts the messages on the wire"',
}


class Place(NamedTuple):
    """Where a connection is cut: before the gateway (`is_client`) or behind it."""

    is_client: bool
    cut: Cut


class Between:
    """A gateway process with a network on both sides."""

    def __init__(self, folder: Path, shop: Shop, signer: Signer, *, is_plain: bool) -> None:
        folder.mkdir()
        self.shop, self.is_plain = shop, is_plain
        self.behind = Network(shop.cluster.port)
        shop.port = self.behind.port
        self.gateway = Process(folder, shop, signer, **(PLAIN if is_plain else {}))
        self.before = Network(self.gateway.port)
        self.gateway.port = self.before.port

    def work(self, name: str) -> Work:
        return Work(self.gateway, name, **({"sslmode": "disable"} if self.is_plain else {}))

    def clean(self) -> list[tuple[bool, Direction, bytes]]:
        """What goes each way when nothing fails."""
        done = self.work("clean")
        done.start()
        done.finish()
        assert done.error is None, done.error
        works.nothing_left(self.shop)
        ways: tuple[Direction, Direction] = ("up", "down")
        links = ((True, self.before.links[-1]), (False, self.behind.links[-1]))
        return [(is_client, way, bytes(link.passed[way])) for is_client, link in links for way in ways]

    def cut(self, name: str, place: Place) -> tuple[Work, bool]:
        """The same work with one cut; whether that came to be."""
        network = self.before if place.is_client else self.behind
        network.forget()
        begun = len(network.links)
        network.plan = place.cut
        work = self.work(name)
        work.start()
        while work.is_alive():
            work.join(0.05)
            for link in network.links[begun:]:
                if link.cut is place.cut and link.was_cut.is_set() and place.cut.how == "silent":
                    link.reset()
        work.finish()
        works.nothing_left(self.shop)
        was_cut = any(link.cut is place.cut and link.was_cut.is_set() for link in network.links[begun:])
        network.plan = None
        return work, was_cut

    def stop(self) -> None:
        self.gateway.stop()
        self.before.stop()
        self.behind.stop()
        self.shop.port = self.shop.cluster.port


@pytest.fixture
def between(served_shop: Shop, signer: Signer, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Between]:
    made = Between(tmp_path / "between", served_shop, signer, is_plain=request.param)
    yield made
    made.stop()


def places(between: Between, count: int) -> list[Place]:
    """A seeded choice of message borders, and of bytes inside messages."""
    chance = random.Random(SEED)
    every = []
    for is_client, way, passed in between.clean():
        ends = borders(passed, has_startup=way == "up") if between.is_plain else range(1, len(passed), 97)
        inside = [end - chance.randint(1, 4) for end in ends]
        every += [(is_client, way, after) for after in (*ends, *inside)]
    chosen = chance.sample(every, count)
    return [
        Place(is_client, Cut(way, after, chance.choice(("reset", "close", "silent"))))
        for is_client, way, after in chosen
    ]


@pytest.mark.parametrize(
    ("between", "count"), [(True, CUTS), (False, CUTS_IN_TLS)], indirect=["between"], ids=["plain", "tls"]
)
def test_whatever_the_network_cuts_is_told_as_it_went(between: Between, count: int) -> None:
    chosen, done, cuts = places(between, count), [], 0
    for number, place in enumerate(chosen):
        work, was_cut = between.cut(f"w{number}", place)
        cuts += was_cut
        done.append(work)
    assert cuts >= count * 3 // 4, "most of the cuts met a running session"
    works.all_ended(between.gateway)
    assert between.gateway.stop() == 0
    told = between.gateway.events()
    for work, place in zip(done, chosen, strict=True):
        try:
            works.agree([work], between.shop, told)
        except AssertionError as error:
            raise AssertionError(f"{place}: {error}") from error


@pytest.mark.parametrize("between", [False], indirect=True, ids=["tls"])
def test_what_a_client_left_running_ends_though_the_cancel_is_lost(between: Between) -> None:
    for number, cut in enumerate((Cut("up", 1, "reset"), Cut("up", 300, "silent")), 1):
        client = between.gateway.connect()
        client.execute("begin")
        client.execute(f"update customers set note = 'held' where id = {number}".encode())
        client.pgconn.send_query(f"select pg_sleep(600) /* left {number} */".encode())
        until(lambda: between.shop.is_running(f"left {number}"))  # noqa: B023  at once
        between.behind.plan = cut
        client.pgconn.finish()
        until(lambda: any(link.cut is cut and link.was_cut.is_set() for link in between.behind.links))  # noqa: B023
        between.behind.links[-1].reset()
    works.nothing_left(between.shop)
    works.all_ended(between.gateway)
    for number in (1, 2):
        (told,) = between.gateway.queries(f"left {number}")
        assert (told["flags"], told["verdict"]) == (["answer_lost"], "allowed")
    assert between.shop.run("select note from customers where id < 3 order by id") == [("note 1",), ("note 2",)]


@pytest.mark.parametrize("between", [True], indirect=True, ids=["plain"])
def test_a_slow_network_changes_nothing(between: Between) -> None:
    between.before.delay_seconds = between.behind.delay_seconds = 0.003
    work = between.work("slow")
    work.start()
    work.finish()
    assert work.error is None
    works.nothing_left(between.shop)
    works.all_ended(between.gateway)
    works.agree([work], between.shop, between.gateway.events())
