"""The gateway as one process: listens, signs clients in, keeps catalogs, rules and the exchange with the store, ends in order.

One event loop; every session's decisions are made in it. Threads only write to disk, verify tokens and talk to the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
import time
from pathlib import Path
from typing import Any, NamedTuple

from enforcement import shipper
from enforcement import spool as spools
from enforcement.gateway import entries, keysets, plans
from enforcement.gateway.arrivals import Arrival
from enforcement.gateway.catalog import Catalog
from enforcement.gateway.catalogs import Keeper, Unavailable
from enforcement.gateway.databases import Upstream
from enforcement.gateway.errands import Errands
from enforcement.gateway.identity import Issuer
from enforcement.gateway.liaison import Liaison
from enforcement.gateway.live import Live
from enforcement.gateway.recording import Recorder
from enforcement.gateway.session import outputs
from enforcement.gateway.sessions import Running, Sessions
from enforcement.gateway.settings import Database, Settings, address, secret
from enforcement.gateway.sockets import Wire
from lineage import guardrails

TICK_SECONDS = 0.25
TELL_SECONDS = 1.0
MOST_ARRIVING = 200


class Served(NamedTuple):
    """One database that the gateway stands before."""

    database: Database
    upstream: Upstream
    keeper: Keeper


class Gateway:
    """Make it inside the running event loop, `start`, then `run` until `stop` was asked for."""

    def __init__(self, settings: Settings, spool: spools.Spool, sender: shipper.Shipper | None) -> None:
        own = settings.gateway
        folder = Path(own.folder)
        self.settings, self.spool, self.sender = settings, spool, sender
        self.tls = server_context(settings)
        self.recorder = Recorder(folder, spool)
        self.errands = Errands(own.name, self.record)
        self.rules = guardrails.DEFAULT
        self.keys = keysets.KeySets(
            [_issuer(one) for one in settings.issuer],
            {one.issuer: one.keys_file or one.keys_url for one in settings.issuer},
            folder / "keys",
        )
        self.sessions = Sessions(own.max_sessions, own.max_sessions_per_identity)
        self.served = {one.name: self._served(one) for one in settings.database}
        self._arriving: dict[asyncio.Task[None], Arrival] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        self.liaison = Liaison(self)
        self._stopping = asyncio.Event()

    def _served(self, database: Database) -> Served:
        changed = functools.partial(self._catalog_changed, database.name)
        upstream = Upstream(database, self.settings.gateway.connect_seconds)
        return Served(database, upstream, Keeper(database, self.errands, changed))

    async def start(self) -> tuple[str, int]:
        """Listen; the address that clients reach."""
        host, port = address(self.settings.gateway.listen)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Wire(self._arrived), host, port, backlog=512)
        for served in self.served.values():
            self._background(served.keeper.run())
        self._background(self._tick())
        self._background(self._tell())
        self.liaison.start()
        name = self._server.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    async def run(self) -> None:
        """Until `stop`; then end in order."""
        await self._stopping.wait()
        await self._drain(self.settings.gateway.drain_seconds)

    def stop(self) -> None:
        """Take no new clients, let transactions finish, end the others. A second call ends them all at once."""
        if self._stopping.is_set():
            self._end_all("the gateway stops now", only_idle=False)
        self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        """Whether new clients are told to come again later."""
        return self._stopping.is_set()

    def record(self, entry: Any) -> None:
        """One entry of a session, written down."""
        self.recorder.record(entry)

    def ask(self, live: Live, question: outputs.Question) -> None:
        """What a session wants to know; the answer goes to its `told`."""
        match question:
            case outputs.Preview():
                self._background(self._preview(live, question))
            case outputs.ReloadCatalog():
                self._background(self._reload(live, question))
            case outputs.Hold():
                self._background(self.liaison.hold(live, question))
            case outputs.Withdraw():
                self.liaison.withdraw(live, question)

    def begin(self, running: Running) -> None:
        self.sessions.add(running)
        if len(self.sessions) == 1:
            self.liaison.see()

    def ended(self, live: Live, why: str) -> None:
        """A session is over: its places are free, and the end is written down."""
        running = self.sessions.remove(live)
        if running is not None:
            self.liaison.left(running.facts.session_id)
            self.record(entries.SessionEnded(session=running.facts, at=time.time(), close_reason=why[:500]))

    async def cancel(self, pid: int, secret: bytes) -> None:
        """A client's cancel request with a key of ours. An unknown key is answered with nothing, as PostgreSQL does."""
        running = self.sessions.by_key(pid, secret)
        if running is not None:
            await running.live.cancel_asked()

    def kill(self, session_id: str, by: str, why: str) -> bool:
        """End a live session; False when it is not there."""
        running = self.sessions.find(session_id)
        if running is not None:
            running.live.kill(by, why)
        return running is not None

    def put_rules(self, rules: guardrails.Guardrails) -> None:
        """From now on these hold, in open sessions too."""
        self.rules = rules
        for running in self.sessions:
            running.live.told(outputs.RulesChanged(rules))

    def _arrived(self, wire: Wire) -> None:
        if len(self._arriving) >= MOST_ARRIVING:
            # Who has been silent for longest makes room, so that silent ones do not keep others out.
            oldest = next((task for task, one in self._arriving.items() if one.known is None), None)
            if oldest is None:
                wire.abort()
                return
            self._arriving.pop(oldest).wire.abort()
            oldest.cancel()
        arrival = Arrival(self, wire)
        task = asyncio.ensure_future(arrival.run())
        self._arriving[task] = arrival
        task.add_done_callback(lambda done: self._arriving.pop(done, None))

    def _catalog_changed(self, name: str, catalog: Catalog) -> None:
        for running in self.sessions:
            if running.served.database.name == name:
                running.live.told(outputs.CatalogLoaded(catalog))
        self.liaison.tell()

    async def _preview(self, live: Live, question: outputs.Preview) -> None:
        running = self.sessions.of(live)
        asked = plans.Question(question.statement, bool(question.parameters), question.search_path, question.role)
        plan = await plans.explain(self.errands, running.served.database, running.account, asked)
        live.told(outputs.Previewed(request_id=question.request_id, plan_rows=plan.rows, plan_text=plan.text))

    async def _reload(self, live: Live, question: outputs.ReloadCatalog) -> None:
        """Until then the session takes what it altered for unknown, so an answer that fails is asked again."""
        keeper = self.sessions.of(live).served.keeper
        while True:
            try:
                catalog = await keeper.anew()
                break
            except Unavailable:
                await asyncio.sleep(TELL_SECONDS)
        live.told(outputs.CatalogLoaded(catalog, question.number))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            at = asyncio.get_running_loop().time()
            for running in self.sessions:
                limit = running.idle_limit()
                if limit and at - running.live.heard_at > limit:
                    running.live.kill("the gateway", f"silent for {limit:g} s")
                else:
                    running.live.do(running.live.session.tick)

    async def _tell(self) -> None:
        while True:
            self.liaison.see()
            if self.sender is not None:
                self.sender.note(recorder=self.recorder.problem, sessions=len(self.sessions))
            await asyncio.sleep(TELL_SECONDS)

    def _background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            shipper.say(f"gateway: a background task failed ({type(error).__name__}); the gateway stops.")
            self.stop()

    def _end_all(self, why: str, *, only_idle: bool) -> None:
        for running in self.sessions:
            if not (only_idle and running.live.is_busy):
                running.live.kill("the gateway", why)

    async def _drain(self, seconds: float) -> None:
        """New clients are told so; sessions end as soon as they are between transactions, all of them when time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while len(self.sessions):
                    self._end_all("the gateway stops", only_idle=True)
                    await asyncio.sleep(TICK_SECONDS / 5)
        self._end_all("the gateway stops now", only_idle=False)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2):
                while len(self.sessions):
                    await asyncio.sleep(TICK_SECONDS / 5)
        if self._server is not None:
            self._server.close()
        for task in [*self._arriving, *self._tasks]:
            task.cancel()
        await asyncio.gather(*self._arriving, *self._tasks, return_exceptions=True)
        # What was written last is still on its way to the sockets.
        await asyncio.sleep(0.05)


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS towards clients; None where only cleartext on loopback is served."""
    own = settings.gateway
    if not own.tls_certificate:
        return None
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.load_cert_chain(own.tls_certificate, own.tls_key)
    made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return made


def open_sender(settings: Settings, spool: spools.Spool) -> shipper.Shipper | None:
    """What sends the spool to the store; None without a store."""
    own = settings.gateway
    if not own.store:
        return None
    store = shipper.Store(own.store, secret(own.token_file), "gateway", ca_file=own.store_ca_file or None)
    return shipper.Shipper(spool, store)


def _issuer(one: Any) -> Issuer:
    names = (name for name in Issuer.__struct_fields__ if name != "keys")
    return Issuer(**{name: getattr(one, name) for name in names})
