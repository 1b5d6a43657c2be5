"""Say inside a transaction on whose behalf it runs: a logical message that change capture carries along.

psycopg (first statement of the transaction)::

    with connection.transaction():
        context.stamp(connection, actor="dana@shop.example", ticket="OPS-42")
        connection.execute("update …")

SQLAlchemy (once per engine; `with context.acting(…):` around the work then stamps every transaction)::

    context.install_sqlalchemy(engine)
    with context.acting(actor="dana@shop.example", ticket="OPS-42"), Session(engine) as session: …

Django (settings)::

    MIDDLEWARE += ["enforcement.context.django_middleware"]      # actor = the signed-in user; X-Ticket header

What is said is a claim until the store finds the log line of this statement from a login that the operator listed.
The message costs one transaction id, so it is sent only in transactions that are about to write.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

PREFIX = "touchstone"
SQL = "select pg_logical_emit_message(true, 'touchstone', %s)"
FIELDS = frozenset({"actor", "actor_type", "on_behalf_of", "agent", "purpose", "ticket", "session_id"})

_acting: contextvars.ContextVar[Mapping[str, Any] | None] = contextvars.ContextVar("touchstone_acting", default=None)
_WRITES = re.compile(r"^[\s(]*(?:/\*.*?\*/\s*)*(?:insert|update|delete|merge|truncate|copy|with|call|do|alter|create|drop|grant|revoke)\b",
                     re.IGNORECASE | re.DOTALL)  # fmt: skip


def message(**said: Any) -> str:
    """The content of a `touchstone` message. TypeError for a field that the protocol does not have."""
    unknown = set(said) - FIELDS
    if unknown:
        raise TypeError(f"context knows {', '.join(sorted(FIELDS))}; not {', '.join(sorted(unknown))}")
    return json.dumps({name: value for name, value in said.items() if value is not None}, ensure_ascii=False)


def stamp(connection_or_cursor: Any, **said: Any) -> None:
    """Emit the message in the current transaction: `actor`, `actor_type`, `on_behalf_of`, `agent`, `purpose`, `ticket`, `session_id`.

    Works with everything that has `execute(sql, parameters)`: psycopg connections and cursors, Django cursors. Call it first
    in the transaction; in autocommit it would stand in a transaction of its own and say nothing about others.
    """
    connection_or_cursor.execute(SQL, [message(**said)])


@contextlib.contextmanager
def acting(**said: Any) -> Iterator[None]:
    """Everything in this block (also across awaits) is done by and for whom `said` names."""
    message(**said)
    token = _acting.set(said)
    try:
        yield
    finally:
        _acting.reset(token)


def install_sqlalchemy(engine: Any) -> None:
    """Stamp each transaction of this engine at its first write inside an `acting` block."""
    from sqlalchemy import event

    def forget(connection: Any, *_: Any) -> None:
        connection.info.pop("touchstone_stamped", None)

    def before(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        said = _acting.get()
        if said and not connection.info.get("touchstone_stamped") and _WRITES.match(statement):
            connection.info["touchstone_stamped"] = True
            stamp(cursor, **said)

    # A rolled-back savepoint takes a message with it that was sent inside: the next write sends it again.
    for name in ("begin", "rollback_savepoint"):
        event.listen(engine, name, forget)
    event.listen(engine, "before_cursor_execute", before)


def django_wrapper(
    execute: Callable[..., Any], sql: str, parameters: Any, many: bool, context: Mapping[str, Any]
) -> Any:
    """An `execute_wrapper` for one Django connection: stamps each transaction at its first write inside `acting`."""
    said, connection = _acting.get(), context["connection"]
    writes = connection.vendor == "postgresql" and connection.in_atomic_block and _WRITES.match(sql)
    # Django forgets its commit hooks with the transaction or savepoint that they were made in, as the
    # database forgets the message: a hook that does nothing tells whether this transaction is stamped.
    if said and writes and not any(hook[1] is _stamped for hook in connection.run_on_commit):
        connection.on_commit(_stamped)
        stamp(context["cursor"].cursor, **said)
    return execute(sql, parameters, many, context)


def _stamped() -> None:
    """Marks a stamped transaction among Django's commit hooks."""


def django_middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Act as the signed-in user during each request, with the ticket of the X-Ticket header."""
    from django.db import connections

    @functools.wraps(get_response)
    def middleware(request: Any) -> Any:
        user = getattr(request, "user", None)
        if user is None or not user.is_authenticated:
            return get_response(request)
        said = {
            "actor": user.email or user.get_username(),
            "actor_type": "human",
            "ticket": request.headers.get("X-Ticket"),
        }
        with contextlib.ExitStack() as stack:
            stack.enter_context(acting(**said))
            for alias in connections:
                stack.enter_context(connections[alias].execute_wrapper(django_wrapper))
            return get_response(request)

    return middleware
