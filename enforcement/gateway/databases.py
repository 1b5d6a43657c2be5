"""One database of the settings, as sessions reach it: dialled, encrypted, signed in to, cancelled."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import NamedTuple

from enforcement.gateway import messages, sockets, upstream
from enforcement.gateway.settings import Account, Database, secret
from enforcement.gateway.sockets import Lost, Wire
from enforcement.gateway.upstream import UpstreamLogin, UpstreamRefused

SESSION_ID = (
    "select pg_catalog.concat(pg_catalog.to_hex(pg_catalog.trunc(extract(epoch from s.backend_start))::pg_catalog.int4), '.',"
    " pg_catalog.to_hex(s.pid)) from pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) s"
)
"""The session as PostgreSQL writes it into its log lines (%c)."""
NOTICE_LOSS = {
    "client_connection_check_interval": "2s", "tcp_keepalives_idle": "60", "tcp_keepalives_interval": "15",
    "tcp_keepalives_count": "4", "tcp_user_timeout": "120s",
}  # fmt: skip
"""So that the database ends what runs, and its locks, when the gateway or the network has died without a word. PostgreSQL 14 and newer.

Given at startup: what is set there is what RESET ALL and DISCARD ALL go back to.
"""


class Connected(NamedTuple):
    """A session of the database's own. `parameters` are what it reported; `pid` and `secret` cancel it."""

    wire: Wire
    parameters: dict[str, str]
    pid: int
    secret: bytes
    db_session_id: str | None


class Upstream:
    """How `database` is reached. UpstreamRefused with SQLSTATE and sentence when it is not."""

    def __init__(self, database: Database, seconds: float) -> None:
        self.database, self._seconds = database, seconds
        self._context = context(database)

    async def connect(self, account: Account, parameters: Mapping[str, str]) -> Connected:
        """A new session under `account`."""
        wire: Wire | None = None
        try:
            async with asyncio.timeout(self._seconds):
                wire = await self._dial()
                return await self._sign_in(wire, account, parameters)
        except TimeoutError:
            if wire is not None:
                wire.abort()
            sentence = f"The database did not let the session in within {self._seconds:g} s. Try again."
            raise UpstreamRefused("08001", sentence) from None
        except BaseException:
            if wire is not None:
                wire.abort()
            raise

    async def cancel(self, pid: int, secret: bytes) -> None:
        """Send a CancelRequest on a connection of its own and wait until the database has closed that."""
        try:
            async with asyncio.timeout(self._seconds):
                wire = await self._dial()
                try:
                    wire.write(messages.encode_cancel_request(pid, secret))
                    while True:
                        await wire.take()
                finally:
                    wire.close()
        except (Lost, TimeoutError, UpstreamRefused):
            # The end that is waited for, or a database that is away: its sessions are lost then, and each is told so.
            return

    async def _dial(self) -> Wire:
        try:
            wire = await sockets.dial(self.database.host, self.database.port, self._seconds)
        except Lost as lost:
            sentence = (
                f"The database {self.database.name} cannot be reached now. Try again, or tell whoever runs the gateway."
            )
            raise UpstreamRefused("08001", sentence, str(lost)) from None
        if self._context is None:
            return wire
        try:
            wire.write(upstream.ask_tls())
            upstream.check_tls_answer(await wire.take())
            await wire.secure(self._context, host=self.database.host)
        except Lost as lost:
            wire.abort()
            sentence = (
                "The connection to the database cannot be encrypted as it must be. Tell whoever runs the gateway."
            )
            raise UpstreamRefused("08001", sentence, str(lost)) from None
        except BaseException:
            wire.abort()
            raise
        return wire

    async def _sign_in(self, wire: Wire, account: Account, parameters: Mapping[str, str]) -> Connected:
        login = UpstreamLogin(
            account.account,
            secret(account.password_file),
            self.database.real_name,
            {**parameters, **NOTICE_LOSS},
            wire.certificate(),
        )
        try:
            wire.write(login.begin())
            while not login.is_done:
                if answer := login.feed(await wire.take()):
                    wire.write(answer)
            told = await _ask(wire, SESSION_ID, login.rest)
        except Lost as lost:
            raise UpstreamRefused(
                "08006", "The database ended the connection while the gateway signed in.", str(lost)
            ) from None
        return Connected(wire, login.parameters, login.pid, login.secret, told)


async def _ask(wire: Wire, query: str, rest: bytes) -> str | None:
    """The one value of a query on a session that nobody else uses yet; None where it failed."""
    reader = messages.Reader(sender="server")
    wire.write(messages.encode_query(query))
    value, data = None, rest
    while True:
        for frame in reader.feed(data):
            if frame.kind == messages.FromServer.DATA_ROW:
                raw = messages.decode_data_row(frame.body).values[0]
                value = raw.decode("ascii") if raw is not None else None
            if frame.kind == messages.FromServer.READY_FOR_QUERY:
                return value
        data = await wire.take()


def context(database: Database) -> ssl.SSLContext | None:
    """TLS towards the database as its `sslmode` says; None without."""
    if database.sslmode == "disable":
        return None
    made = ssl.create_default_context(cafile=database.sslrootcert or None)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = database.sslmode == "verify-full"
    if database.sslmode == "require":
        made.verify_mode = ssl.CERT_NONE
    return made
