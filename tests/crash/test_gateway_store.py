"""The store is away, slow, cut off in the middle of a batch and killed while people work through a gateway: it gets everything once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash import work as works
from tests.crash.network import Cut, Network
from tests.crash.running import Product, wait_for
from tests.crash.work import Crowd
from tests.enforcement.gateway.fixtures import *  # noqa: F403
from tests.enforcement.gateway.running import Process, Shop, Signer, private, until

pytestmark = pytest.mark.slow
IMPATIENT = """
from enforcement import shipper
from enforcement.gateway import __main__, desk
shipper.FIRST_WAIT_SECONDS, shipper.LONGEST_WAIT_SECONDS, desk.LONGEST_WAIT_SECONDS = 0.1, 0.5, 1.0
raise SystemExit(__main__.main())
"""


class Impatient(Process):
    """A gateway that tries its store again soon, however long that is away: minutes would pass here otherwise."""

    program = ("-c", IMPATIENT)


@pytest.fixture
def to_store(product: Product) -> Iterator[Network]:
    made = Network(product.port)
    yield made
    made.stop()


@pytest.fixture
def gate(product: Product, to_store: Network, served_shop: Shop, signer: Signer, tmp_path: Path) -> Iterator[Process]:
    """It begins while its store cannot be reached."""
    folder = tmp_path / "gate"
    folder.mkdir()
    words = ("--format", "gateway", "--environment", "production", "--datasource", "shop")
    token = product.manage("source", "add", folder.parent.name, *words)
    private(folder / "token", token.encode())
    to_store.down()
    settings = f'store = "http://127.0.0.1:{to_store.port}"\ntoken_file = "{folder / "token"}"'
    made = Impatient(folder, served_shop, signer, gateway=settings)
    yield made
    made.stop()


def test_the_store_has_everything_once_whatever_happened_to_it(
    product: Product, auditor: str, to_store: Network, gate: Process, served_shop: Shop
) -> None:
    with Crowd(gate, "s", pause_seconds=0.2) as crowd:
        crowd.wait_for(30)
        for cut in (
            Cut("up", 1500, "reset"),
            Cut("up", 4000, "close"),
            Cut("down", 0, "reset"),
            Cut("down", 40, "reset"),
        ):
            to_store.up()
            until(lambda: was_cut(to_store, cut), 60)  # noqa: B023  before the next
            to_store.down()
            crowd.wait_for(10)
        to_store.plan = None
        to_store.delay_seconds = 0.3
        to_store.up()
        crowd.wait_for(30)
        to_store.delay_seconds = 0.0
        product.kill9_all()
        crowd.wait_for(60)
        product.start()
        crowd.wait_for(30)
    assert all(work.error is None for work in crowd.done), "nobody who works is told of the store"
    works.nothing_left(served_shop)
    works.all_ended(gate)
    events = gate.events()
    works.agree(crowd.done, served_shop, events)
    told = Counter(event["statement"]["text"] for event in events if event["kind"] == "query")
    source = f"source:{gate.folder.parent.name}"
    asked = f"{source} kind:query"
    wait_for(lambda: total(product, auditor, asked) >= told.total(), 60, "all statements arrive")
    assert Counter(str(row["statement"]) for row in product.rows("events", auditor, q=asked)) == told
    sessions = Counter(event["session"]["phase"] for event in events if event["kind"] == "session")
    wait_for(lambda: total(product, auditor, f"{source} kind:session") >= sessions.total(), 60, "sessions arrive")
    assert total(product, auditor, f"{source} kind:session") == sessions.total()


def test_a_client_that_goes_while_its_statement_is_held_leaves_nothing(
    product: Product, auditor: str, to_store: Network, gate: Process, served_shop: Shop
) -> None:
    to_store.up()
    client = gate.connect(autocommit=False)
    client.execute("update customers set note = 'before' where id = 1")
    client.pgconn.send_query(b"update customers set note = 'held' where id > 40")
    (asked,) = until(lambda: held(product, auditor), 60)
    assert (asked["state"], asked["in_transaction"]) == ("requested", True)
    assert served_shop.sessions(), "its transaction waits in the database"
    client.pgconn.finish()
    works.nothing_left(served_shop)
    works.all_ended(gate)
    assert served_shop.run("select count(*) from customers where note not like 'note%%'") == [(0,)]
    assert [event["verdict"] for event in gate.queries("'held'") if event["verdict"] in works.ALLOWED] == []
    until(lambda: held(product, auditor)[0]["state"] == "withdrawn", 60)


def held(product: Product, auditor: str) -> list[dict[str, Any]]:
    """What was asked of a person."""
    return list(product.ask("/api/v1/gateway/held", auditor)["items"])


def was_cut(network: Network, cut: Cut) -> bool:
    """Whether one of the connections was cut so; the next one will be, if none was."""
    network.plan = cut
    return any(link.cut is cut and link.was_cut.is_set() for link in network.links)


def total(product: Product, auditor: str, asked: str) -> int:
    answer = product.ask(f"/api/v1/events?limit=1&q={asked.replace(' ', '+')}", auditor)
    return int(answer["total"]["value"])
