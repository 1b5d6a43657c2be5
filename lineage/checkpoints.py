"""The signer: integrates new records, signs the log's size and root, and refuses anything but an append.

What it signed last is in its own file, durable before a checkpoint is published, and judged before anything is signed.
Everything after the ledger's commit is a pure function of committed leaves: a restart replays it to the same root.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from django.conf import settings
from django.db import connection, transaction

from lineage import alarms, durable, errors, keys, merkle, notes, segments, tree

FENCE_SECONDS = 20.0
KEY = "checkpoint"


class Signed(msgspec.Struct):
    """What the signer signed last: size, edge of the tree, and the note itself. Size 0: begun, nothing signed yet."""

    size: int
    edge: list[bytes]
    note: str


def checkpoint() -> int:
    """Signs the log as it stands, if it grew; returns the size that is signed.

    Call it as the keeper: in its turn, or beside it while that is long. Of several at once `fence` lets one sign after the other.
    Raises SignerRefused, with an alarm that people see, when what is stored is not an append to what was signed.
    """
    with fence():
        try:
            return _checkpoint()
        except errors.SignerRefused as error:
            alarms.sound(error.fields["alarm"], error.message)
            raise


def begin(*, over_records: bool = False) -> None:
    """Makes state and key of a new log. Nothing happens once something was signed.

    A log is new only if nothing of an older one is found: no record, no checkpoint, no leaf hash, no key. Records that
    nobody signed are allowed with `over_records`. Raises SignerRefused `signer-state-missing` otherwise.
    """
    with fence() as folder:
        last = state()
        if last is None:
            found = _left_of_a_log(over_records)
            if found:
                raise errors.SignerRefused(
                    f"The signer's own file {_state_path().name} is missing in {folder}, but there are {', '.join(found)}. "
                    "Restore the file as it was last; without it nothing is signed.",
                    alarm="signer-state-missing",
                )
            # Before the key: killed in between, the next start makes the key of a log that has begun and signed nothing.
            write_state(Signed(0, [], ""))
        if (last is None or not last.size) and not settings.CHECKPOINT_SIGNER:
            keys.make(KEY)


def _left_of_a_log(over_records: bool) -> list[str]:
    signs = {
        "records": tree.head() > 0 and not over_records,
        "checkpoints": tree.published()[0] > 0,
        "leaf hashes": tree.hashes().count() > 0,
        "a key": keys.was_made(KEY),
    }
    return [name for name, there in signs.items() if there]


@contextlib.contextmanager
def fence() -> Iterator[Path]:
    """Holds the signer's folder, which it gives: of all processes on this machine one signs.

    The database's lock ends with its connection, even in the middle of signing; this one ends with the process.
    Raises StoreUnavailable when another holds it for long, SettingsInvalid when others may enter the folder.
    """
    folder = _state_path().parent
    durable.folder(folder, 0o700)
    durable.check_private(folder)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _wait_for(handle)
        yield folder
    finally:
        os.close(handle)


def _wait_for(handle: int) -> None:
    until = time.monotonic() + FENCE_SECONDS
    while True:
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if time.monotonic() > until:
            raise errors.StoreUnavailable("Another process is signing. Try again in a moment.")
        time.sleep(0.05)


def state() -> Signed | None:
    """What was signed last; None when the file is missing. Raises SignerRefused when it is not what we wrote."""
    path = _state_path()
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Signed)
    except msgspec.DecodeError as error:
        raise errors.SignerRefused(
            f"The signer's own file {path} cannot be read. Restore it as it was last.", alarm="signer-state-missing"
        ) from error


def write_state(signed: Signed) -> None:
    durable.replace(_state_path(), msgspec.json.encode(signed))


def _state_path() -> Path:
    return Path(settings.DATA_DIR) / "signer" / "signed.json"


def _checkpoint() -> int:
    last, (published, note), size = state(), tree.published(), tree.head()
    if last is None:
        raise errors.SignerRefused(
            f"The signer's own file {_state_path()} is missing. Restore it as it was last; without it nothing is signed.",
            alarm="signer-state-missing",
        )
    _judge(last, published, note, size)
    if published < last.size:
        _same(published, last.size)
        _publish(last, published)
    if size == last.size:
        return size
    signed = _sign(last, size)
    write_state(signed)
    _publish(signed, last.size)
    return size


def _judge(last: Signed, published: int, note: str, size: int) -> None:
    """Refuses when database, data folder and the signer's own state are not of one log and one moment."""
    _own(last)
    if published > last.size:
        raise errors.SignerRefused(
            f"A checkpoint of {published} is published, this signer signed {last.size} last.",
            alarm="checkpoint-unknown",
        )
    if size < last.size:
        raise errors.SignerRefused(
            f"The log holds {size} records, {last.size} were signed: it was set back.", alarm="log-set-back"
        )
    if published and published == last.size and note != last.note:
        raise errors.SignerRefused(
            f"The published checkpoint of {published} is not the one that was signed.", alarm="checkpoint-unknown"
        )
    if tree.hashes().count() < last.size:
        raise errors.SignerRefused(
            f"The file of leaf hashes holds {tree.hashes().count()} of the {last.size} that were signed. "
            "Run `bin/manage fsck --repair-hashes`.",
            alarm="hashes-damaged",
        )


def _own(last: Signed) -> None:
    """Refuses a state that is not about this log or was not signed by a key of ours."""
    if not last.size:
        return
    try:
        stated = notes.Checkpoint(settings.ORIGIN, last.size, merkle.CompactRange(last.size, last.edge).root())
        fits = notes.parse_checkpoint(notes.verify(last.note, keys.vkeys(KEY)).text) == stated
    except (errors.NoteInvalid, errors.ProofInvalid):
        fits = False
    if not fits:
        raise errors.SignerRefused(
            "The signer's own file is not of this log: its checkpoint has another name, size, root or key.",
            alarm="checkpoint-unknown",
        )


def _same(first: int, following: int) -> None:
    """Refuses to publish what was signed when the log now holds other records there: an older copy that grew again."""
    for start in range(first, following, tree.CHUNK):
        end = min(following, start + tree.CHUNK)
        if leaf_hashes(start, end) != tree.hashes().read(start, end):
            raise errors.SignerRefused(
                f"The records from {start} on are not those that were signed.", alarm="log-rewritten"
            )


def _sign(last: Signed, size: int) -> Signed:
    """Integrates up to `size` and signs, after a second reading of records and hashes led to the same root."""
    made = merkle.CompactRange(last.size, last.edge)
    tree.hashes().write_from(last.size, integrated(made, last.size, size))
    stored = merkle.CompactRange(last.size, last.edge)
    for start in range(last.size, size, tree.CHUNK):
        end = min(size, start + tree.CHUNK)
        again = tree.hashes().read(start, end)
        stored.extend(again)
        if again != leaf_hashes(start, end):
            _differ(made, stored, end, size)
    keys.retire(KEY, last.size)
    text = notes.make_checkpoint(settings.ORIGIN, size, stored.root())
    return Signed(size, stored.hashes, keys.sign(KEY, text))


def integrated(made: merkle.CompactRange, first: int, following: int) -> Iterator[list[bytes]]:
    """Leaf hashes of a range in parts, each added to `made`. Raises SignerRefused when a record is missing."""
    for start in range(first, following, tree.CHUNK):
        part = leaf_hashes(start, min(following, start + tree.CHUNK))
        made.extend(part)
        yield part


def _differ(made: merkle.CompactRange, stored: merkle.CompactRange, start: int, size: int) -> None:
    """Refuses: the file gave back other hashes than were written, or the records changed between two readings."""
    for at in range(start, size, tree.CHUNK):
        stored.extend(tree.hashes().read(at, min(size, at + tree.CHUNK)))
    if stored.size != made.size or stored.root() != made.root():
        raise errors.SignerRefused(
            "The file of leaf hashes gave back other hashes than were written. Nothing was signed; check the disk.",
            alarm="hashes-damaged",
        )
    raise errors.SignerRefused(
        "Records changed while they were being signed. Nothing was signed.", alarm="log-rewritten"
    )


def leaf_hashes(first: int, following: int) -> list[bytes]:
    """Hashes of the stored leaves of a range. Raises SignerRefused when one is missing."""
    found = list(segments.leaves(first, following))
    if [index for index, _ in found] != list(range(first, following)):
        present = {index for index, _ in found}
        missing = next((n for n in range(first, following) if n not in present), first)
        raise errors.SignerRefused(f"Record {missing} is missing from the log.", alarm="record-missing")
    return merkle.leaf_hashes(leaf for _, leaf in found)


def _publish(signed: Signed, before: int) -> None:
    """Stores the upper hashes and the checkpoint, once both lead to what was signed."""
    root = merkle.CompactRange(signed.size, signed.edge).root()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(
            "insert into ledger_tile (level, tile, hash) values (%s, %s, %s) on conflict do nothing",
            list(tree.tiles(before, signed.size)),
        )
        if tree.edge(signed.size) != signed.edge:
            raise errors.SignerRefused(
                "The stored leaf hashes do not lead to the root that was signed. Run `bin/manage fsck`.",
                alarm="hashes-damaged",
            )
        cursor.execute(
            "insert into ledger_checkpoint (size, root, note) values (%s, %s, %s) on conflict do nothing",
            [signed.size, root, signed.note],
        )
        cursor.execute("select note from ledger_checkpoint where size = %s", [signed.size])
        if cursor.fetchone() != (signed.note,):
            raise errors.SignerRefused(
                f"Another checkpoint of {signed.size} is published already.", alarm="checkpoint-unknown"
            )
