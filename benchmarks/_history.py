"""A made year of a company, the same for the same plan: people, agents and services at work in 60 databases. Pure.

It comes in chunks that are made alone, so that a store can go on where it was cut off. Each chunk holds what three sources
reported of one slice of time: a gateway (people and agents), a server's log (services), change capture. Statements and
changes of one transaction share its id, as in life; nothing else says whose a change is.
"""

from __future__ import annotations

import bisect
import datetime as dt
import functools
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

from benchmarks import _wording
from lineage.events import (
    CLASS_OF_OP,
    Actor,
    Agent,
    Client,
    Effect,
    ErrorCode,
    Event,
    Op,
    Parameter,
    Policy,
    Principal,
    Resource,
    Rows,
    Session,
    SourceRef,
    Statement,
    Transaction,
    Value,
)

PEOPLE, AGENTS, SERVICES, DATABASES, RELATIONS = 500, 100, 40, 60, 2_000
STATEMENTS_MOST = 500
ROWS_MOST = 1_000_000
DENIED, MASKED, WRITTEN, UNKEYED = 0.02, 0.04, 0.25, 0.15
"""Shares: of statements that are refused, of people's reads that are masked, of writes, of reads by other columns than the key."""
SOURCES = {"gateway": "gateway", "server-log": "postgres-jsonlog", "changes": "debezium"}
ENVIRONMENT = "production"
NIGHT = range(1, 5)
LAG_SECONDS = 0.4
HOUR = 3600
Shape = Literal["lean", "full"]
Kind = Literal["human", "agent", "service"]


class Plan(msgspec.Struct, frozen=True):
    """What is made: so many records over a year that ends at `until`, in chunks. The same plan gives the same history."""

    events: int
    shape: Shape = "lean"
    seed: int = 7
    until: dt.datetime = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    days: int = 365
    chunk: int = 5_000

    @property
    def chunks(self) -> int:
        return -(-self.events // self.chunk)

    def size_of(self, number: int) -> int:
        return min(self.chunk, self.events - number * self.chunk)


class Relation(msgspec.Struct, frozen=True):
    """One table: in which database it is, its columns (the first is its key), and how many rows it has."""

    database: int
    name: str
    columns: tuple[str, ...]
    rows: int


class World:
    """The databases with their tables, and how busy each hour of the year is."""

    def __init__(self, plan: Plan) -> None:
        drawn = random.Random(plan.seed)
        self.plan = plan
        self.tables: list[list[Relation]] = [[] for _ in range(DATABASES)]
        for number in range(RELATIONS):
            # Each database has at least one.
            database = number if number < DATABASES else drawn.randrange(DATABASES)
            columns = ("id", *drawn.sample(_wording.COLUMNS, drawn.randint(4, 39)))
            rows = int(1_000 * (ROWS_MOST / 1_000) ** drawn.random())
            name = f"{drawn.choice(_wording.NOUNS)}_{number}"
            self.tables[database].append(Relation(database, name, columns, rows))
        self.began_at = (plan.until - dt.timedelta(days=plan.days)).timestamp()
        self.ended_at = plan.until.timestamp()
        self.busy = [0.0]
        for hour in range(plan.days * 24):
            self.busy.append(self.busy[-1] + self._weight(self.began_at + hour * HOUR))

    @staticmethod
    def _weight(at: float) -> float:
        moment = dt.datetime.fromtimestamp(at, dt.UTC)
        if moment.hour in NIGHT:
            return 3.0
        return 5.0 if moment.weekday() < 5 and 7 <= moment.hour < 18 else 0.6

    def time_of(self, share: float) -> float:
        """When this share of the year's work was done, in seconds since 1970."""
        done = share * self.busy[-1]
        hour = min(bisect.bisect_right(self.busy, done), len(self.busy) - 1) - 1
        within = (done - self.busy[hour]) / (self.busy[hour + 1] - self.busy[hour])
        return self.began_at + (hour + within) * HOUR


@functools.lru_cache(maxsize=4)
def world(plan: Plan) -> World:
    return World(plan)


def chunk(plan: Plan, number: int) -> dict[str, list[Event]]:
    """What each source reported in chunk `number`, in the order of time. A whole chunk has records of every source."""
    drawn = random.Random(f"{plan.seed} {number}")
    made: list[tuple[str, Event]] = []
    size, begins = plan.size_of(number), 0
    kinds: list[Kind] = ["service", "human", "agent"]
    while len(made) < size:
        share = (number + drawn.random()) / plan.chunks
        at = world(plan).time_of(share)
        first = begins < len(kinds)
        kind = kinds[begins] if first else _kind(drawn, at)
        most = 20 if first else STATEMENTS_MOST
        made += _Work(plan, drawn, kind, at, f"{number:x}-{begins:x}", number * plan.chunk + len(made), most).done()
        begins += 1
    told: dict[str, list[Event]] = {name: [] for name in SOURCES}
    for source, event in made[:size]:
        told[source].append(event)
    for events in told.values():
        events.sort(key=lambda event: event.occurred_at or "")
    return told


def _kind(drawn: random.Random, at: float) -> Kind:
    hour = int(at // HOUR) % 24
    shares: tuple[float, float] = (0.02, 0.08) if hour in NIGHT else (0.45, 0.35)
    pick = drawn.random()
    return "human" if pick < shares[0] else "agent" if pick < sum(shares) else "service"


def skewed(drawn: random.Random, most: int) -> int:
    """A number below `most` by Zipf's law: 0 is the most frequent."""
    return int(math.exp(drawn.random() * math.log(most + 1))) - 1 if most > 1 else 0


def _text(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="microseconds")[:26] + "Z"


class _Work:
    """One session: who works, in which database, and what its sources tell of it."""

    def __init__(
        self, plan: Plan, drawn: random.Random, kind: Kind, at: float, name: str, first: int, most: int
    ) -> None:
        self.plan, self.drawn, self.kind, self.at, self.first = plan, drawn, kind, at, first
        self.full = plan.shape == "full"
        self.database = skewed(drawn, DATABASES)
        self.tables = world(plan).tables[self.database]
        batch = kind == "service" and int(at // HOUR) % 24 in NIGHT and most == STATEMENTS_MOST
        self.length = drawn.randint(100, most) if batch else 1 + skewed(drawn, most)
        self.pause = {"human": 6.0, "agent": 2.0, "service": 0.2}[kind]
        self.session = name if kind != "service" else f"{int(at):x}.{first % 0xFFFFFF:x}"
        self.source = "server-log" if kind == "service" else "gateway"
        self.told: list[tuple[str, Event]] = []
        self.ticket = f"CHG-{drawn.randrange(20_000)}" if kind == "human" and drawn.random() < 0.4 else None
        self._who()

    def _who(self) -> None:
        person = skewed(self.drawn, PEOPLE)
        number = skewed(self.drawn, {"human": PEOPLE, "agent": AGENTS, "service": SERVICES}[self.kind])
        self.agent: Agent | None = None
        self.principal: Principal | None = None
        client = {"human": "psql", "agent": "agent-runner", "service": f"service-{number:02}"}[self.kind]
        self.client = Client(app=client, ip=f"10.{self.database}.{number % 250}.7") if self.full else None
        if self.kind == "service":
            self.actor = Actor(db_user=f"service_{number:02}")
        elif self.kind == "agent":
            self.actor = Actor(id=f"agent-{number:02}", type="agent", db_user="gateway")
            self.agent = Agent(id=f"agent-{number:02}", run_id=f"run-{self.session}")
            self.principal = Principal(id=_person(person)) if self.drawn.random() < 0.8 else None
        else:
            self.actor = Actor(id=_person(number), type="human", db_user="gateway")

    def done(self) -> list[tuple[str, Event]]:
        """The session's records in order: its start, statements with their changes, its end."""
        self._tell(self.source, "start", kind="session", op="session", session=Session(phase="start"), **self._whose())
        for number in range(self.length):
            self.at = min(self.at + self.drawn.expovariate(1 / self.pause), world(self.plan).ended_at - 1)
            # The first of all writes, so that every source has something to tell.
            self._statement(number, self.kind == "service" and number == 0)
        self._tell(self.source, "end", kind="session", op="session", session=Session(phase="end"), **self._whose())
        return self.told

    def _whose(self) -> dict[str, Any]:
        if self.kind == "service":
            return {"actor": self.actor, "client": self.client, "db_session_id": self.session}
        return {
            "actor": self.actor, "client": self.client, "agent": self.agent, "on_behalf_of": self.principal,
            "session_id": self.session, "ticket": self.ticket,
        }  # fmt: skip

    def _tell(self, source: str, name: str, **fields: Any) -> None:
        """One record as the store admits it, received a moment after it happened."""
        op: Op = fields["op"]
        event = Event(
            event_id=self._id(),
            class_=CLASS_OF_OP[op],
            received_at=_text(self.at + LAG_SECONDS),
            occurred_at=_text(self.at),
            source_id=source,
            source_event_id=f"{self.session}/{name}",
            source=SourceRef(name=source, format=SOURCES[source]),
            environment=ENVIRONMENT,
            datasource=f"db-{self.database:02}",
            **fields,
        )
        self.told.append((source, event))

    def _id(self) -> str:
        """A UUIDv7 as the store's own, but drawn from the seed."""
        value = int((self.at + LAG_SECONDS) * 1000) << 80 | 0x7 << 76 | self.drawn.getrandbits(76)
        text = f"{value & ~(0x3 << 62) | 0x2 << 62:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def _statement(self, number: int, must_write: bool) -> None:
        drawn = self.drawn
        table = self.tables[skewed(drawn, len(self.tables))]
        op: Op = "read"
        if must_write or drawn.random() < WRITTEN:
            op = drawn.choices(("update", "insert", "delete"), (70, 25, 5))[0]
        is_denied = not must_write and drawn.random() < DENIED
        keyed = op != "read" or drawn.random() >= UNKEYED
        key = str(skewed(drawn, table.rows) + 1)
        text, parameters, columns = _wording.statement(
            drawn, op, table.name, table.columns, key if keyed else None, self.full, self.kind == "service"
        )
        count = 1 if keyed else drawn.randint(0, 500)
        xid = str(3_000 + (self.first + len(self.told)) % 2**32)
        more: dict[str, Any] = self._whose() | {
            "kind": "query", "op": op, "verdict": "allowed", "statement": Statement(text=text, state="whole"),
            "parameters": tuple(Parameter(position=at, value=value) for at, value in enumerate(parameters, 1)),
        }  # fmt: skip
        if self.full:
            more["rows"] = Rows(returned=count) if op == "read" else Rows(affected=count)
        if op != "read":
            more["transaction"] = Transaction(id=xid, outcome="committed")
        if is_denied:
            more |= {"verdict": "blocked", "error": ErrorCode(code="42501"), "rows": None, "transaction": None}
        elif op == "read" and self.kind == "human" and drawn.random() < MASKED:
            more["verdict"] = "masked"
        more |= self._seen(table, op, columns, key if keyed else None)
        self._tell(self.source, str(number), **more)
        if op != "read" and not is_denied:
            self._changes(number, table, op, key, columns, xid)

    def _seen(self, table: Relation, op: Op, columns: Sequence[str], key: str | None) -> dict[str, Any]:
        """What the source itself says of tables and rows, in full: a log names the table, a gateway also the keys."""
        access: Literal["read", "write"] = "read" if op == "read" else "write"
        if not self.full:
            return {}
        if self.kind == "service":
            return {
                "resources": (Resource(schema="public", relation=table.name, access=access),),
                "correlation_id": f"{self.session}/{len(self.told)}.1",
            }
        keys = ((Value(column="id", value=key),),) if key else ()
        return {
            "resources": (Resource(schema="public", relation=table.name, columns=tuple(columns), access=access),),
            "effects": (Effect(verb=op, schema="public", relation=table.name, columns=tuple(columns), keys=keys),),
            "policy": (Policy(id="guardrails", version="1", rule="default", effect="allow"),),
            "duration_us": self.drawn.randint(80, 90_000),
            "db_system": "postgresql",
        }

    def _changes(self, number: int, table: Relation, op: Op, key: str, columns: Sequence[str], xid: str) -> None:
        """What change capture told of a statement's transaction; no word of who it was."""
        held = table.columns[1:] if self.full else columns
        before = {} if op == "insert" else _wording.image(self.drawn, held, self.full)
        after = {} if op == "delete" else before | _wording.image(self.drawn, columns, self.full)
        self._tell(
            "changes", f"c{number}", kind="change", op=op, transaction=Transaction(id=xid, outcome="committed"),
            resources=(Resource(schema="public", relation=table.name),), key=(Value(column="id", value=key),),
            before=_values(before), after=_values(after),
            changed_columns=tuple(columns) if op == "update" else (),
        )  # fmt: skip


def _values(image: dict[str, str]) -> tuple[Value, ...]:
    return tuple(Value(column=column, value=value) for column, value in image.items())


def _person(number: int) -> str:
    return f"person-{number:03}@example.com"


def all_of(plan: Plan) -> Iterator[tuple[str, list[Event]]]:
    """(source, records) of every chunk in order, as they are appended."""
    for number in range(plan.chunks):
        yield from chunk(plan, number).items()
