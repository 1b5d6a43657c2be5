"""Asking for an erasure, deciding about it, and the list of all."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec
from django.db import connection, transaction
from django.utils import timezone

from lineage import access, errors, holds, ledger, rights, segments
from lineage.access import Viewer
from lineage.erasures import quarantine, selection
from lineage.events import GROUPS, Group, HeaderCount

WORDS_MOST = 500
SAMPLE = 5
HEADERS = ("kind", "class", "source_id", "occurred_at")


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """A request as it is shown to those who ask and decide: no value in it. `sample` are headers of the first records."""

    number: int
    groups: tuple[Group, ...]
    records: int
    first: int | None
    last: int | None
    counts: tuple[HeaderCount, ...]
    quarantined: int
    sample: tuple[dict[str, Any], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Erasure:
    """One row of the registry. `query` and `texts` are there until it is executed or rejected."""

    id: int
    kind: rights.Kind
    groups: list[Group]
    query: str | None
    texts: list[str]
    since: dt.datetime | None
    until: dt.datetime | None
    quarantine: list[int]
    as_of: int
    records: int
    selection_hash: bytes
    reason: str
    ground: str
    requested_by: str
    requested_at: dt.datetime
    decided_by: str | None
    decided_at: dt.datetime | None
    state: str
    published_at: dt.datetime | None
    rewritten: bool
    erased_at: dt.datetime | None
    holders: list[str]

    @property
    def subject(self) -> str:
        return f"{self.kind} {self.id}"

    def wanted(self) -> selection.Wanted:
        """What is to be taken; before it is executed."""
        expires = self.until if self.kind == "retention" else None
        return selection.Wanted(
            groups=tuple(self.groups), query=self.query or "", at=self.requested_at, texts=tuple(self.texts),
            since=self.since, until=None if expires else self.until, received_before=expires,
            quarantine=tuple(self.quarantine),
        )  # fmt: skip


COLUMNS = ", ".join(
    "replaced_to is not null as rewritten" if field.name == "rewritten" else field.name
    for field in dataclasses.fields(Erasure)
)


def listing(*states: str) -> list[Erasure]:
    """All erasures, newest first; of some states when named."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"select {COLUMNS} from ledger_erasure where %s = '{{}}' or state = any(%s) order by id desc",  # noqa: S608
            [list(states), list(states)],
        )
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return [Erasure(**row | {"selection_hash": bytes(row["selection_hash"])}) for row in rows]


def one(number: int) -> Erasure:
    """Raises NotFound."""
    found = [erasure for erasure in listing() if erasure.id == number]
    if not found:
        raise errors.NotFound(f"There is no erasure {number}. `bin/manage erase list` shows them.")
    return found[0]


def in_scope(viewer: Viewer) -> list[Erasure]:
    """Those that the viewer may know of: an erasure reaches as far as who asked for it."""
    return [erasure for erasure in listing() if access.sees_asked_by(viewer, erasure.requested_by)]


def seen(viewer: Viewer, number: int) -> Erasure:
    """One of them. Raises NotFound."""
    found = one(number)
    if not access.sees_asked_by(viewer, found.requested_by):
        raise errors.NotFound(f"There is no erasure {number} in your scope.")
    return found


def request(
    viewer: Viewer,
    query: str,
    groups: Sequence[str],
    *,
    reason: str,
    ground: str,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    texts: Sequence[str] = (),
    items: Sequence[int] = (),
) -> Asked:
    """Asks for an erasure within the viewer's scope; nothing is taken before another person approves it.

    Raises AccessDenied, QueryInvalid, NotFound (nothing matches) and Held; each refusal is recorded.
    """
    with rights.asked(viewer, "erasure"):
        wanted = selection.Wanted(
            groups=selection.with_statement(groups), query=query.strip(), at=timezone.now(),
            texts=tuple(t for t in texts if t), since=since, until=until, quarantine=tuple(items),
        )  # fmt: skip
        _check(wanted, groups, reason, ground)
        taken, size = selection.select(viewer, wanted)
        quarantined = quarantine.matching(viewer, wanted)
        if not taken and not quarantined:
            raise errors.NotFound("Nothing in your scope matches, so there is nothing to erase.")
        holds.check(taken)
        with transaction.atomic():
            number = rights.call(
                "select ledger_request_erasure(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                list(wanted.groups), wanted.query, list(wanted.texts), since, until, list(wanted.quarantine), size,
                len(taken), selection.digest(taken), reason.strip(), ground.strip(), viewer.email,
            )  # fmt: skip
            _record(one(number), viewer.email, "requested", selection.counts(taken))
        return _asked(number, wanted, taken, len(quarantined))


def _asked(number: int, wanted: selection.Wanted, taken: selection.Taken, quarantined: int) -> Asked:
    first, last = (min(taken), max(taken)) if taken else (None, None)
    sample = tuple(
        {"index": record.index, **{k: v for k, v in msgspec.json.decode(record.leaf).items() if k in HEADERS}}
        for record in segments.records(sorted(taken)[:SAMPLE])
    )
    return Asked(number, wanted.groups, len(taken), first, last, tuple(selection.counts(taken)), quarantined, sample)


def preview(viewer: Viewer, erasure: Erasure) -> Asked:
    """What a request that waits for its decision would take now. Raises AccessDenied."""
    with rights.asked(viewer, "erasure", erasure.id):
        wanted, asker = erasure.wanted(), selection.asker(erasure.requested_by)
        taken, _ = selection.select(asker, wanted)
        return _asked(erasure.id, wanted, taken, len(quarantine.matching(asker, wanted)))


def _check(wanted: selection.Wanted, groups: Sequence[str], reason: str, ground: str) -> None:
    if not groups or not set(groups) <= set(GROUPS):
        raise errors.QueryInvalid(f"Name the groups to erase, of: {', '.join(GROUPS)}.", groups=",".join(groups)[:100])
    if not (wanted.query or wanted.texts or wanted.since or wanted.until or wanted.quarantine):
        raise errors.QueryInvalid("Say what to erase: a search, a time, or a value.")
    if not reason.strip() or not ground.strip() or max(len(reason), len(ground)) > WORDS_MOST:
        raise errors.QueryInvalid(f"Give a reason and a legal ground, each of at most {WORDS_MOST} characters.")
    if selection.names_one(selection.sought(wanted), reason, ground):
        raise errors.QueryInvalid(
            "The reason or the ground holds one of the values to erase, and both stay in the log. Say it without the value."
        )


def approve(viewer: Viewer, number: int) -> None:
    """Approves a request; by another person than the one who asked. Raises AccessDenied, NotFound and Held."""
    _decide(viewer, number, True)


def reject(viewer: Viewer, number: int) -> None:
    """Rejects a request, or withdraws one's own. Raises AccessDenied and NotFound."""
    _decide(viewer, number, False)


def _decide(viewer: Viewer, number: int, approved: bool) -> None:
    with rights.asked(viewer, "erasure", number):
        found = seen(viewer, number)
        if found.state != "requested":
            raise errors.NotFound(f"Erasure {number} does not wait for a decision; it is {found.state}.")
        if approved and viewer.email.lower() == found.requested_by.lower():
            raise errors.AccessDenied("Another person than the one who asked must approve. The refusal is recorded.")
        if approved and found.records:
            asker = selection.asker(found.requested_by)
            holds.check(selection.select(asker, found.wanted())[0])
        with transaction.atomic():
            quarantine.before_decision()
            rights.call("select ledger_decide_erasure(%s, %s, %s)", number, viewer.email, approved)
            _record(one(number), viewer.email, "approved" if approved else "rejected", ())


def _record(erasure: Erasure, who: str, transition: str, counts: Sequence[HeaderCount]) -> None:
    more: dict[str, Any] = {"requested_by": erasure.requested_by, "ground": erasure.ground, "counts": tuple(counts)}
    words = f"{erasure.reason} ({', '.join(erasure.groups)} of {erasure.records} records, as of {erasure.as_of})"
    ledger.record_decision(
        erasure.kind, decided_by=who, subject=erasure.subject, transition=transition, purpose=words, **more
    )
