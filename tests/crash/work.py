"""A client's work through a gateway, each write with a value of its own, and what database and events say of it afterwards."""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Any

import psycopg

from tests.enforcement.gateway.running import Client, Shop, until

ALLOWED = frozenset({"allowed", "masked", "approved"})
CUSTOMERS = 50
CLIENTS = 3


class Work(threading.Thread):
    """One session that does everything once. `kept`: values whose success the client saw; `error`: what ended it, if anything did."""

    def __init__(self, gateway: Client, name: str, **more: Any) -> None:
        super().__init__(name=name, daemon=True)
        self.gateway, self.more = gateway, more
        self.kept: set[str] = set()
        self.error: psycopg.Error | ValueError | None = None
        self.is_whole = False

    def run(self) -> None:
        try:
            with contextlib.closing(self.gateway.connect(**self.more)) as client:
                for step in STEPS:
                    step(self, client)
            self.is_whole = True
        except (psycopg.Error, ValueError) as error:
            # psycopg unpacks one result behind a COPY, and finds two when the connection ends there.
            self.error = error

    def finish(self, seconds: float = 60) -> None:
        """The client must come to an end by itself, with an error when it did not do all."""
        self.join(seconds)
        assert not self.is_alive(), f"{self.name}: the client waits for ever"
        assert self.is_whole == (self.error is None), self.name

    def value(self, what: str) -> str:
        return f"{self.name}/{what}"


class Crowd:
    """Clients that do all their work again and again until told to stop. `done`: all of it."""

    def __init__(self, gateway: Client, name: str, pause_seconds: float = 0.0) -> None:
        self.gateway, self.name, self.pause_seconds = gateway, name, pause_seconds
        self.done: list[Work] = []
        self.stopping = threading.Event()
        self._threads = [threading.Thread(target=self._turns, args=(n,), daemon=True) for n in range(CLIENTS)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), f"a client of {self.name} waits for ever"

    def wait_for(self, kept: int) -> None:
        """Until so many more writes have succeeded."""
        goal = self.kept + kept
        until(lambda: self.kept >= goal, 60)

    @property
    def kept(self) -> int:
        return sum(len(work.kept) for work in list(self.done))

    def _turns(self, place: int) -> None:
        turn = 0
        while not self.stopping.is_set():
            work = Work(self.gateway, f"{self.name}.{place}.{turn}")
            self.done.append(work)
            work.run()
            self.stopping.wait(self.pause_seconds if work.error is None else 0.05)
            turn += 1


Step = Callable[[Work, psycopg.Connection[Any]], None]


def simple(work: Work, client: psycopg.Connection[Any]) -> None:
    value = work.value("simple")
    assert client.execute(_insert(value)).rowcount == 1
    work.kept.add(value)


def extended(work: Work, client: psycopg.Connection[Any]) -> None:
    value = work.value("extended")
    assert client.execute("insert into notes (text) values (%s)", [value]).rowcount == 1
    work.kept.add(value)


def transaction(work: Work, client: psycopg.Connection[Any]) -> None:
    values = {work.value("first"), work.value("second")}
    with client.transaction():
        client.execute(_insert(work.value("first")))
        with client.cursor("c") as cursor:
            cursor.execute("select id, name from customers order by id")
            assert len(cursor.fetchmany(10)) == 10
            client.execute("insert into notes (text) values (%s)", [work.value("second")])
            assert len(cursor.fetchall()) == CUSTOMERS - 10
    work.kept |= values


def refused(work: Work, client: psycopg.Connection[Any]) -> None:
    """A statement that the guardrails forbid undoes what stood before it in its transaction."""
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege), client.transaction():
        client.execute(_insert(work.value("undone")))
        client.execute(f"delete from customers /* {work.name} */".encode())
        raise AssertionError("the refused statement was said to have run")


def pipeline(work: Work, client: psycopg.Connection[Any]) -> None:
    values = [work.value(f"pipeline{number}") for number in range(3)]
    with client.pipeline():
        for value in values:
            client.execute("insert into notes (text) values (%s)", [value])
    work.kept.update(values)


def copy_in(work: Work, client: psycopg.Connection[Any]) -> None:
    values = [work.value(f"copy{number}") for number in range(5)]
    with client.cursor().copy(f"copy notes (text) from stdin /* {work.value('copy')} */") as rows:
        for value in values:
            rows.write_row([value])
    work.kept.update(values)


def copy_out(work: Work, client: psycopg.Connection[Any]) -> None:
    with client.cursor().copy("copy (select id, note from customers) to stdout") as rows:
        assert b"".join(rows).count(b"\n") == CUSTOMERS, "a part of the rows was said to be all"


STEPS: tuple[Step, ...] = (simple, extended, transaction, refused, pipeline, copy_in, copy_out)


def _insert(value: str) -> bytes:
    return f"insert into notes (text) values ('{value}')".encode()


class Told:
    """What the events say. Fails at once when one of them is told twice."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        names = [event["source_event_id"] for event in events]
        assert len(names) == len(set(names)), "an event is told twice"
        self.events = [event for event in events if event["kind"] == "query"]
        self.ends: dict[tuple[str, str], str] = {}
        for event in self.events:
            transaction = event.get("transaction") or {}
            if transaction.get("id") and transaction.get("outcome"):
                self.ends[event["session_id"], transaction["id"]] = transaction["outcome"]

        self._naming: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._by_work: defaultdict[str, set[str]] = defaultdict(set)
        for event in self.events:
            for value in _named(event):
                self._naming[value].append(event)
                self._by_work[value.partition("/")[0]].add(value)

    def of(self, value: str) -> list[dict[str, Any]]:
        """The statements that ran, or may have run, and name this value; for a copied one its COPY."""
        copied = value[:-1] if value[:-1].endswith("/copy") else value
        return [event for event in self._naming.get(copied, ()) if event["verdict"] in ALLOWED]

    def kept(self, work: Work) -> set[str]:
        """Single values of this work that are told as committed."""
        of = [value for value in self._by_work[work.name] if not value.endswith("/copy")]
        return {
            value
            for value in of
            if any(self.outcome(event) == "committed" and not event.get("error") for event in self.of(value))
        }

    def outcome(self, event: dict[str, Any]) -> str:
        """Its own, or what the end of its transaction said."""
        transaction = event.get("transaction") or {}
        known = transaction.get("outcome") or self.ends.get((event["session_id"], transaction.get("id", "")))
        return known or "unknown"


def _named(event: dict[str, Any]) -> set[str]:
    """What stands in an event's literals, parameters and comments."""
    text = (event.get("statement") or {}).get("text", "")
    parameters = {one.get("value") or "" for one in event.get("parameters") or ()}
    comments = {part.partition(" */")[0] for part in text.split("/* ")[1:]}
    return {value for value in parameters | comments | set(text.split("'")[1::2]) if "/" in value}


def agree(works: list[Work], shop: Shop, events: list[dict[str, Any]]) -> None:
    """Database, events and clients say the same: nothing ran untold, nothing told as kept is missing, no success was false."""
    told = Told(events)
    written: dict[str, list[str]] = {work.name: [] for work in works}
    for (text,) in shop.run("select text from notes where text like '%%/%%'"):
        if text.partition("/")[0] in written:
            written[text.partition("/")[0]].append(text)
    for work in works:
        found = set(written[work.name])
        assert len(found) == len(written[work.name]), f"{work.name}: a row was written twice"
        assert work.kept <= found, f"{work.name}: the client was told of rows that are not there"
        assert work.value("undone") not in found
        _all_told(work, found, told)


def _all_told(work: Work, found: set[str], told: Told) -> None:
    for value in found:
        outcomes = [told.outcome(event) for event in told.of(value)]
        assert outcomes, f"{value} stands in the database and no event names it"
        assert len(outcomes) == 1, f"{value} is told {len(outcomes)} times"
        assert outcomes[0] in ("committed", "unknown"), f"{value} stands in the database and is told as {outcomes[0]}"
        if value in work.kept:
            assert outcomes[0] == "committed", f"the client knows that {value} was written, the events do not"
    missing = told.kept(work) - found
    assert not missing, f"told as committed and not there: {missing}"


def nothing_left(shop: Shop) -> None:
    """No session of the gateway's clients stays in the database, and so none of their locks."""
    until(lambda: not shop.sessions(), 60)
    locks = (
        "select count(*) from pg_locks l join pg_stat_activity a using (pid) where a.usename in ('app', 'other')"
        " and a.datname = current_database() and a.application_name not like 'touchstone-gateway%'"
    )
    assert shop.run(locks) == [(0,)]


def all_ended(gateway: Client) -> None:
    """Each session that a client began has its end."""

    def phases() -> bool:
        clients = (one for one in gateway.events(kind="session") if one["actor"].get("type") != "system")
        told = [event["session"]["phase"] for event in clients]
        return told.count("start") == told.count("end")

    until(phases, 60)
