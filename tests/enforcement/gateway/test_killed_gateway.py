"""A gateway killed with SIGKILL: nothing ran that is not told, nothing is told twice, no lock stays."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.enforcement.gateway.running import Process, Shop, Signer, until

pytestmark = pytest.mark.slow


@pytest.fixture
def start(served_shop: Shop, signer: Signer, tmp_path: Path) -> Iterator[Callable[[], Process]]:
    """Called: the gateway of this test's folder, started (again)."""
    made: list[Process] = []
    folder = tmp_path / "process"
    folder.mkdir()

    def begin() -> Process:
        made.append(Process(folder, served_shop, signer))
        return made[-1]

    yield begin
    for one in made:
        one.stop()


def kill(gateway: Process) -> None:
    gateway.process.kill()
    gateway.process.wait(60)


def by_id(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Fails when an event is told twice."""
    found = {event["source_event_id"]: event for event in events}
    assert len(found) == len(events)
    return found


def told_of(gateway: Process, text: str) -> dict[str, Any]:
    """The one event of the statement with this text."""
    (found,) = gateway.queries(text)
    return found


def test_a_statement_that_runs_when_the_gateway_dies_is_told_as_lost_once(
    start: Callable[[], Process], served_shop: Shop
) -> None:
    gateway = start()
    connection = gateway.connect()
    connection.execute("update customers set note = 'before' where id = 1")
    answer: list[BaseException] = []

    def run() -> None:
        try:
            connection.execute("update customers set note = 'held up' where id = 2")
        except psycopg.Error as error:
            answer.append(error)

    with served_shop.cluster.connect(served_shop.name) as blocker, blocker.transaction():
        blocker.execute("select from customers where id = 2 for update")
        client = threading.Thread(target=run)
        client.start()
        until(lambda: served_shop.is_running("held up"))
        kill(gateway)
        client.join(60)
    assert isinstance(answer[0], psycopg.OperationalError), "the client gets an error"
    for _ in range(2):
        gateway = start()
        assert gateway.stop() == 0
        by_id(gateway.events())
        lost, done = told_of(gateway, "held up"), told_of(gateway, "before")
        assert (lost["flags"], lost["transaction"]["outcome"]) == (["answer_lost"], "unknown")
        assert (lost["actor"]["id"], lost["verdict"], lost["op"]) == ("dana@shop.example", "allowed", "update")
        assert (done.get("flags"), done["rows"]["affected"]) == (None, 1)
        ends = [event["session"]["close_reason"] for event in gateway.sessions() if event["session"]["phase"] == "end"]
        assert ends == ["the gateway stopped without telling the end"]
    until(lambda: not served_shop.sessions())


def test_an_open_transaction_of_a_gateway_that_died_leaves_no_lock(
    start: Callable[[], Process], served_shop: Shop
) -> None:
    gateway = start()
    connection = gateway.connect(autocommit=False)
    connection.execute("update customers set note = 'never' where id = 3")
    kill(gateway)
    until(lambda: not served_shop.sessions())
    served_shop.run("update customers set note = 'free' where id = 3")
    with contextlib.suppress(psycopg.Error):
        connection.commit()
    gateway = start()
    gateway.stop()
    by_id(gateway.events())
    # Told while its transaction was open, or found in flight: nobody knows how it ended, and nobody says so.
    assert told_of(gateway, "never")["transaction"].get("outcome", "unknown") == "unknown"
    assert served_shop.run("select note from customers where id = 3") == [("free",)]


def test_every_change_in_the_database_is_named_whenever_the_gateway_is_killed(
    start: Callable[[], Process], served_shop: Shop
) -> None:
    acknowledged = []
    for number in range(3):
        gateway = start()
        connection = gateway.connect()

        def work(connection: psycopg.Connection[Any], number: int) -> None:
            with contextlib.suppress(psycopg.Error):
                for turn in range(10_000):
                    text = f"r{number}-{turn}"
                    connection.execute(f"insert into notes (text) values ('{text}')".encode())
                    acknowledged.append(text)

        client = threading.Thread(target=work, args=(connection, number))
        before = len(acknowledged)
        client.start()
        until(lambda: len(acknowledged) > before + 10 * (number + 1))  # noqa: B023  done before the next turn
        kill(gateway)
        client.join(60)
    gateway = start()
    gateway.stop()
    events = by_id(gateway.events(kind="query"))
    told = {event["statement"]["text"]: event for event in events.values()}
    written = {text for (text,) in served_shop.run("select text from notes")}
    assert set(acknowledged) <= written
    assert written <= {text.split("'")[1] for text in told if "insert into notes" in text}
    for text in acknowledged:
        event = told[f"insert into notes (text) values ('{text}')"]
        assert "answer_lost" not in event.get("flags", []), text
        assert event["transaction"]["outcome"] == "committed"
