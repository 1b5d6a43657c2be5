"""The signer: integrates new records, signs the log's size and root, and refuses anything but an append.

The signer keeps its last signed size and root in its own file, durable before a checkpoint is published. Everything
after the ledger's commit is a pure function of committed leaves: a restart replays it and must get the same root.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from django.conf import settings
from django.db import connection, transaction

from lineage import alarms, errors, keys, merkle, notes, tree


class Signed(msgspec.Struct):
    """What the signer signed last: size, edge of the tree, and the note itself."""

    size: int
    edge: list[bytes]
    note: str


def _state_path() -> Path:
    return Path(settings.DATA_DIR) / "signer" / "signed.json"


def _read_state() -> Signed | None:
    path = _state_path()
    return msgspec.json.decode(path.read_bytes(), type=Signed) if path.exists() else None


def _write_state(state: Signed) -> None:
    path = _state_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_suffix(".new")
    with draft.open("wb") as file:
        file.write(msgspec.json.encode(state))
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def checkpoint() -> int:
    """Signs the log as it stands, if it grew; returns the size that is signed. Call under the keeper's lock.

    Raises SignerRefused, with an alarm that people see, when what is stored is not an append to what was signed.
    """
    try:
        return _checkpoint()
    except errors.SignerRefused as error:
        alarms.sound(error.code, error.message)
        raise


def _checkpoint() -> int:
    state, (published, note), size = _read_state(), tree.published(), tree.head()
    if state is None:
        if published:
            raise errors.SignerRefused("The signer's own file is missing although checkpoints exist.")
        state = Signed(0, [], "")
    if published > state.size:
        raise errors.SignerRefused(f"A checkpoint of {published} is published, the signer signed only {state.size}.")
    if size < state.size:
        raise errors.SignerRefused(f"The log holds {size} records, {state.size} were signed: it was set back.")
    if published == state.size and published and note != state.note:
        raise errors.SignerRefused(f"The published checkpoint of {published} is not the one that was signed.")
    if published < state.size:
        _same(published, state.size)
        _publish(state, published)
    if size == state.size:
        return size
    signed = _sign(state, size)
    _write_state(signed)
    _publish(signed, state.size)
    return size


def _same(first: int, following: int) -> None:
    """Refuses to publish what was signed when the log now holds other records there: an older copy that grew again."""
    for start in range(first, following, tree.CHUNK):
        end = min(following, start + tree.CHUNK)
        if tree.leaf_hashes(start, end) != tree.hashes().read(start, end):
            raise errors.SignerRefused(f"The records from {start} on are not those that were signed.")


def _sign(state: Signed, size: int) -> Signed:
    """Integrates up to `size` and signs, after a second reading of the new leaves led to the same root."""
    file = tree.hashes()
    file.cut(state.size)
    for start in range(state.size, size, tree.CHUNK):
        file.append(tree.leaf_hashes(start, min(size, start + tree.CHUNK)))
    first, second = (merkle.CompactRange(state.size, state.edge) for _ in range(2))
    for start in range(state.size, size, tree.CHUNK):
        following = min(size, start + tree.CHUNK)
        first.extend(file.read(start, following))
        second.extend(tree.leaf_hashes(start, following))
    if first.root() != second.root():
        raise errors.SignerRefused("Two readings of the new records lead to different roots.")
    text = notes.make_checkpoint(settings.ORIGIN, size, first.root())
    return Signed(size, first.hashes, notes.sign(text, keys.load("checkpoint")).decode())


def _publish(signed: Signed, before: int) -> None:
    parsed = notes.parse_checkpoint(notes.verify(signed.note, [keys.vkey("checkpoint")]).text)
    with transaction.atomic(), connection.cursor() as cursor:
        for level, tile, value in tree.tiles(before, signed.size):
            cursor.execute(
                "insert into ledger_tile (level, tile, hash) values (%s, %s, %s) on conflict do nothing",
                [level, tile, value],
            )
        cursor.execute(
            "insert into ledger_checkpoint (size, root, note) values (%s, %s, %s) on conflict do nothing",
            [signed.size, parsed.root, signed.note],
        )
