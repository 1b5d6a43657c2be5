"""The steps of one round on a store, from a batch to sealed, merged, renewed, extracted or erased files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from django.db import DatabaseError, connection

from lineage import (
    checkpoints,
    erasures,
    errors,
    facts,
    ingest,
    keeper,
    locks,
    merging,
    projections,
    renewing,
    segments,
)
from lineage.access import Viewer, viewer_of
from lineage.keyfiles import leaving
from lineage.models import Source, User
from tests import extracts, merges
from tests.crash.looking import batch_of

AT = "2026-11-20T09:30:00.000000Z"
Told = Callable[[list[list[Any]]], None]
Steps = dict[str, Callable[[], None]]


def become(role: str) -> None:
    """Each part of the product connects as its own database role."""
    if connection.settings_dict["USER"] != f"touchstone_{role}":
        connection.close()
        connection.settings_dict["USER"] = f"touchstone_{role}"


def batch(name: str) -> bytes:
    """Three new leaves (one of them a second content for a key), one item again, one that cannot be read."""
    items: list[Any] = [
        item(f"{name}-a"), item(f"{name}-b"), item(f"{name}-b", "other"), item(f"{name}-a"), {"kind": "nonsense"},
    ]  # fmt: skip
    return msgspec.json.encode(items)


def item(name: str, purpose: str = "first", **more: Any) -> dict[str, Any]:
    whole = {
        "kind": "query", "op": "read", "source_event_id": name, "occurred_at": AT, "purpose": purpose,
        "actor": {"db_user": "orders_api", "type": "service"},
        "statement": {"text": f"select id from orders where name = '{secret(batch_of(name))}'", "state": "whole"},
        "resources": [{"schema": "public", "relation": "orders", "access": "read"}],
    } | more  # fmt: skip
    return {name: value for name, value in whole.items() if value is not None}


def append(name: str) -> list[list[Any]]:
    """Sends the batch; what was acknowledged: [name, purpose, index] for each item that has a leaf."""
    become("web")
    try:
        source = Source.objects.get(name="shop")
    except DatabaseError as error:
        # As the API does where it looks up the token.
        raise errors.StoreUnavailable from error
    accepted = ingest.accept(source, batch(name))
    sent = [(f"{name}-a", "first"), (f"{name}-b", "first"), (f"{name}-b", "other"), (f"{name}-a", "first")]
    assert accepted.items[4].status == "quarantined", accepted.items[4]
    return [[*one, got.index] for one, got in zip(sent, accepted.items[:4], strict=True)]


def begin() -> None:
    """As each start does (`setup`): state and key of a new log."""
    become("owner")
    checkpoints.begin()


def sign() -> None:
    become("store")
    keeper.once()


def seal() -> None:
    become("store")
    with keeper.lock():
        segments.seal()


def merge() -> None:
    become("store")
    with merges.eager():
        merging.merge()


def renew() -> None:
    """Another version of the program derives again what this one derived, here of what was sealed since the last time."""
    become("store")
    before = projections.VERSION, facts.VERSION
    projections.VERSION = facts.VERSION = "another"
    try:
        with locks.alone(locks.MERGE):
            renewing.renew()
    finally:
        projections.VERSION, facts.VERSION = before


def come_back() -> None:
    """This version again, which compares with its own only."""
    become("store")
    with locks.alone(locks.MERGE):
        while renewing.renew():
            pass


def extract() -> None:
    """Everything sealed, and one extract of all of it."""
    become("store")
    extracts.everything()
    extracts.merged()


def leave() -> None:
    """The keys of what is sealed leave the database."""
    become("store")
    leaving.leave()


def ask(name: str) -> None:
    """One person asks for the erasure of the names in a batch, unless the list shows that it was asked."""
    become("web")
    if not any(each.reason == name for each in erasures.listing()):
        erasures.request(person("carla"), f'"{secret(name)}"', ["actor", "statement"], reason=name, ground="article 17")


def approve() -> None:
    """Another person approves what the list shows as waiting."""
    become("web")
    for each in erasures.listing("requested"):
        erasures.approve(person("claus"), each.id)


def erase() -> None:
    become("store")
    with keeper.lock():
        erasures.run_due()


def secret(name: str) -> str:
    return f"{name}-secret"


def person(name: str) -> Viewer:
    return viewer_of(User.objects.get(email=f"{name}@compliance.example"))


def sealing(name: str, told: Told) -> Steps:
    """From a batch to sealed files: the steps of one round, in order."""
    return {"begin": begin, "append": lambda: told(append(name)), "sign": sign, "seal": seal, "leave": leave}


def merging_too(name: str, told: Told) -> Steps:
    """From a batch to sealed files, and one segment of all of them."""
    return {**sealing(name, told), "merge": merge}


def renewing_too(name: str, told: Told) -> Steps:
    """From a batch to sealed files that another version derived again."""
    return {**sealing(name, told), "renew": renew}


def extracting(name: str, told: Told) -> Steps:
    """From a batch to sealed files, and one extract of all of them."""
    return {**sealing(name, told), "extract": extract}


def erasing(name: str, told: Told) -> Steps:
    """From a batch to its erasure from merged files."""
    return {
        "append": lambda: told(append(name)),
        "ask": lambda: ask(name),
        "approve": approve,
        "sign": sign,
        "seal": seal,
        "leave": leave,
        "merge": merge,
        "erase": erase,
    }


CHAINS = {
    "sealing": sealing, "merging": merging_too, "extracting": extracting, "renewing": renewing_too, "erasing": erasing,
}  # fmt: skip
