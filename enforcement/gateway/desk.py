"""The client of the store's exchange: held statements, decisions, orders, rules, tags, keys (docs/held.md).

One thread of its own talks to the store every second, every five while nobody is connected and nothing waits; the event loop
never waits for it. How a server uses it:

- `Desk(shipper.Store(url, token, "gateway", ca_file=…), name, folder, deliver)`, where `deliver` takes one `Notice` in the desk's thread:
  give `lambda notice: loop.call_soon_threadsafe(handle, notice)`. Then `start()`, at the end `stop()`.
- `desk.rules`, `desk.tags`, `desk.keys` are what was last known, from the folder, before the first answer: a start without the
  store works with them. What changes is delivered as `Rules`, `Tags`, `Keys`; say what holds with `in_force`.
- `declare` and `see` replace what is told of databases and live sessions; call `see` each second.
- `hold(question, session)` answers at once. It writes to the disk where an approval is used: call it in a thread. A later decision comes
  as `Answered` to the session that waits, if it still does. An answer `approved` is a use: it is on the disk before it is given.
- `withdraw` where nobody waits any more; `leave` where a session has ended.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from enforcement.gateway import exchange, uses
from enforcement.gateway.exchange import Answered, Decision, Keys, Known, Notice, Rules, Tag, Tags, Told
from enforcement.gateway.session.outputs import Decided, Hold
from enforcement.shipper import Store, say
from lineage import exchanged

EXCHANGE_SECONDS, IDLE_SECONDS = 1.0, 5.0
LONGEST_WAIT_SECONDS = 10.0
PENDING_MOST = 500
PENDING_EACH = 20
DECIDED_MOST = 1_000


class _Pending(msgspec.Struct):
    question: Hold
    told: exchanged.Hold
    waiters: list[Hold]
    is_taken: bool = False


class Desk:
    """See the module. Thread-safe."""

    def __init__(
        self, store: Store, name: str, folder: Path, deliver: Callable[[Notice], None], version: str = ""
    ) -> None:
        self._name, self._version, self._deliver = name, version, deliver
        self._line = exchange.Line(store)
        self._path = folder / "desk.json"
        self._known = _read(self._path)
        self._used = uses.Uses(folder / "used.jsonl")
        self._lock = threading.Lock()
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._databases: tuple[tuple[exchanged.Database, str], ...] = ()
        self._sessions: tuple[exchanged.Live, ...] = ()
        self._catalogs: dict[str, str] = {}
        self._in_force = exchanged.Rules()
        self._pending: dict[str, _Pending] = {}
        self._decided: dict[str, Decision] = {}
        self._withdrawn: dict[str, exchanged.Done] = {}
        self._thread = threading.Thread(target=self._run, name="desk", daemon=True)

    @property
    def rules(self) -> Rules | None:
        return self._known.rules

    @property
    def tags(self) -> tuple[Tag, ...]:
        return self._known.tags

    @property
    def keys(self) -> dict[str, Any] | None:
        return self._known.keys

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after one more exchange, so that uses and withdrawals are told."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(exchange.TIMEOUT_SECONDS)

    def declare(self, databases: Sequence[exchanged.Database]) -> None:
        """The databases behind the gateway, each with its catalog: that goes out only when it has changed."""
        fit = [msgspec.structs.replace(one, catalog=exchange.slim(one.catalog)) for one in databases]
        before, self._databases = self._databases, tuple((one, _digest(one.catalog)) for one in fit)
        if self._databases != before:
            self._wake.set()

    def see(self, sessions: Sequence[exchanged.Live]) -> None:
        """The sessions that are live now. The first is told at once: orders to end it must reach it; so is the end of the last."""
        before, self._sessions = self._sessions, tuple(sessions)
        if bool(self._sessions) != bool(before):
            self._wake.set()

    def in_force(self, version: int, digest: str) -> None:
        """Which guardrails the gateway goes by."""
        before, self._in_force = self._in_force, exchanged.Rules(version=version, digest=digest)
        if self._in_force != before:
            self._wake.set()

    def hold(self, question: Hold, session: exchanged.Live) -> Decided:
        """What is known of this statement: approved (and used by this answer), rejected or expired (told once), else pending.

        A statement that nobody could judge (too long, too many wait, the disk takes no use) is rejected.
        """
        with self._lock:
            decided = self._decided.get(question.digest)
            if decided is not None and decided.is_good():
                return self._use(decided)
            if decided is not None:
                del self._decided[question.digest]
                return decided.told()
            pending = self._pending.get(question.digest)
            if pending is None:
                why = self._unjudgeable(question)
                if why:
                    return _rejected(question, why)
                pending = _Pending(question, exchange.wire(question, session), [])
                self._pending[question.digest] = pending
            if question.hold_until is not None:
                pending.waiters.append(question)
            self._wake.set()
            return Decided(request_id=pending.question.request_id, digest=question.digest, state="pending")

    def withdraw(self, request_id: str, digest: str, session_id: str = "") -> None:
        """Nobody waits for this any more: it is taken back, unless another session still waits."""
        with self._lock:
            pending = self._pending.get(digest)
            if pending is None or pending.question.request_id != request_id:
                return
            pending.waiters = [one for one in pending.waiters if session_id and one.session_id != session_id]
            if not pending.waiters:
                del self._pending[digest]
                done = exchanged.Done(request_id=request_id, digest=digest, state="withdrawn", at=_now())
                self._withdrawn[request_id] = done
                self._wake.set()

    def leave(self, session_id: str) -> None:
        """The session has ended: it waits for nothing. Its requests stay: who asked may run the statement again."""
        with self._lock:
            for pending in self._pending.values():
                pending.waiters = [one for one in pending.waiters if one.session_id != session_id]

    def _unjudgeable(self, question: Hold) -> str:
        """Why nobody could judge this; empty where somebody can."""
        if max(len(question.statement), len(question.redacted)) > exchanged.STATEMENT_MOST:
            return f"It is longer than {exchanged.STATEMENT_MOST:,} characters: nobody can judge it. Split it."
        values = sum(len(one.value or "") for one in question.parameters)
        if values > exchanged.STATEMENT_MOST:
            return (
                f"Its values are longer than {exchanged.STATEMENT_MOST:,} characters: nobody can judge them. Split it."
            )
        theirs = sum(one.question.requested_by == question.requested_by for one in self._pending.values())
        if theirs >= PENDING_EACH or len(self._pending) >= PENDING_MOST:
            return f"{theirs} statements of yours wait for a person already. Run it again when they are decided."
        return ""

    def _use(self, decision: Decision) -> Decided:
        """The use of an approval, on the disk before anybody is told. Without that it is not used."""
        try:
            self._used.add(decision.request_id, decision.digest)
        except OSError as error:
            say(
                f"desk: a use cannot be written ({error.strerror}); the statement is not run. Make room in {self._path.parent}."
            )
            told = "The gateway cannot write down that the approval is used, so nothing ran. Ask its operator, then run it again."
            return Decided(request_id=decision.request_id, digest=decision.digest, state="rejected", reason=told)
        self._decided.pop(decision.digest, None)
        self._wake.set()
        return decision.told(used=True)

    def _run(self) -> None:
        wait = EXCHANGE_SECONDS
        while True:
            is_last = self._stopping.is_set()
            self._wake.clear()
            reached = self._exchange()
            if is_last:
                return
            # News goes out at once, but an answer that fails is not asked for in a loop.
            if not reached:
                wait = min(wait * 2, LONGEST_WAIT_SECONDS)
                self._stopping.wait(wait)
                continue
            wait = EXCHANGE_SECONDS
            if self._wake.wait(self._pause()):
                self._stopping.wait(0.05)

    def _pause(self) -> float:
        """How long the next exchange may wait: rules may come late to a gateway where nobody is, decisions and orders may not."""
        with self._lock:
            is_busy = bool(self._sessions or self._pending or self._withdrawn or self._used.waiting() or self._untold())
        return EXCHANGE_SECONDS if is_busy else IDLE_SECONDS

    def _untold(self) -> list[str]:
        """Databases whose catalog the store does not have as it is."""
        return [one.name for one, digest in self._databases if one.catalog and self._catalogs.get(one.name) != digest]

    def _exchange(self) -> bool:
        try:
            return self.exchange()
        except Exception as error:  # noqa: BLE001  a dead desk with a living gateway would hold for ever: say it and go on
            say(f"desk: {type(error).__name__}: {error}. Held statements wait; trying on.")
            return False

    def exchange(self) -> bool:
        """One exchange now. False: the store did not answer it, and everything is told again."""
        with self._lock:
            message = self._message()
        answer = self._line.post(message)
        if answer is None:
            return False
        for notice in self._take(message, answer):
            self._deliver(notice)
        return True

    def _message(self) -> exchanged.Message:
        news = self._untold()[:1]
        databases = tuple(
            one if one.name in news else msgspec.structs.replace(one, catalog=None) for one, _ in self._databases
        )
        return exchanged.Message(
            gateway=self._name, version=self._version, databases=databases, sessions=self._sessions[:5_000],
            held=tuple(exchange.fitting(one.told for one in self._pending.values() if not one.is_taken)),
            asked=tuple(one.question.request_id for one in self._pending.values() if one.is_taken),
            done=(*self._used.waiting()[:500], *list(self._withdrawn.values())[:500]),
            rules=self._in_force, tags=self._known.tags_state, keys=self._known.keys_state,
        )  # fmt: skip

    def _take(self, message: exchanged.Message, answer: Told) -> list[Notice]:
        """What the answer changes, and whom it concerns."""
        notices: list[Notice] = [*answer.kills]
        with self._lock:
            self._catalogs |= {one.name: _digest(one.catalog) for one in message.databases if one.catalog is not None}
            taken = {hold.request_id for hold in message.held}
            for pending in self._pending.values():
                pending.is_taken = pending.is_taken or pending.question.request_id in taken
            self._used.told([done.request_id for done in message.done])
            for done in message.done:
                self._withdrawn.pop(done.request_id, None)
            notices += self._refused({one.request_id: one.code for one in answer.refused})
            for decision in answer.decisions:
                notices += self._decide(decision)
            notices += self._learn(answer)
        return notices

    def _refused(self, codes: dict[str, str]) -> list[Notice]:
        """Requests that the store does not take. What it has lost is told again."""
        notices: list[Notice] = []
        for pending in [one for one in self._pending.values() if one.question.request_id in codes]:
            if codes[pending.question.request_id] == "not-found":
                pending.is_taken = False
                continue
            del self._pending[pending.question.digest]
            decided = _rejected(pending.question, "The store did not take this request. Run the statement again.")
            notices += [Answered(one.session_id, one.statement_id, decided) for one in pending.waiters]
        return notices

    def _decide(self, decision: Decision) -> list[Notice]:
        """Keeps a decision for the next run of the statement, or gives it to those who wait. An approval serves one."""
        if decision.state == "used" or self._used.has(decision.request_id) or decision.request_id in self._withdrawn:
            return []
        pending = self._pending.pop(decision.digest, None)
        self._decided[decision.digest] = decision
        while len(self._decided) > DECIDED_MOST:
            del self._decided[next(iter(self._decided))]
        # A second is left for the way to the session; later, the statement is run again.
        waiters = [one for one in pending.waiters if (one.hold_until or 0) - 1 > time.time()] if pending else []
        if not waiters:
            return []
        if decision.is_good():
            first = waiters[0]
            return [Answered(first.session_id, first.statement_id, self._use(decision))]
        del self._decided[decision.digest]
        return [Answered(one.session_id, one.statement_id, decision.told()) for one in waiters]

    def _learn(self, answer: Told) -> list[Notice]:
        """Rules, tags and keys that are new, kept in the folder before they are told."""
        notices: list[Notice] = []
        known = Known(**msgspec.structs.asdict(self._known))
        if answer.rules is not None and answer.rules != known.rules:
            known.rules = answer.rules
            notices.append(answer.rules)
        if answer.tags is not None and answer.tags_state != known.tags_state:
            known.tags, known.tags_state = answer.tags, answer.tags_state
            notices.append(Tags(answer.tags))
        if answer.keys is not None and answer.keys_state != known.keys_state:
            known.keys, known.keys_state = answer.keys, answer.keys_state
            notices.append(Keys(answer.keys))
        if notices:
            self._known = known
            try:
                uses.replace(self._path, msgspec.json.encode(known))
            except OSError as error:
                say(
                    f"desk: {self._path} cannot be written ({error.strerror}): a start without the store would go by older rules."
                )
        return notices


def _rejected(question: Hold, why: str) -> Decided:
    return Decided(request_id=question.request_id, digest=question.digest, state="rejected", reason=why)


def _digest(catalog: exchanged.Catalog | None) -> str:
    return hashlib.sha256(msgspec.json.encode(catalog)).hexdigest()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _read(path: Path) -> Known:
    """What the folder keeps; nothing where it is not there or cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Known)
    except FileNotFoundError:
        return Known()
    except (OSError, msgspec.DecodeError) as error:
        say(
            f"desk: {path} cannot be read ({error}): until the store answers, the built-in rules hold and no tags are known."
        )
        return Known()
