"""Ninety generated days in the environment `simulated`, so that no page looks dead.

Nothing here happened: the events are made from a fixed seed, in the rhythm of an office (busy weekdays, quiet nights),
and go through the same API as everybody's. They never stand in the environment of real records. What goes wrong in them
stands in `demo.planted`.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from typing import Any

from demo import planted
from demo.planted import LEAD, Planted
from demo.store import Store

Json = dict[str, Any]
ENVIRONMENT = "simulated"
DATASOURCE = "simulated-crm"
DAYS = 90
BATCH = 1_000
SEED = 20261121
HUMANS = [
    ("nadia.okafor", "Nadia Okafor", "support"), ("tom.weber", "Tom Weber", "support"),
    ("lucia.romano", "Lucia Romano", "support"), ("jan.novak", "Jan Novák", "support"),
    ("priya.nair", "Priya Nair", "analyst"), ("sven.holm", "Sven Holm", "analyst"),
    ("aiko.tanaka", "Aiko Tanaka", "engineer"), ("marek.zielinski", "Marek Zieliński", "engineer"),
    ("fatima.haddad", "Fatima Haddad", "dba"),
]  # fmt: skip
SERVICES = [("crm-sync", "CRM sync"), ("billing", "Billing"), ("mailer", "Mailer")]
AGENTS = [("forecast-agent", "Forecast agent"), ("triage-agent", "Triage agent")]
OWNERS = {"crm-sync": "aiko.tanaka", "billing": "marek.zielinski", "mailer": "aiko.tanaka", "forecast-agent": "priya.nair",
          "triage-agent": "nadia.okafor"}  # fmt: skip
IDENTITIES = "datasource,db_user,id,name,email,type,owner\n" + "".join(
    f"{DATASOURCE},{login.replace('.', '_')},{login},{name},,{kind},{OWNERS[login]}@simulated.example\n"
    for kind, known in (("service", SERVICES), ("agent", AGENTS))
    for login, name in known
)
"""The identity register of the generated quarter, to be imported as of its first day."""
TAGS = f"""\
datasource,relation,column,classes
{DATASOURCE},public.customers,name,name
{DATASOURCE},public.customers,email,email
{DATASOURCE},public.payroll,iban,bank_account
"""
TABLES = ("customers", "contracts", "tickets", "invoices")
READS = {
    "customers": "select id, name, email from customers where id = {key}",
    "contracts": "select * from contracts where customer_id = {key}",
    "tickets": "select id, subject, state from tickets where customer_id = {key}",
    "invoices": "select number, amount from invoices where customer_id = {key}",
}
WRITES = {
    "customers": "update customers set email = 'new{key}@mail.example' where id = {key}",
    "contracts": "update contracts set renewed = true where id = {key}",
    "tickets": "insert into tickets (customer_id, subject) values ({key}, 'Question')",
    "invoices": "update invoices set paid = true where id = {key}",
}


class Generator:
    """Makes events one after the other; the same seed and first day always make the same."""

    def __init__(self, first_day: dt.date) -> None:
        self.first_day = first_day
        self.chance = random.Random(SEED)
        self.made = 0

    def events(self) -> Iterator[Json]:
        """All events, day by day, by time within a day."""
        for number in range(DAYS):
            day = self.first_day + dt.timedelta(days=number)
            weight = 0.15 if day.weekday() >= 5 else self.chance.uniform(0.85, 1.15)
            told = [*self._sessions(day, weight), *([self._heartbeat(day, hour)] for hour in range(24))]
            told += [self._planted(day, one) for one in planted.PLANTED if one.day == number]
            # What would reach into the silent hours was not told at all, or it would lack its beginning.
            made = [event for events in told if not _is_silent(number, events) for event in events]
            yield from sorted(made, key=lambda event: str(event["occurred_at"]))

    def _sessions(self, day: dt.date, weight: float) -> Iterator[list[Json]]:
        for login, name, role in HUMANS:
            for _ in range(round(self.chance.choice((1, 2, 2)) * weight)):
                yield self._session(day, self._office_hour(), (login, name, "human"), role, None)
        for login, name in SERVICES:
            for hour in range(0, 24, 4):
                yield self._session(day, hour + self.chance.random(), (login, name, "service"), "service", None)
        for login, name in AGENTS:
            for _ in range(round(3 * weight)):
                behalf = self.chance.choice(HUMANS[4:6])[0]
                yield self._session(day, self._office_hour(), (login, name, "agent"), "agent", behalf)

    def _office_hour(self) -> float:
        return min(23.5, max(0.5, self.chance.gauss(13, 2.6)))

    def _session(self, day: dt.date, hour: float, who: tuple[str, str, str], role: str, behalf: str | None) -> list[Json]:  # fmt: skip
        moment = dt.datetime.combine(day, dt.time(), dt.UTC) + dt.timedelta(hours=hour)
        session = f"s{self.made:06d}"
        common = self._common(who, session, behalf)
        events = []
        if role != "service":
            ticket = f"CRM-{session[1:]}"
            asked = moment - dt.timedelta(minutes=self.chance.uniform(5, 25))
            events.append(self._approval(asked, ticket, str(common["actor"]["id"]), LEAD))
            common["ticket"] = ticket
        events.append(self._event(moment, common, kind="session", op="session", session={"phase": "start"}))
        for _ in range(self.chance.randint(2, 8)):
            moment += dt.timedelta(seconds=self.chance.uniform(2, 240))
            events.append(self._access(moment, common, role))
        moment += dt.timedelta(seconds=30)
        events.append(self._event(moment, common, kind="session", op="session", session={"phase": "end"}))
        return events

    def _planted(self, day: dt.date, one: Planted) -> list[Json]:
        """The act, in a session of its own at noon, with what was decided about it."""
        moment = dt.datetime.combine(day, dt.time(12), dt.UTC)
        known = {login: (login, name, "human") for login, name, _ in HUMANS}
        known |= {login: (login, name, "agent") for login, name in AGENTS}
        common = self._common(known[one.login], f"p{one.day:06d}", "priya.nair" if one.behalf else None)
        common |= {"ticket": one.ticket} if one.ticket else {}
        events = [self._query(moment, common, one.op, one.text, one.table, 1)]
        if one.ticket and one.approved:
            approver, minutes = one.approved
            decided = moment + dt.timedelta(minutes=minutes)
            events.append(self._approval(decided, one.ticket, str(common["actor"]["id"]), approver))
        return events

    def _approval(self, moment: dt.datetime, ticket: str, requested_by: str, approver: str) -> Json:
        return self._event(moment, {}, **planted.approval(ticket, requested_by, approver, _stamp(moment)))

    def _heartbeat(self, day: dt.date, hour: int) -> Json:
        """What the source says of itself in every hour, so that quiet is not silence."""
        moment = dt.datetime.combine(day, dt.time(hour, 30), dt.UTC)
        return self._event(moment, {}, kind="custody", custody={"type": "heartbeat", "subject": "generated"})

    def _common(self, who: tuple[str, str, str], session: str, behalf: str | None) -> Json:
        login, name, kind = who
        email = f"{login}@simulated.example"
        actor = {
            "id": email if kind == "human" else login,
            "name": name,
            "type": kind,
            "db_user": login.replace(".", "_"),
        }
        common: Json = {
            "actor": actor, "client": {"app": "crm-web" if kind == "human" else login, "ip": "10.20.0.15"},
            "db_system": "postgresql", "database": "crm", "db_session_id": session, "verdict": "allowed",
        }  # fmt: skip
        if kind == "agent":
            common["agent"] = {"id": login, "name": name, "run_id": f"run-{session}"}
        if kind == "agent" and behalf:
            common["on_behalf_of"] = {"id": f"{behalf}@simulated.example", "type": "human"}
        return common

    def _access(self, moment: dt.datetime, common: Json, role: str) -> Json:
        table, key, draw = self.chance.choice(TABLES), self.chance.randint(1, 4000), self.chance.random()
        if draw < 0.012:
            return self._query(moment, common, "read", f"select iban from payroll where id = {key}", "payroll", 0,
                               verdict="blocked", error={"code": "42501", "message": "permission denied for table payroll"})  # fmt: skip
        if role == "dba" and draw < 0.2:
            return self._query(moment, common, "ddl", f"create index on {table} (id)", table, 0)
        if role in ("analyst", "agent") and draw < 0.06:
            text = f"copy (select * from {table}) to stdout"
            return self._query(moment, common, "export", text, table, self.chance.randint(500, 20_000))
        if draw < (0.7 if role == "service" else 0.25):
            text = WRITES[table].format(key=key)
            op = text.split(" ", 1)[0]
            return self._query(moment, common, op, text, table, 1)
        return self._query(moment, common, "read", READS[table].format(key=key), table, self.chance.randint(0, 4))

    def _query(self, moment: dt.datetime, common: Json, op: str, text: str, table: str, rows: int, **more: Any) -> Json:
        access = {"read": "read", "export": "read", "ddl": "ddl"}.get(op, "write")
        resource = {"database": "crm", "schema": "public", "relation": table, "kind": "table", "access": access}
        counted = {"returned": rows} if access == "read" else {"affected": rows}
        return self._event(
            moment, common, kind="query", op=op, command=text.split(" ", 1)[0].upper(), resources=[resource], rows=counted,
            duration_us=self.chance.randint(200, 90_000), statement={"text": text, "state": "whole"}, **more,
        )  # fmt: skip

    def _event(self, moment: dt.datetime, common: Json, **more: Any) -> Json:
        self.made += 1
        own = {
            "source_event_id": f"sim-{self.made:06d}",
            "occurred_at": _stamp(moment),
            "occurred_at_quality": "source",
        }
        return common | own | more


def _is_silent(day: int, events: list[Json]) -> bool:
    return any(planted.is_silent(day, int(str(event["occurred_at"])[11:13])) for event in events)


def _stamp(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def send(store: Store, token: str, today: dt.date) -> int:
    """Send all of it, oldest first, in batches of 1,000. Returns how many the store accepted."""
    accepted = 0
    batch: list[Json] = []
    for event in Generator(today - dt.timedelta(days=DAYS)).events():
        batch.append(event)
        if len(batch) == BATCH:
            accepted += store.ingest("events", token, batch)["accepted"]
            batch = []
    if batch:
        accepted += store.ingest("events", token, batch)["accepted"]
    return accepted
