"""The gateway's own sessions with a database: to read its catalog, to ask for a plan.

Each is told to the store like any session, in the gateway's own name and with the database's id of it. So what the server's
log says of it is the gateway's, and nobody else's session can pass for one (docs/gateway.md).
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg

from enforcement import shipper
from enforcement.gateway.databases import SESSION_ID
from enforcement.gateway.entries import SessionBegan, SessionEnded, SessionFacts, Told
from enforcement.gateway.recording import Unrecorded
from enforcement.gateway.settings import Account, Database, secret
from lineage.events import Actor, Client

PROGRAM = "touchstone-gateway"


class Errands:
    """Opens them for the gateway called `gateway`; `record` writes their starts and ends down."""

    def __init__(self, gateway: str, record: Callable[[Told], None]) -> None:
        self._gateway, self._record = gateway, record

    @contextlib.asynccontextmanager
    async def session(
        self, database: Database, account: Account, errand: str
    ) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """One session under `account`, each statement of which commits. Raises psycopg.Error."""
        program = f"{PROGRAM} {errand}"
        async with await psycopg.AsyncConnection.connect(
            conninfo(database, account, program), autocommit=True
        ) as opened:
            row = await (await opened.execute(SESSION_ID)).fetchone()
            facts = SessionFacts(
                session_id=str(uuid.uuid4()), started_at=time.time(), datasource=database.datasource, database=database.name,
                actor=Actor(id=f"gateway {self._gateway}", type="system", db_user=account.account), client=Client(app=program),
                db_session_id=row[0] if row else None, purpose=errand,
            )  # fmt: skip
            self._begin(facts)
            try:
                yield opened
            finally:
                self._record(SessionEnded(session=facts, at=time.time(), close_reason="done"))

    def _begin(self, facts: SessionFacts) -> None:
        """It only looks, so it goes on where it cannot be written down; its end is told when the disk takes it."""
        try:
            self._record(SessionBegan(session=facts))
        except Unrecorded as error:
            shipper.say(f"gateway: a session of its own ({facts.purpose}) is not written down: {error.reason}")


def conninfo(database: Database, account: Account, application: str) -> str:
    """How a side connection of the gateway reaches the database."""
    return psycopg.conninfo.make_conninfo(
        host=database.host,
        port=database.port,
        dbname=database.real_name,
        user=account.account,
        password=secret(account.password_file),
        sslmode=database.sslmode,
        sslrootcert=database.sslrootcert or None,
        application_name=application,
        gssencmode="disable",
        connect_timeout=10,
        client_encoding="UTF8",
    )
