"""People, services and an agent at work on the order database, over real connections and in real time.

Nothing here talks to the store. Each deed is noted with the transaction id that the database gave it, so that
`demo.check` can compare what was done with what the store says.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg

from demo.shop import DATABASE, Shop
from enforcement import context

Cursor = psycopg.Connection[tuple[Any, ...]]
BULK_FIRST, BULK_LAST = 10_001, 15_000
AGENT = {
    "id": "insight-agent", "name": "Insight agent", "version": "2.3", "run_id": "run-7f3a",
    "model": "example-model-1", "tool_call_id": "call-0012",
}  # fmt: skip


@dataclass
class Deed:
    """One transaction: what it was, whose login, who should be named, and how many rows it changed."""

    label: str
    login: str
    person: str
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


class Actors:
    """Everybody who works on the shop. An observer's connection reads the transaction ids, unaudited."""

    def __init__(self, shop: Shop, book: Book) -> None:
        self.shop = shop
        self.book = book
        setting = "pgaudit.log=none" if shop.server.has_pgaudit else "log_statement=none"
        dsn = psycopg.conninfo.make_conninfo(shop.server.dsn(dbname=DATABASE), options=f"-c {setting}")
        self._observer = psycopg.connect(dsn, autocommit=True)
        self._observing = threading.Lock()

    def close(self) -> None:
        """End the observer's connection."""
        self._observer.close()

    @contextlib.contextmanager
    def session(self, login: str, app: str) -> Iterator[Cursor]:
        """One connection of one program."""
        with psycopg.connect(self.shop.dsn(login), application_name=app, autocommit=True) as connection:
            yield connection

    def do(
        self,
        connection: Cursor,
        deed: Deed,
        *statements: str,
        said: dict[str, Any] | None = None,
        rollback: bool = False,
    ) -> None:
        """One transaction; `said` is stamped into it first. A refusal by the database is noted, not raised."""
        try:
            with connection.transaction(force_rollback=rollback):
                if said:
                    context.stamp(connection, **said)
                for statement in statements:
                    done = connection.execute(statement)
                    if (done.statusmessage or "").split(" ")[0] in ("INSERT", "UPDATE", "DELETE"):
                        deed.rows += done.rowcount
                deed.xid = self._xid(connection.info.backend_pid)
            deed.committed = not rollback
        except psycopg.errors.InsufficientPrivilege as error:
            deed.error = error.sqlstate or ""
        self.book.note(deed)

    def _xid(self, pid: int) -> str:
        with self._observing:
            row = self._observer.execute("select backend_xid::text from pg_stat_activity where pid = %s", [pid])
            found = row.fetchone()
        return found[0] or "" if found else ""

    def support(self) -> None:
        """Alice looks a customer up by key, and corrects a phone number while she has her on the line."""
        with self.session("alice", "support-desk") as c:
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
        """An engineer's work through the operations console, which signs people in and says who they are."""
        with self.session("ops_console", "ops-console 4.2") as c:
            said = {"actor": person, "actor_type": "human", "ticket": ticket, "purpose": purpose}
            self.do(c, Deed(label, "ops_console", person), *statements, said=said)

    def agent(self) -> None:
        """The agent exports a customer list for Dana, then deletes notes, in her name."""
        said = {"actor": "insight-agent", "actor_type": "agent", "on_behalf_of": "dana@shop.example", "agent": AGENT}
        with self.session("analyst_agent", "insight-agent/2.3") as c:
            deed = Deed("agent-export", "analyst_agent", "insight-agent")
            with c.transaction():
                context.stamp(c, **said, purpose="List of customers for the spring letter")
                export = "copy (select id, name, email from customers where marketing_consent) to stdout with csv"
                with c.cursor().copy(export) as copy:
                    for _ in copy:
                        pass
                deed.xid = self._xid(c.info.backend_pid)
            deed.committed = True
            self.book.note(deed)
            time.sleep(0.5)
            self.do(c, Deed("agent-delete", "analyst_agent", "insight-agent"), "delete from notes where id between 1001 and 1040",
                    said=said | {"purpose": "Tidy up old notes", "agent": AGENT | {"tool_call_id": "call-0013"}})  # fmt: skip

    def refused(self) -> None:
        """The reporting job asks for what it may not see."""
        with self.session("reporting", "nightly-report") as c:
            self.do(
                c, Deed("refused", "reporting", "Reporting job"), "select name, iban from customers where id = 4711"
            )

    def rolled_back(self) -> None:
        """Bob tries something by hand and thinks better of it."""
        with self.session("bob", "psql") as c:
            self.do(c, Deed("rolled-back", "bob", "Bob Brandt"), "update orders set status = 'lost' where customer_id = 4711",
                    rollback=True)  # fmt: skip

    def schema_change(self) -> None:
        """Carol, who owns the tables, adds a column outside working hours."""
        with self.session("carol", "psql") as c:
            self.do(c, Deed("schema-change", "carol", "Carol Chen"), "alter table customers add column loyalty_tier text")  # fmt: skip

    def false_claim(self) -> None:
        """The warehouse terminal, an ordinary login, says that it is Carol."""
        said = {"actor": "carol@shop.example", "actor_type": "human", "ticket": "OPS-42"}
        with self.session("warehouse", "warehouse-terminal") as c:
            self.do(c, Deed("false-claim", "warehouse", "Warehouse terminal"), "update orders set status = 'returned' where id = 8001",
                    said=said)  # fmt: skip

    def service(self, stop: threading.Event, pause_seconds: float = 0.7) -> None:
        """The orders API writes steadily until told to stop; it comes back after the database did."""
        order = random.Random(7)
        while not stop.is_set():
            with contextlib.suppress(psycopg.OperationalError), self.session("orders_api", "orders-api/1.9") as c:
                while not stop.wait(pause_seconds):
                    self._order(c, order.randint(1, 20_000))
            stop.wait(0.5)

    def _order(self, connection: Cursor, customer: int) -> None:
        new = "currval('orders_id_seq')"
        self.do(
            connection, Deed("service", "orders_api", "orders-api"),
            f"insert into orders (customer_id) values ({customer})",
            f"insert into order_lines values ({new}, 1, 'article-{customer % 500}', 1, 19.90), ({new}, 2, 'shipping', 1, 4.90)",
            f"insert into payments (reference, order_id, amount) values ('PAY-' || lpad({new}::text, 6, '0'), {new}, 24.80)",
            said={"actor": "orders-api", "actor_type": "service", "purpose": "Order placed in the web shop"},
        )  # fmt: skip
