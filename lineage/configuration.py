"""Configuration records: what was changed by whom, with old and new value, in the transaction of the change itself."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from lineage import errors, ledger
from lineage.events import Event, Statement, bounded_statement

NOTHING = "nothing"


def record(
    who: str,
    subject: str,
    old: Mapping[str, Any] | None,
    new: Mapping[str, Any] | None,
    purpose: str | None = None,
    datasource: str | None = None,
) -> None:
    """Appends the record: in words what differs, and old and new value whole. No old value: it was added; no new: removed.

    `datasource`: the database that it is about, whose viewers see it.

    Call it inside the transaction of the change. Raises StoreUnavailable, so that nothing changes unrecorded.
    """
    ledger.record(event(who, subject, old, new, purpose, datasource))


def event(
    who: str,
    subject: str,
    old: Mapping[str, Any] | None,
    new: Mapping[str, Any] | None,
    purpose: str | None = None,
    datasource: str | None = None,
) -> Event:
    """The record that `record` appends, for who appends several at once."""
    word = "changed" if old and new else "added" if new else "removed"
    said = ledger.decision(
        "configuration",
        decided_by=who,
        subject=subject,
        transition=f"{word}: {difference(old or {}, new or {})}",
        purpose=purpose,
    )
    return msgspec.structs.replace(said, statement=whole(old, new), datasource=datasource)


def whole(old: Any, new: Any) -> Statement:
    """Old and new value as a record's statement, where its words may be cut."""
    return bounded_statement(msgspec.json.encode({"old": old, "new": new}, order="sorted").decode())


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs, as "role auditor → security; databases everything → orders-prod"."""
    names = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    if not old or not new:
        return "; ".join(f"{name} {worded((old or new)[name])}" for name in names) or NOTHING
    return "; ".join(f"{name} {worded(old.get(name))} → {worded(new.get(name))}" for name in names) or NOTHING


def worded(value: Any) -> str:
    """A value as it stands in such a sentence."""
    if isinstance(value, dt.datetime):
        return f"{value.astimezone(dt.UTC):%Y-%m-%dT%H:%MZ}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or NOTHING
    return "yes" if value is True else "no" if value is False else str(value) if value not in (None, "") else NOTHING


@contextlib.contextmanager
def asked(who: str, subject: str, datasource: str | None = None) -> Iterator[None]:
    """Around a wish to change something: what is refused inside is recorded, by its code alone."""
    try:
        yield
    except errors.TouchstoneError as error:
        if error.status < 500:
            said = ledger.decision(
                "configuration", decided_by=who, subject=subject, transition="refused", purpose=error.code
            )
            ledger.record(msgspec.structs.replace(said, datasource=datasource))
        raise
