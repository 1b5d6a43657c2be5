"""The promises of the log, each checked from what is stored; what does not hold, as sentences (see `acts.restart`)."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.db import connection

from lineage import erasures, errors, fsck, keys, merkle, notes, segments


def look(acknowledged: list[list[Any]], earlier: list[str], size: int) -> Iterator[str]:
    """Every promise of the log, checked from the stored leaves; what does not hold, as sentences."""
    found = list(segments.records(range(size)))
    if [record.index for record in found] != list(range(size)):
        yield "The log has not one record for each index."
    places: dict[tuple[str, str], list[int]] = {}
    for record in found:
        action = msgspec.json.decode(record.groups["action"] or b"{}")
        places.setdefault((action.get("source_event_id"), action.get("purpose")), []).append(record.index)
    yield from (f"{key} lies at {where}." for key, where in places.items() if len(where) > 1)
    gone = {each.reason for each in erasures.listing()}
    for name, purpose, index in acknowledged:
        # Whose contents are erased cannot be told apart any more: sent again, either is a duplicate of the first.
        first = places.get((name, "first")) if batch_of(name) in gone else None
        if [index] not in (places.get((name, purpose)), first):
            yield f"{name} ({purpose}) was told {index} and lies at {places.get((name, purpose))}."
    yield from look_at_tree([merkle.leaf_hash(record.leaf) for record in found], earlier)
    yield from look_at_erasures(found, places)
    yield from fsck.check()
    yield from left_over()


def look_at_tree(leaf_hashes: list[bytes], earlier: list[str]) -> Iterator[str]:
    """No two checkpoints of one size with different roots; each earlier one consistent with the last."""
    vkeys = [keys.vkey("checkpoint")]
    signed = [notes.parse_checkpoint(notes.verify(note.encode(), vkeys).text) for note in [*earlier, *signed_notes()]]
    roots: dict[int, bytes] = {}
    for each in signed:
        if roots.setdefault(each.size, each.root) != each.root:
            yield f"Two checkpoints of {each.size} have different roots."
    last = max(roots)
    if last != len(leaf_hashes):
        yield f"The last checkpoint is of {last}, the log holds {len(leaf_hashes)}."
    for size, root in roots.items():
        try:
            proof = merkle.consistency_proof(leaf_hashes[:last], size)
            merkle.verify_consistency(size, root, last, roots[last], proof)
        except errors.ProofInvalid:
            yield f"The checkpoint of {size} is not consistent with that of {last}."


def batch_of(name: str) -> str:
    return name[:-2]


def look_at_erasures(found: list[segments.Record], places: dict[tuple[str, str], list[int]]) -> Iterator[str]:
    """Each erasure is done, told once in each of its states, and took what was asked and nothing else."""
    told: Counter[tuple[str, str]] = Counter()
    for record in found:
        decision = (
            msgspec.json.decode(record.groups["actor"] or b"{}").get("decision") if record.groups.get("actor") else None
        )
        if decision and decision["type"] == "erasure":
            told[decision["subject"], decision["transition"]] += 1
    asked = erasures.listing()
    for each in asked:
        if each.state != "erased":
            yield f"Erasure {each.id} is {each.state}."
        for state in ("requested", "approved", "pending", "erased"):
            if told[each.subject, state] != 1:
                yield f"{told[each.subject, state]} records say that erasure {each.id} was {state}."
    gone = {each.reason for each in asked}
    for (name, _), where in places.items():
        taken = found[where[0]].groups.get("statement", b"") is None
        if name and taken != (batch_of(name) in gone):
            yield f"{name} is {'erased' if taken else 'still there'}."


def left_over() -> Iterator[str]:
    """Files that nothing names: a crash must not fill the disk, nor leave a key lying about."""
    data = Path(settings.DATA_DIR)
    with connection.cursor() as cursor:
        cursor.execute(
            "select folder from ledger_segment union select folder from ledger_extract "
            "union select folder from ledger_replaced where removed_at is null"
        )
        known = {row[0] for row in cursor.fetchall()}
    for place in (data / "segments", segments.extracts().root):
        strange = {path.name for path in place.iterdir()} - known
        yield from (f"The folder {place.name}/{name} belongs to nothing." for name in strange)
    drafts = [path.name for path in (data / "keys").iterdir() if path.suffix not in (".key", ".pub")]
    yield from (f"The draft {name} lies in keys/." for name in drafts)


def signed_notes() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("select note from ledger_checkpoint order by size")
        return [row[0] for row in cursor.fetchall()]


def signer_notes() -> Iterator[str]:
    """What the signer has signed and perhaps not published."""
    folder = Path(settings.DATA_DIR) / "signer"
    for path in sorted(folder.glob("*")) if folder.exists() else []:
        with contextlib.suppress(ValueError):
            note = json.loads(path.read_bytes()).get("note")
            if note:
                yield note
