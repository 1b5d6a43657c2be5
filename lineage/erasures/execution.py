"""Executing what was approved: seal, select again, rewrite, publish (docs/erasure.md, 3 to 5).

Under the keeper's lock. Killed at any point, the old or the new stands, and a second run finishes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from django.db import connection, transaction

from lineage import checkpoints, errors, holds, ledger, reach, rewriting, rights, segments, statements
from lineage.access import Viewer
from lineage.erasures import publishing, quarantine, selection
from lineage.erasures.requests import Erasure, one
from lineage.events import Erased, Event, HeaderCount, parse_time
from lineage.models import Role, Source

SPANS_MOST = 1_000
KEYS_MOST = 5_000
ATTEMPTS = 5


def execute(number: int) -> None:
    """Carries out an approved erasure, up to the state `pending`. Call under the keeper's lock.

    Held records, or a person who may no longer ask, refuse it: recorded, and its state is `refused`.
    """
    erasure = one(number)
    if erasure.state != "approved":
        raise errors.NotFound(f"Erasure {number} is {erasure.state}, not approved.")
    for _ in range(ATTEMPTS):
        try:
            _execute_once(erasure)
        except publishing.Changed:
            continue
        except (errors.Held, errors.AccessDenied) as error:
            with transaction.atomic():
                rights.call("select ledger_refuse_erasure(%s)", number)
                rights.refuse(erasure.kind, number, erasure.requested_by, error.code)
            raise
        statements.forget()
        # The record just made lies beside the values in the journal: sealed too, their partition can go.
        seal_everything()
        return
    raise errors.StoreUnavailable("The sealed files changed each time. The erasure is tried again in a moment.")


def _execute_once(erasure: Erasure) -> None:
    segments.sweep()
    seal_everything()
    wanted = erasure.wanted()
    viewer = viewer_of(erasure)
    looked_at = holds.newest()
    taken, size = selection.select(viewer, wanted, as_of=segments.sealed_to())
    if erasure.kind == "retention":
        taken = selection.unexpired(taken)
    else:
        holds.check(taken)
    items = quarantine.matching(viewer, wanted)
    replaced = list(_rewrite(taken))
    _forget_contents(taken)
    quarantine.forget(erasure.id, items)
    for place in reach.places:
        place.forget_texts(selection.sought(wanted))
    words = _words(erasure, len(taken), size, len(items))
    said = records_of(erasure, "pending", selection.spans(taken), selection.counts(taken), words)
    publishing.publish(erasure.id, replaced, said, looked_at)


def viewer_of(erasure: Erasure) -> Viewer:
    """For whom an erasure is selected: the person who asked, with today's scope; what expires, expires everywhere."""
    if erasure.kind == "retention":
        return Viewer(email=erasure.requested_by, role=Role.ADMIN)
    return selection.asker(erasure.requested_by)


def seal_everything() -> None:
    """Signs and seals the whole log as it stands, so that values lie in one place."""
    size = checkpoints.checkpoint()
    while segments.sealed_to() < size:
        segments.seal()


def _rewrite(taken: selection.Taken) -> Iterator[publishing.Replaced]:
    for first, following, folder, files in segments.manifest(list(taken)):
        inside = {index: groups for index, groups in taken.items() if first <= index < following}
        new, written = rewriting.rewrite(first, following, folder, files, inside)
        yield publishing.Replaced(folder, new, written)


def _forget_contents(taken: selection.Taken) -> None:
    """Marks the dedupe rows of these records; before publishing, since the sources' own ids go with the groups."""
    ids = dict(Source.objects.values_list("name", "pk"))
    keys: dict[int, list[bytes]] = {}
    for record in segments.records(list(taken)):
        leaf, action = msgspec.json.decode(record.leaf), record.groups.get("action")
        own_id = msgspec.json.decode(action).get("source_event_id") if action else None
        source_id = ids.get(leaf.get("source_id", ""))
        if own_id and source_id:
            occurred = parse_time(leaf["occurred_at"]) if leaf.get("occurred_at") else None
            keys.setdefault(source_id, []).append(ledger.dedupe_key(source_id, own_id, occurred))
    for source_id, found in keys.items():
        for start in range(0, len(found), KEYS_MOST):
            with connection.cursor() as cursor:
                chunk = sorted(found[start : start + KEYS_MOST])
                cursor.execute("select ledger_forget_contents(%s, %s)", [source_id, chunk])


def _words(erasure: Erasure, found: int, size: int, items: int) -> str:
    words = [erasure.reason]
    if found != erasure.records:
        words.append(f"{erasure.records} records at the request as of {erasure.as_of}, {found} as of {size}.")
    if items:
        words.append(f"{items} quarantined items.")
    return " ".join(words)


def records_of(
    erasure: Erasure, transition: str, spans: Sequence[Erased], counts: Sequence[HeaderCount], words: str
) -> list[Event]:
    """The records that say what was taken, each with at most 1,000 spans and complete in itself."""
    return [
        ledger.decision(
            erasure.kind,
            decided_by=erasure.decided_by or "",
            subject=erasure.subject,
            transition=transition,
            purpose=words,
            requested_by=erasure.requested_by,
            ground=erasure.ground,
            erased=tuple(spans[start : start + SPANS_MOST]),
            counts=tuple(counts) if start == 0 else (),
        )
        for start in range(0, max(1, len(spans)), SPANS_MOST)
    ]
