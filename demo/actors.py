"""People, services and an agent at work on the order database, over real connections and in real time.

Nearly all go through the gateway. Each deed is noted with the transaction id that the database gave it, so that
`demo.check` can compare what was done with what the store says.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psycopg

from demo.shop import DATABASE, Shop
from enforcement import context

Cursor = psycopg.Connection[tuple[Any, ...]]
BULK_FIRST, BULK_LAST = 10_001, 15_000
AGENT = {"id": "insight-agent", "name": "Insight agent", "version": "2.3", "run_id": "run-7f3a", "model": "example-model-1"}  # fmt: skip
BULK = f"update customers set marketing_consent = false where id between {BULK_FIRST} and {BULK_LAST}"
LETTER = "select id, name, email from customers where marketing_consent"


class Way(Protocol):
    """How the actors reach the order database, and who decides what waits for a person there."""

    def dsn(self, login: str, who: str, **wanted: Any) -> str:
        """A connection string under an account, with purpose, ticket and agent."""

    def decide(self, request_id: str, reason: str) -> None:
        """Another person approves."""


@dataclass
class Deed:
    """One transaction: what it was, under which account, who should be named and why, and how many rows it changed.

    `request` is the gateway's, where somebody had to approve; `error` what was refused, the first time it was tried.
    """

    label: str
    login: str
    person: str
    attribution: str = "gateway"
    request: str = ""
    xid: str = ""
    rows: int = 0
    committed: bool = False
    error: str = ""


@dataclass
class Book:
    """All deeds, in the order in which they ended."""

    deeds: list[Deed] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, deed: Deed) -> None:
        with self.lock:
            self.deeds.append(deed)

    def find(self, label: str) -> Deed:
        return next(deed for deed in self.deeds if deed.label == label)

    def write(self, file: Path) -> None:
        """All of it as JSON, for whoever compares it with what the store says; whole or not at all."""
        draft = file.with_suffix(".new")
        draft.write_text(json.dumps([asdict(deed) for deed in list(self.deeds)], indent=1))
        draft.rename(file)


class Actors:
    """Everybody who works on the shop. An observer's connection reads the transaction ids, unaudited."""

    def __init__(self, shop: Shop, book: Book, way: Way) -> None:
        self.shop = shop
        self.book = book
        self.way = way
        self.exported: list[tuple[Any, ...]] = []
        setting = "pgaudit.log=none" if shop.server.has_pgaudit else "log_statement=none"
        dsn = psycopg.conninfo.make_conninfo(shop.server.dsn(dbname=DATABASE), options=f"-c {setting}")
        self._observer = psycopg.connect(dsn, autocommit=True)
        self._observing = threading.Lock()

    def close(self) -> None:
        """End the observer's connection."""
        self._observer.close()

    @contextlib.contextmanager
    def session(self, login: str, app: str, who: str = "", **wanted: Any) -> Iterator[Cursor]:
        """One connection of one program, for `who` through the gateway; of nobody in particular around it."""
        dsn = self.way.dsn(login, who, **wanted) if who else self.shop.dsn(login)
        with psycopg.connect(dsn, application_name=app, autocommit=True) as connection:
            yield connection

    def do(
        self,
        connection: Cursor,
        deed: Deed,
        *statements: str,
        said: dict[str, Any] | None = None,
        rollback: bool = False,
    ) -> None:
        """One transaction; `said` is stamped into it first. A refusal is noted, not raised."""
        try:
            with connection.transaction(force_rollback=rollback):
                if said:
                    context.stamp(connection, **said)
                for statement in statements:
                    done = connection.execute(statement)
                    if (done.statusmessage or "").split(" ")[0] in ("INSERT", "UPDATE", "DELETE"):
                        deed.rows += done.rowcount
                deed.xid = self._xid(deed.login)
            deed.committed = not rollback
        except psycopg.errors.InsufficientPrivilege as error:
            deed.error = error.sqlstate or ""
        self.book.note(deed)

    def approved(self, connection: Cursor, deed: Deed, statement: str, reason: str) -> None:
        """A statement that waits for another person: asked for, approved, run again."""
        try:
            connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege as error:
            deed.error = error.sqlstate or ""
            found = re.search(r"as request (\S+?)[.]", error.diag.message_hint or "")
            if found is None:
                raise
            deed.request = found[1]
            self.way.decide(deed.request, reason)
            self.do(connection, deed, statement)

    def _xid(self, login: str) -> str:
        """Of the transaction that is open under this account. Each account has one session at a time that writes."""
        with self._observing:
            found = self._observer.execute(
                "select backend_xid::text from pg_stat_activity where usename = %s and backend_xid is not null", [login]
            ).fetchone()
        return found[0] if found else ""

    def support(self) -> None:
        """Alice looks a customer up by key, and corrects a phone number while she has her on the line."""
        with self.session("alice", "support-desk", "alice@shop.example", purpose="A customer calls") as c:
            person = "Alice Adler"
            self.do(
                c, Deed("support-read", "alice", person), "select id, name, email, phone from customers where id = 4711"
            )
            time.sleep(0.5)
            self.do(
                c,
                Deed("support-orders", "alice", person),
                "select id, status, placed_at from orders where customer_id = 4711",
            )
            self.do(
                c,
                Deed("support-phone", "alice", person),
                "update customers set phone = '+46 8 555 0199' where id = 4711",
            )
            self.do(c, Deed("support-note", "alice", person),
                    "insert into notes (customer_id, author, body) values (4711, 'alice', 'New phone number, asked by her')")  # fmt: skip

    def console(self, label: str, person: str, ticket: str, purpose: str, *statements: str) -> None:
        """An engineer's work through the operations console, whose one account several people share."""
        with self.session("ops_console", "ops-console 4.2", person, ticket=ticket, purpose=purpose) as c:
            self.do(c, Deed(label, "ops_console", person), *statements)

    def bulk(self, person: str, ticket: str, purpose: str) -> None:
        """Five thousand rows that no key names: the gateway holds it until somebody else has looked."""
        with self.session("ops_console", "ops-console 4.2", person, ticket=ticket, purpose=purpose) as c:
            self.approved(c, Deed("bulk-update", "ops_console", person), BULK, "The range is the imported customers")

    def agent(self) -> None:
        """The agent wants all customers for Dana, takes as many as it may, masked, and deletes notes when somebody agrees."""
        dana = "dana@shop.example"
        with self.session(
            "analyst_agent", "insight-agent/2.3", dana, agent=AGENT, purpose="List for the spring letter"
        ) as c:
            self._export(c)
            self.exported = c.execute(f"{LETTER} order by id limit 400").fetchall()
        with self.session("analyst_agent", "insight-agent/2.3", dana, agent=AGENT, purpose="Tidy up old notes") as c:
            deed = Deed("agent-delete", "analyst_agent", "insight-agent")
            self.approved(c, deed, "delete from notes where id between 1001 and 1040", "Old notes, forty of them")

    def _export(self, connection: Cursor) -> None:
        deed = Deed("agent-export", "analyst_agent", "insight-agent")
        try:
            with connection.cursor().copy(f"copy ({LETTER}) to stdout with csv") as copy:
                deed.committed = not deque(copy, maxlen=0)
        except psycopg.Error as error:
            deed.error = error.sqlstate or ""
        self.book.note(deed)

    def refused(self) -> None:
        """The reporting job asks for what it may not see."""
        with self.session("reporting", "nightly-report", "reporting") as c:
            self.do(
                c, Deed("refused", "reporting", "Reporting job"), "select name, iban from customers where id = 4711"
            )

    def rolled_back(self) -> None:
        """Bob tries something by hand and thinks better of it."""
        with self.session("bob", "psql", "bob@shop.example") as c:
            self.do(c, Deed("rolled-back", "bob", "Bob Brandt"), "update orders set status = 'lost' where id = 8001",
                    rollback=True)  # fmt: skip

    def drop(self) -> None:
        """Carol owns the tables: the database would let her. The gateway does not."""
        with self.session("carol", "psql", "carol@shop.example") as c:
            self.do(c, Deed("drop", "carol", "Carol Chen"), "drop table notes")

    def around(self) -> None:
        """Bob has got the password of his account, and reaches the database without the gateway."""
        with self.session("bob", "psql") as c:
            deed = Deed("around", "bob", "Bob Brandt", "mapped_login")
            self.do(c, deed, "update payments set amount = 1 where reference = 'PAY-000200'")

    def schema_change(self) -> None:
        """Carol, who owns the tables, adds a column outside working hours."""
        with self.session("carol", "psql", "carol@shop.example", purpose="Loyalty programme") as c:
            self.do(c, Deed("schema-change", "carol", "Carol Chen"), "alter table customers add column loyalty_tier text")  # fmt: skip

    def false_claim(self) -> None:
        """The warehouse terminal, which goes around the gateway by right, says that it is Carol."""
        said = {"actor": "carol@shop.example", "actor_type": "human", "ticket": "OPS-42"}
        with self.session("warehouse", "warehouse-terminal") as c:
            deed = Deed("false-claim", "warehouse", "Warehouse terminal", "mapped_login")
            self.do(c, deed, "update orders set status = 'returned' where id = 8001", said=said)

    def service(self, stop: threading.Event, pause_seconds: float = 0.7) -> None:
        """The orders API writes steadily until told to stop; it comes back after the database did."""
        order = random.Random(7)
        while not stop.is_set():
            with contextlib.suppress(psycopg.OperationalError, OSError), self._orders_session() as c:
                while not stop.wait(pause_seconds):
                    self._order(c, order.randint(1, 20_000))
            stop.wait(0.5)

    def _orders_session(self) -> contextlib.AbstractContextManager[Cursor]:
        return self.session("orders_api", "orders-api/1.9", "orders-api", purpose="Order placed in the web shop")

    def _order(self, connection: Cursor, customer: int) -> None:
        new = "currval('orders_id_seq')"
        self.do(
            connection, Deed("service", "orders_api", "orders-api"),
            f"insert into orders (customer_id) values ({customer})",
            f"insert into order_lines values ({new}, 1, 'article-{customer % 500}', 1, 19.90), ({new}, 2, 'shipping', 1, 4.90)",
            f"insert into payments (reference, order_id, amount) values ('PAY-' || lpad({new}::text, 6, '0'), {new}, 24.80)",
        )  # fmt: skip
