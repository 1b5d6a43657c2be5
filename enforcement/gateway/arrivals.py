"""A client arrives: TLS, token, account, the database's own session; then it is let in, or told why not.

Everything that can refuse does so here, with one error that the client shows and one entry for the recorder.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import ipaddress
import time
import uuid
from typing import TYPE_CHECKING, NamedTuple

from enforcement import shipper
from enforcement.gateway import accounts, catalog, catalogs, entries, identity, login, upstream
from enforcement.gateway.databases import Connected
from enforcement.gateway.identity import Identity
from enforcement.gateway.live import Live, fault
from enforcement.gateway.login import ClientLogin, ClientStartup
from enforcement.gateway.recording import Unrecorded
from enforcement.gateway.session import outputs
from enforcement.gateway.session.judging import Judge
from enforcement.gateway.session.machine import Session
from enforcement.gateway.session.settings_tracking import refused_startup
from enforcement.gateway.sessions import Running
from enforcement.gateway.settings import Account
from enforcement.gateway.sockets import Lost, Wire
from lineage.events import Actor, Client

if TYPE_CHECKING:
    from enforcement.gateway.server import Gateway, Served


class Refused(Exception):
    """The client does not get in. `sentence` and `hint` are for it; `detail` is for the operator."""

    def __init__(self, sqlstate: str, sentence: str, hint: str = "", detail: str = "") -> None:
        self.sqlstate, self.sentence, self.hint, self.detail = sqlstate, sentence, hint, detail
        super().__init__(sentence)


class Known(NamedTuple):
    """What is known of a client when it is refused, or let in."""

    startup: ClientStartup
    who: Identity | None = None
    served: Served | None = None
    account: Account | None = None


class Arrival:
    """One connection until it is a session, or closed. `run` never raises."""

    def __init__(self, gateway: Gateway, wire: Wire) -> None:
        self.gateway, self.wire = gateway, wire
        tls = gateway.tls is not None
        local = gateway.settings.gateway.cleartext_on_loopback and _is_loopback(wire.peer[0])
        self.login = ClientLogin(tls=tls, cleartext_allowed=local)
        self.known: Known | None = None

    async def run(self) -> None:
        """Let in, or refuse."""
        try:
            asked = await self._token()
            if asked is not None:
                await self._let_in(asked)
        except Refused as refused:
            self._refuse(refused)
        except (Lost, TimeoutError):
            self.wire.abort()
        except asyncio.CancelledError:
            self.wire.abort()
            raise
        except Exception as error:  # noqa: BLE001  whatever it was, nobody is let in
            shipper.say(f"gateway: signing in failed: {fault(error)}")
            self._refuse(
                Refused("XX000", "The gateway failed while signing in. Try again; tell its operator the time.")
            )

    async def _token(self) -> login.SignIn | None:
        """The client's token; None when the connection was for something else and is done."""
        async with asyncio.timeout(self.gateway.settings.gateway.login_seconds):
            while True:
                for step in self.login.feed(await self.wire.take()):
                    match step:
                        case login.Send(data):
                            self.wire.write(data)
                        case login.StartTls():
                            assert self.gateway.tls is not None
                            await self.wire.secure(self.gateway.tls, host=None)
                            self.login.tls_started()
                        case login.Cancel(pid, secret):
                            await self.gateway.cancel(pid, secret)
                            self.wire.close()
                            return None
                        case login.Refuse(_, sqlstate, sentence, startup):
                            self.known = Known(startup) if startup else None
                            raise Refused(sqlstate, sentence)
                        case login.SignIn():
                            return step

    async def _let_in(self, asked: login.SignIn) -> None:
        startup = asked.startup
        self.known = Known(startup)
        if self.gateway.is_stopping:
            raise Refused("57P03", "The gateway is stopping and takes no new sessions.", "Connect again shortly.")
        if sentence := refused_startup(startup.parameters):
            raise Refused("22023", sentence)
        who = await self._identity(asked.token)
        self.known = Known(startup, who)
        served = self.gateway.served.get(startup.database)
        if served is None:
            there = ", ".join(sorted(self.gateway.served))
            raise Refused("3D000", f"The gateway has no database {startup.database[:63]}.", f"It has: {there}.")
        account = self._account(who, startup, served)
        self.known = Known(startup, who, served, account)
        self._may_set(who, served, account)
        with self.gateway.sessions.place_for(who) as too_many:
            if too_many:
                raise Refused("53300", too_many, "Close sessions that you do not need, or ask its operator for more.")
            connected = await self._connect(startup, served, account)
            try:
                self._begin(connected, who, served, account)
            except BaseException:
                connected.wire.abort()
                raise

    async def _identity(self, token: str) -> Identity:
        try:
            return await asyncio.to_thread(self.gateway.keys.verify, token, dt.datetime.now(dt.UTC))
        except identity.SignInRefused as refused:
            raise Refused("28000", refused.sentence, identity.AGAIN) from None

    def _account(self, who: Identity, startup: ClientStartup, served: Served) -> Account:
        try:
            return accounts.choose(who, startup.user, served.database.datasource, served.database.account)
        except identity.SignInRefused as refused:
            raise Refused("28000", refused.sentence) from None

    def _may_set(self, who: Identity, served: Served, account: Account) -> None:
        """A setting that comes with the startup message is one that the guardrails allow to SET."""
        assert self.known is not None
        place = self._place(served, account)
        judge = Judge(who, place, self.gateway.rules, served.keeper.current or catalog.EMPTY)
        if no := judge.refused_settings(self.known.startup.parameters):
            raise Refused(no.sqlstate, no.sentence, no.hint)

    def _place(self, served: Served, account: Account) -> outputs.Place:
        settings, own = served.database, self.gateway.settings.gateway
        return outputs.Place(
            environment=settings.environment, datasource=settings.datasource, database=settings.real_name, account=account.account,
            gateway=own.name, when_unrecorded=settings.when_unrecorded,
            identity_message=settings.identity_message, message_bytes=own.message_mib << 20,
        )  # fmt: skip

    async def _connect(self, startup: ClientStartup, served: Served, account: Account) -> Connected:
        if served.keeper.current is None:
            try:
                await served.keeper.load()
            except catalogs.Unavailable as error:
                sentence = f"The gateway does not know the tables of {served.database.name} yet."
                raise Refused(
                    "57P03", sentence, "Try again shortly, or tell whoever runs the gateway.", str(error)
                ) from None
        try:
            return await served.upstream.connect(account, startup.parameters)
        except upstream.UpstreamRefused as refused:
            hint = "Try again; if it stays so, tell whoever runs the gateway."
            raise Refused(refused.sqlstate, refused.sentence, hint, refused.detail) from None

    def _begin(self, connected: Connected, who: Identity, served: Served, account: Account) -> None:
        assert self.known is not None
        assert served.keeper.current is not None
        startup, settings = self.known.startup, served.database
        place = self._place(served, account)
        ip, port = self.wire.peer
        client = outputs.ClientFacts(
            session_id=str(uuid.uuid4()), db_session_id=connected.db_session_id,
            app=startup.parameters.get("application_name"), ip=ip, port=port, parameters=startup.parameters, **startup.about,
        )  # fmt: skip
        session = Session(who, place, self.gateway.rules, served.keeper.current, time.time, _new_id, client)
        pid, secret = login.cancel_key(startup.version)
        try:
            self.gateway.recorder.record(entries.SessionBegan(session=session.facts))
        except Unrecorded as error:
            if settings.when_unrecorded == "refuse":
                raise Refused("58030", error.sentence, detail=error.reason) from None
        cancel = functools.partial(served.upstream.cancel, connected.pid, connected.secret)
        live = Live(session, self.wire, connected.wire, self.gateway, cancel)
        self.gateway.begin(Running(live, who, served, account, (pid, secret), session.facts))
        self.wire.write(self.login.accepted(connected.parameters, pid, secret))
        live.begin()

    def _refuse(self, refused: Refused) -> None:
        self.wire.write(login.refusal(refused.sqlstate, refused.sentence, refused.hint))
        self.wire.close()
        if self.known is not None:
            if refused.detail:
                shipper.say(f"gateway: database {self.known.startup.database}: {refused.detail}")
            entry = entries.SessionFailed(
                session=self._facts(self.known), at=time.time(), sqlstate=refused.sqlstate, sentence=refused.sentence
            )
            self.gateway.recorder.record(entry)

    def _facts(self, known: Known) -> entries.SessionFacts:
        who, startup = known.who, known.startup
        ip, port = self.wire.peer
        database = known.served.database if known.served else None
        return entries.SessionFacts(
            session_id=str(uuid.uuid4()),
            started_at=time.time(),
            datasource=database.datasource if database else "unknown",
            database=startup.database[:63],
            actor=Actor(
                id=who.id if who else None, name=who.name if who else None, email=who.email if who else None,
                type=who.type if who else "unknown", db_user=known.account.account if known.account else startup.user[:63],
            ),
            on_behalf_of=who.on_behalf_of if who else None,
            delegation=who.delegation if who else (),
            agent=who.agent if who else None,
            client=Client(app=startup.parameters.get("application_name"), ip=ip, port=port),
            auth_method=who.auth_method if who else None,
            mfa=who.mfa if who else None,
        )  # fmt: skip


def _new_id() -> str:
    return str(uuid.uuid4())


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
