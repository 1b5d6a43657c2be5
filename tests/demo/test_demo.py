"""The demo's parts that need no store: generated days, working hours, the monitored database, the actors' book."""

from __future__ import annotations

import datetime as dt
import json
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo import shop, simulated, story
from demo.actors import Actors, Book
from demo.desk import Desk
from demo.monitored import Monitored
from demo.store import Store
from lineage.events import Event
from lineage.sources import events


class Direct:
    """A way without a gateway: the database itself lets the accounts in, and nobody is asked."""

    def __init__(self, opened: shop.Shop) -> None:
        self.opened = opened

    def dsn(self, login: str, who: str, **wanted: Any) -> str:
        return self.opened.dsn(login)

    def decide(self, request_id: str, reason: str) -> None:
        raise AssertionError("nothing waits here")


FIRST_DAY = dt.date(2026, 8, 23)


def test_generated_days_are_the_same_every_time_and_all_can_be_read() -> None:
    made = list(simulated.Generator(FIRST_DAY).events())
    assert made == list(simulated.Generator(FIRST_DAY).events())
    assert 15_000 <= len(made) <= 25_000
    read = list(events.parse("\n".join(json.dumps(event) for event in made).encode()))
    assert all(isinstance(event, Event) for event in read)
    assert len({event["source_event_id"] for event in made}) == len(made)


def test_generated_days_stay_within_ninety_days_and_keep_an_office_week() -> None:
    times = [dt.datetime.fromisoformat(str(e["occurred_at"])) for e in simulated.Generator(FIRST_DAY).events()]
    days = {moment.date() for moment in times}
    assert min(days) == FIRST_DAY
    assert max(days) <= FIRST_DAY + dt.timedelta(days=simulated.DAYS)
    weekend = sum(moment.weekday() >= 5 for moment in times)
    assert weekend / 2 < (len(times) - weekend) / 5


@pytest.mark.parametrize("hour", range(24))
def test_the_schema_change_is_always_outside_the_working_hours(hour: int) -> None:
    now = dt.datetime(2026, 11, 21, hour, 59, tzinfo=dt.UTC)
    begins, ends = story.working_hours(now).split(" ")[1].split("-")
    for later in (now, now + dt.timedelta(minutes=10)):
        assert not begins <= f"{later:%H:%M}" < ends


def test_the_desk_keeps_what_the_store_did_not_take_and_refuses_a_second_decision(tmp_path: Path) -> None:
    nowhere = Store("http://127.0.0.1:9", {})
    desk = Desk(tmp_path / "desk.json", nowhere, "token")
    desk.request("OPS-1", "bob@shop.example", "because")
    desk.decide("OPS-1", "erin@shop.example", True)
    with pytest.raises(ValueError, match="approved"):
        desk.decide("OPS-1", "carol@shop.example", False)
    kept = json.loads((tmp_path / "desk.json").read_text())
    assert [event["sequence"] for event in kept["outbox"]] == [1, 2]
    assert kept["outbox"][1]["approval"]["approvers"] == ["erin@shop.example"]
    again = Desk(tmp_path / "desk.json", nowhere, "token")
    with pytest.raises(ValueError, match="exists"):
        again.request("OPS-1", "bob@shop.example", "again")


@pytest.mark.slow
def test_the_monitored_database_survives_a_kill_and_logs_rows_with_their_transaction(tmp_path_factory) -> None:
    root = tmp_path_factory.mktemp("private folder")
    server = Monitored(root)
    try:
        server.start()
        with server.connect() as connection:
            connection.execute("create table things (id int primary key)")
            connection.execute("insert into things values (1)")
        server.kill9()
        server.start()
        with server.connect() as connection:
            assert connection.execute("select count(*) from things").fetchone() == (1,)
            assert connection.execute("show wal_level").fetchone() == ("logical",)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(server.dsn("postgres", "wrong password"))
        text = "".join(path.read_text() for path in server.log_dir.glob("*.csv"))
        assert ("AUDIT: SESSION" in text) == server.has_pgaudit
        assert "insert into things values (1)" in text
    finally:
        server.remove()


@pytest.mark.slow
def test_actors_note_what_the_database_did(tmp_path_factory) -> None:
    server = Monitored(tmp_path_factory.mktemp("shop"))
    try:
        server.start()
        book = Book()
        opened = shop.open_shop(server)
        actors = Actors(opened, book, Direct(opened))
        stop = threading.Event()
        service = threading.Thread(target=actors.service, args=(stop, 0.05))
        service.start()
        actors.support()
        actors.agent()
        actors.refused()
        actors.rolled_back()
        actors.schema_change()
        actors.false_claim()
        actors.around()
        stop.set()
        service.join()
        actors.close()
        assert book.find("support-phone").rows == 1
        assert len(actors.exported) == 400
        assert book.find("around").attribution == "mapped_login"
        assert book.find("refused").error == "42501"
        assert not book.find("rolled-back").committed
        assert book.find("service").rows == 4
        assert len({deed.xid for deed in book.deeds if deed.rows}) == sum(1 for deed in book.deeds if deed.rows)
        with server.connect(shop.DATABASE) as connection:
            assert connection.execute("select count(*) from notes where id between 1001 and 1040").fetchone() == (0,)
            phone = connection.execute("select phone, loyalty_tier from customers where id = 4711").fetchone()
        assert phone == ("+46 8 555 0199", None)
    finally:
        server.remove()
