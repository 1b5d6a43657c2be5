"""Who and what is behind a transaction or a session, of the facts with its keys: `lineage.joins` once more, in Python. Pure.

Of each key that is asked for here all facts are in `Told`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from lineage.newer import saying
from lineage.newer.saying import Change, Claim, Emission, Fact, Gateway, Line, Nested, Said

ENDED = ("committed", "rolled_back")
F = TypeVar("F", Line, Emission, Nested, Change, Gateway, Claim)
T = TypeVar("T")
Id = tuple[str | None, ...]
Roles = Collection[tuple[str | None, str | None, str | None]]
"""Environment, database and login of those whose messages count."""


def _tells(fact: Fact) -> list[int]:
    """The keys of which it tells; a line leads to its session, of which it tells nothing."""
    every = saying.keys_of(fact)
    return list((every._replace(session=None) if isinstance(fact, Line) else every).all())


class Told:
    """Facts by their keys, each with the least index of a record that says it. It only grows."""

    def __init__(self) -> None:
        self.by_key: dict[int, dict[Fact, int]] = {}
        self.keyless: dict[Fact, int] = {}

    def add(self, fact: Fact, index: int) -> None:
        every = [self.by_key.setdefault(key, {}) for key in _tells(fact)] or [self.keyless]
        for known in every:
            known[fact] = min(index, known.get(fact, index))

    def first(self, fact: Fact) -> int | None:
        """The first record that says it."""
        for key in _tells(fact):
            return self.by_key.get(key, {}).get(fact)
        return self.keyless.get(fact)

    def of(self, kind: type[F], key: int | None, size: int) -> list[tuple[int, F]]:
        """The facts of one kind with this key that the log of this size says, with their first records, in their order."""
        # Another thread may add to it meanwhile, of a larger log.
        told = list(self.by_key.get(key, {}).items()) if key is not None else []
        return sorted(
            ((index, fact) for fact, index in told if isinstance(fact, kind) and index < size), key=lambda one: one[0]
        )


class Person(NamedTuple):
    id: str
    name: str | None
    email: str | None
    type: str | None
    behalf: str | None
    agent_id: str | None
    agent_name: str | None
    at: int


class Watched(NamedTuple):
    """What gateways say of a transaction or a session; `person` is None where two records name two."""

    person: Person | None
    session: str | None
    purpose: str | None
    ticket: str | None
    run: str | None
    outcome: str | None


class Transaction(NamedTuple):
    line_index: int | None
    line_session: str | None
    line_user: str | None
    line_app: str | None
    line_ip: str | None
    claim_state: str | None
    claim_index: int | None
    claim: Said | None
    outcome: str | None


class Behind:
    """Of a log of this size. Kept as long as one question, or one step."""

    def __init__(self, told: Told, roles: Roles, size: int) -> None:
        self.told, self.roles, self.size = told, roles, size
        self.known: dict[Hashable, object] = {}

    def _once(self, name: Id, make: Callable[[], T]) -> T:
        if name not in self.known:
            self.known[name] = make()
        return self.known[name]  # type: ignore[return-value]

    def xid(self, *session: str | None) -> str | None:
        """The transaction of a virtual id: environment, database, session, virtual id."""
        return self._once(("vid", *session), lambda: self._xid(session))

    def transaction(self, *of: str | None) -> Transaction | None:
        """Environment, database, transaction; None where nothing is told of it."""
        return self._once(("tx", *of), lambda: self._transaction(of))

    def gateway(self, *of: str | None) -> Watched | None:
        """The same of gateways."""
        return self._once(("gateway", *of), lambda: self._watched("tx", of))

    def session(self, *of: str | None) -> Watched | None:
        """Environment, database, session of the server."""
        return self._once(("session", *of), lambda: self._watched("session", of))

    def _xid(self, of: Id) -> str | None:
        lines = self.told.of(Line, saying.key("vid", *of), self.size)
        return max(
            (
                line.xid
                for _, line in lines
                if line.xid is not None and (line.environment, line.datasource, line.db_session_id, line.vid) == of
            ),
            default=None,
        )

    def _lines(self, of: Id) -> Iterator[tuple[int, Line]]:
        """Of a transaction: with its id, or with a virtual id that leads to it."""
        for index, line in self.told.of(Line, saying.key("tx", *of), self.size):
            if (line.environment, line.datasource, line.xid) == of:
                yield index, line
        for vid in self._vids(of):
            for index, line in self.told.of(Line, saying.key("vid", *vid), self.size):
                if line.xid is None and (line.environment, line.datasource, line.db_session_id, line.vid) == vid:
                    yield index, line

    def _emissions(self, of: Id) -> Iterator[Emission]:
        for _, one in self.told.of(Emission, saying.key("tx", *of), self.size):
            if (one.environment, one.datasource, one.xid) == of:
                yield one
        for vid in self._vids(of):
            for _, one in self.told.of(Emission, saying.key("vid", *vid), self.size):
                if one.xid is None and (one.environment, one.datasource, one.db_session_id, one.vid) == vid:
                    yield one

    def _vids(self, of: Id) -> set[Id]:
        """The virtual ids that lead to this transaction."""
        lines = self.told.of(Line, saying.key("tx", *of), self.size)
        named = {
            (one.environment, one.datasource, one.db_session_id, one.vid)
            for _, one in lines
            if one.vid is not None and (one.environment, one.datasource, one.xid) == of
        }
        return {vid for vid in named if self.xid(*vid) == of[-1]}

    def _transaction(self, of: Id) -> Transaction | None:
        lines = sorted(self._lines(of), key=lambda one: one[0])
        state, best = self._claimed(of)
        changed = any(
            (one.environment, one.datasource, one.xid) == of
            for _, one in self.told.of(Change, saying.key("tx", *of), self.size)
        )
        if not lines and state is None and not changed:
            return None
        session, user, app, address = (
            next((value for _, line in lines if (value := getattr(line, name)) is not None), None)
            for name in ("db_session_id", "db_user", "client_app", "client_ip")
        )
        undone = any(line.undone for _, line in lines)
        outcome = "committed" if changed or best is not None else "rolled_back" if undone else None
        record, said = (best.record, best.said) if best is not None else (None, None)
        first = lines[0][0] if lines else None
        return Transaction(first, session, user, app, address, state, record, said, outcome)

    def _claimed(self, of: Id) -> tuple[str | None, Claim | None]:
        """What is believed of the messages of a transaction, and the one that counts."""
        claims = [
            one
            for _, one in self.told.of(Claim, saying.key("tx", *of), self.size)
            if (one.environment, one.datasource, one.xid) == of
        ]
        if not claims:
            return None, None
        gateway = self.gateway(*of)
        person = gateway.person if gateway is not None else None
        emitted = [(one.said, self._is_listed(one), self._is_nested(one)) for one in self._emissions(of)]
        judged = [_judged(claim, person, emitted) for claim in claims]
        best = max(zip(judged, claims, strict=True), key=lambda one: (one[0].proved, one[1].record))[1]
        if any(person and one.told and not one.proved and not one.vouched for one in judged):
            return "refused", best
        if any(one.proved for one in judged):
            return "proved", best
        if any(one.vouched for one in judged):
            return "vouched", best
        return "refused" if any(one.told for one in judged) else "waiting", best

    def _is_listed(self, one: Emission) -> bool:
        of = one.environment, one.datasource, one.db_user
        return None not in of and of in self.roles

    def _is_nested(self, one: Emission) -> bool:
        inner = self.told.of(Nested, saying.key("call", one.source, one.call), self.size)
        return one.nested or any((each.source, each.call) == (one.source, one.call) for _, each in inner)

    def _watched(self, kind: str, of: Id) -> Watched | None:
        told = [
            (index, one)
            for index, one in self.told.of(Gateway, saying.key(kind, *of), self.size)
            if one.is_session == (kind == "session") and (one.environment, one.datasource, one.key) == of
        ]
        if not told:
            return None
        every = [one for _, one in told]
        named = [(index, one.said) for index, one in told if one.said.actor_id is not None]
        person = _person(*named[0]) if len({said.actor_id for _, said in named}) == 1 else None
        purpose, ticket, run = (_agreed(name, every) for name in ("purpose", "ticket", "agent_run"))
        sessions = [one.session_id for one in every if one.session_id is not None]
        ended = [one.outcome for one in every if one.outcome in ENDED]
        return Watched(person, min(sessions, default=None), purpose, ticket, run, max(ended, default=None))


class _Judged(NamedTuple):
    proved: bool
    told: bool
    vouched: bool


def _judged(claim: Claim, person: Person | None, emitted: Sequence[tuple[str | None, bool, bool]]) -> _Judged:
    """What the lines that emitted messages, and the gateway's person, say of one message."""
    same = [one for one in emitted if claim.message is not None and one[0] == claim.message]
    proved = any(listed and not nested for _, listed, nested in same)
    told = bool(same) or any(not listed for _, listed, _ in emitted)
    names = (person.id, person.email if person.email is not None else person.id) if person else ()
    return _Judged(proved, told, claim.said.actor_id is not None and claim.said.actor_id in names)


def _person(index: int, said: Said) -> Person:
    return Person(
        said.actor_id or "", said.actor_name, said.actor_email, said.actor_type, said.on_behalf_of,
        said.agent_id, said.agent_name, index,
    )  # fmt: skip


def _agreed(name: str, every: Sequence[Gateway]) -> str | None:
    """The value that all who write share, else the one that all share: one statement's reason is not another's."""
    for some in ([one for one in every if one.writes], every):
        said = [getattr(one.said, name) for one in some]
        if len({value or "" for value in said}) == 1:
            known: str | None = next((value for value in said if value is not None), None)
            if known is not None:
                return known
    return None
