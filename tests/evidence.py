"""A small log in memory and packs of it, for the tests of the pack and of the verifier."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from lineage import commitment, events, merkle, notes, packfile
from lineage.events import Event

ORIGIN = "log.example/orders"
LOG_KEY = notes.generate_key(ORIGIN)
RECEIPT_KEY = notes.generate_key("log.example/orders/receipt")
REPORT_KEY = notes.generate_key("log.example/orders/report")
WITNESS_KEY = notes.generate_key("witness.example", 4)
STRANGER_KEY = notes.generate_key(ORIGIN)
POLICY_TEXT = notes.make_policy(*map(notes.vkey_of, (LOG_KEY, RECEIPT_KEY, REPORT_KEY)), certificate_sha256="ab" * 32)
POLICY = notes.parse_policy(POLICY_TEXT)
CREATED_AT = "2026-11-21T04:00:00.000000Z"


def event(index: int) -> Event:
    """Every third record is a change by bob; the last but one is an erasure, the last counts the first ten."""
    common: dict[str, Any] = {
        "event_id": f"event-{index}",
        "source_id": "orders-log",
        "sequence": index,
        "occurred_at": f"2026-11-21T01:{index:02d}:00.000000Z",
        "received_at": f"2026-11-21T01:{index:02d}:01.000000Z",
        "purpose": "support" if index % 2 else None,
    }
    if index == SIZE - 2:
        took = (
            events.Erased(first=1, last=2, groups=("actor", "change")),
            events.Erased(first=7, last=7, groups=("actor",)),
        )
        decision = events.Decision(type="erasure", transition="erased", erased=took)
        return Event(kind="decision", class_="decision", decision=decision, **{**common, "source_id": "touchstone"})
    if index == SIZE - 1:
        counted = [events.HeaderCount(source_id="orders-log", class_=each, count=n) for each, n in COUNTED.items()]
        custody = events.Custody(type="count_commitment", first="0", last="9", count=10, counts=tuple(counted))
        return Event(kind="custody", class_="custody", custody=custody, **{**common, "source_id": "touchstone"})
    if index % 3 == 0:
        row = (events.Value(column="amount", value=str(index)),)
        return Event(kind="change", class_="write", actor=events.Actor(id="bob"), op="update", after=row, **common)
    text = events.bounded_statement(f"select * from customers where id = {index}")
    return Event(kind="query", class_="read", actor=events.Actor(id="ann"), op="read", statement=text, **common)


SIZE = 21
COUNTED: dict[events.Class, int] = {"read": 6, "write": 4}
SALTS = [
    {group: hashlib.sha256(f"{index}{group}".encode()).digest()[:16] for group in events.GROUPS}
    for index in range(SIZE)
]
COMMITTED = [commitment.commit(event(index), SALTS[index]) for index in range(SIZE)]
HASHES = [merkle.leaf_hash(leaf) for leaf, _ in COMMITTED]


def checkpoint(size: int = SIZE, key: str = LOG_KEY, origin: str = ORIGIN) -> bytes:
    return notes.sign(notes.make_checkpoint(origin, size, merkle.root(HASHES[:size])), key)


def disclosed(index: int) -> dict[events.Group, packfile.Disclosure]:
    data = COMMITTED[index][1]
    return {group: packfile.Disclosure("disclosed", SALTS[index][group], value) for group, value in data.items()}


def ranged(first: int = 4, last: int = 15, **changes: Any) -> packfile.PackContent:
    """All leaves of a range of which the changes are selected, by a filter over headers alone."""
    selected = tuple(index for index in range(first, last + 1) if index % 3 == 0)
    content = packfile.PackContent(
        made_by="touchstone 0.1.0",
        created_at=CREATED_AT,
        query="kind:change",
        selection="range",
        leaves={index: COMMITTED[index][0] for index in range(first, last + 1)},
        selected=selected,
        disclosures={index: disclosed(index) for index in selected},
        proofs=(tuple(merkle.range_proof(HASHES, first, last + 1, SIZE)),),
        checkpoint=checkpoint(),
        headers=packfile.Headers(kind=("change",)),
        hidden=False,
    )
    return dataclasses.replace(content, **changes)


def cited(index: int, *groups: events.Group) -> packfile.Cited:
    """A record cited with these groups disclosed and the others withheld."""
    shown = {g: d if g in groups else packfile.Disclosure("withheld") for g, d in disclosed(index).items()}
    return packfile.Cited(COMMITTED[index][0], tuple(merkle.inclusion_proof(HASHES, index)), shown)


def anchor(size: int, *responses: bytes, note: bytes | None = None) -> packfile.Anchor:
    """An older checkpoint, with the proof that the newest continues it."""
    return packfile.Anchor(note or checkpoint(size), tuple(merkle.consistency_proof(HASHES, size)), responses)


def sparse(*indexes: int, **changes: Any) -> packfile.PackContent:
    """Single records with their own proofs."""
    content = packfile.PackContent(
        made_by="touchstone 0.1.0",
        created_at=CREATED_AT,
        query="actor:ann",
        selection="sparse",
        leaves={index: COMMITTED[index][0] for index in indexes},
        selected=indexes,
        disclosures={index: disclosed(index) for index in indexes},
        proofs=tuple(tuple(merkle.inclusion_proof(HASHES, index)) for index in indexes),
        checkpoint=checkpoint(),
    )
    return dataclasses.replace(content, **changes)


def receipt(*promises: tuple[int, bytes], accepted_at: str = CREATED_AT, key: str = RECEIPT_KEY) -> bytes:
    given = tuple(notes.Promise(index, leaf_hash, b"key-of-a-record!") for index, leaf_hash in promises)
    return notes.sign_receipt(notes.Receipt(ORIGIN, accepted_at, given), key)
