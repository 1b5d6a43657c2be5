"""Between the gateway and the desk: what is told to the store of databases and sessions, and what its news change here.

Without a store nobody can approve, and the built-in rules hold.
"""

from __future__ import annotations

import asyncio
import collections
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

from enforcement import shipper
from enforcement.gateway import exchange
from enforcement.gateway.catalog import Catalog
from enforcement.gateway.desk import Desk
from enforcement.gateway.live import Live
from enforcement.gateway.session import outputs
from enforcement.gateway.settings import address, secret
from lineage import errors, exchanged, guardrails
from lineage.events import Actor, Agent, Principal

if TYPE_CHECKING:
    from enforcement.gateway.server import Gateway, Served
    from enforcement.gateway.sessions import Running

VERSION = "0.1"
DECLARED_KINDS = frozenset("rpvmf")
ALONE = "This gateway has no store, so nobody can approve the statement. Tell its operator."


class Liaison:
    """One for a gateway. Everything is called in the event loop."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()
        own = gateway.settings.gateway
        self.desk: Desk | None = None
        if own.store:
            store = shipper.Store(own.store, secret(own.token_file), "gateway", ca_file=own.store_ca_file or None)
            self.desk = Desk(store, own.name, Path(own.folder), self._deliver, VERSION)

    def start(self) -> None:
        """Begin with what the folder remembers of the store, then talk to it."""
        if self.desk is None:
            return
        known = (self.desk.rules, self.desk.keys and exchange.Keys(self.desk.keys), exchange.Tags(self.desk.tags))
        for notice in known:
            if notice:
                self._handle(notice)
        self.tell()
        self.desk.start()

    def stop(self) -> None:
        """After one more exchange. Takes a while: in a thread."""
        if self.desk is not None:
            self.desk.stop()

    def tell(self) -> None:
        """What is there now: databases, sessions, rules."""
        if self.desk is not None:
            self.desk.declare([self._database(one) for one in self._gateway.served.values()])
            self.see()
            self.desk.in_force(self._gateway.rules.version, self._gateway.rules.digest)

    def see(self) -> None:
        """The sessions that are live now."""
        if self.desk is not None:
            self.desk.see([live_session(one) for one in self._gateway.sessions])

    async def hold(self, live: Live, question: outputs.Hold) -> None:
        """Ask the desk, which may write to its disk; the answer goes to the session."""
        if self.desk is None:
            decided = outputs.Decided(
                request_id=question.request_id, digest=question.digest, state="rejected", reason=ALONE
            )
        else:
            running = self._gateway.sessions.of(live)
            decided = await asyncio.to_thread(self.desk.hold, question, live_session(running))
        live.told(decided)

    def withdraw(self, live: Live, question: outputs.Withdraw) -> None:
        if self.desk is not None:
            self.desk.withdraw(question.request_id, question.digest, live.session.facts.session_id)

    def left(self, session_id: str) -> None:
        if self.desk is not None:
            self.desk.leave(session_id)

    def _deliver(self, notice: exchange.Notice) -> None:
        """Called in the desk's thread."""
        self._loop.call_soon_threadsafe(self._handle, notice)

    def _handle(self, notice: exchange.Notice) -> None:
        match notice:
            case exchange.Answered(session_id, _, decided):
                running = self._gateway.sessions.find(session_id)
                if running is not None:
                    running.live.told(decided)
            case exchange.Kill(session_id, by, reason):
                self._gateway.kill(session_id, by, reason)
            case exchange.Rules():
                self._take_rules(notice)
            case exchange.Tags(tags):
                self._take_tags(tags)
            case exchange.Keys(keys):
                try:
                    self._gateway.keys.put_store(keys)
                except ValueError as error:
                    shipper.say(f"gateway: the store's keys are not taken: {error}")

    def _take_rules(self, notice: exchange.Rules) -> None:
        try:
            rules = guardrails.load(notice.text)
        except errors.GuardrailsInvalid as error:
            shipper.say(f"gateway: guardrails {notice.version} are not taken: {error.message}")
            return
        self._gateway.put_rules(guardrails.Guardrails(notice.version, rules.text, rules.digest, rules.rules))
        if self.desk is not None:
            self.desk.in_force(notice.version, rules.digest)

    def _take_tags(self, tags: tuple[exchange.Tag, ...]) -> None:
        found: collections.defaultdict[str, dict[tuple[str, str, str], tuple[str, ...]]] = collections.defaultdict(dict)
        for tag in tags:
            schema, dot, relation = tag.relation.rpartition(".")
            found[tag.datasource][schema if dot else "public", relation, tag.column] = tag.classes
        for served in self._gateway.served.values():
            served.keeper.put_tags(found[served.database.datasource])

    def _database(self, served: Served) -> exchanged.Database:
        own, database = self._gateway.settings.gateway, served.database
        host, port = address(own.address or own.listen)
        return exchanged.Database(
            name=database.name,
            datasource=database.datasource,
            environment=database.environment,
            required=database.required,
            host=host,
            port=port or None,
            other_accounts=database.other_accounts,
            catalog=declared(served.keeper.current) if served.keeper.current else None,
        )


def declared(catalog: Catalog) -> exchanged.Catalog:
    """The tables and views as the store is told of them."""
    found = (
        one
        for one in catalog.relations.values()
        if one.kind in DECLARED_KINDS and one.schema not in ("pg_catalog", "information_schema")
    )
    return exchanged.Catalog(
        relations=tuple(
            exchanged.Relation(
                schema=one.schema,
                name=one.name,
                columns=tuple(
                    exchanged.Column(name=column.name, type=column.type_name[:200], classes=column.classes)
                    for column in one.columns
                ),
            )
            for one in found
        )
    )


def live_session(running: Running) -> exchanged.Live:
    """A session as the store's page of live sessions shows it."""
    facts, live = running.facts, running.live
    client, agent = facts.client, facts.agent
    return exchanged.Live(
        session_id=facts.session_id,
        actor=_person(facts.actor, facts.actor.roles),
        on_behalf_of=_person(facts.on_behalf_of) if facts.on_behalf_of else None,
        delegation=tuple(_person(one) for one in facts.delegation),
        agent=exchanged.Agent(**_agent(agent)) if agent else None,
        datasource=facts.datasource,
        environment=running.served.database.environment,
        database=running.served.database.name,
        account=running.account.account,
        client_ip=(client.ip if client else None) or "",
        app=((client.app if client else None) or "")[:200],
        purpose=(facts.purpose or "")[:2000],
        started_at=dt.datetime.fromtimestamp(facts.started_at, dt.UTC),
        statements=live.statements,
        last_command=live.last_command[:100],
        state=live.state,
    )


def _person(one: Actor | Principal, roles: tuple[str, ...] = ()) -> exchanged.Person:
    id_, name, email = ((text or "")[:200] or None for text in (one.id, one.name, one.email))
    return exchanged.Person(
        id=id_, name=name, email=email, type=one.type, roles=tuple(role[:200] for role in roles[:50])
    )


def _agent(one: Agent) -> dict[str, str | None]:
    return {name: (getattr(one, name) or "")[:200] or None for name in exchanged.Agent.__struct_fields__}
