"""Checkpoints given away: written into a folder that keeps what is written, and mailed to somebody outside."""

from __future__ import annotations

import datetime as dt
import os
import re
import smtplib
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.core.mail import EmailMessage

from lineage import alarms, errors, notes, outside, tree

UNKNOWN = "checkpoint-unknown"
_NAME = re.compile(r"checkpoint-([1-9][0-9]{0,18})\.txt")
_MAIL = """This is the newest checkpoint of the log {origin}, over {size:,} records. It is also attached, byte for byte.

Keep it where the operator of the log cannot change it. Any evidence handed out later must continue it: give it to
the pack command as the earlier checkpoint, and the verifier tells. Two checkpoints that contradict each other show
that two histories exist.

{note}"""


def drop() -> list[str]:
    """Gives the newest checkpoint away now; where to, in words. Raises SettingsInvalid: nowhere to, or it cannot be done."""
    done = [give(tree.published()[0]) for give in _ways().values()]
    if not done:
        raise errors.SettingsInvalid("Nowhere to drop to. Set TOUCHSTONE_DROP_FOLDER or TOUCHSTONE_DROP_MAIL.")
    return done


def drop_when_due() -> None:
    """The keeper's round: each way for itself, when its time has come and the log grew."""
    faults = []
    for way, give in _ways().items():
        kind, _, holder = way.partition(" ")
        last = outside.last_handed(kind, holder)
        size = tree.published()[0]
        wait = dt.timedelta(seconds=settings.DROP_SECONDS)
        if not size or (last and (last.size >= size or dt.datetime.now(dt.UTC) - last.at < wait)):
            continue
        try:
            give(size)
        except errors.TouchstoneError as error:
            faults.append(error.message)
    if faults:
        raise errors.SettingsInvalid(" ".join(faults))


def to_folder(size: int) -> str:
    """Writes `checkpoint-<size>.txt` durably. What is there is never written again.

    Raises SettingsInvalid when the folder cannot be written to, SignerRefused, with an alarm, when it holds a
    checkpoint that the log does not know.
    """
    folder = Path(settings.DROP_FOLDER)
    try:
        _compare(folder)
        file = folder / f"checkpoint-{size}.txt"
        _write_new(file, outside.note_with_cosignatures(size).encode())
    except OSError as error:
        raise errors.SettingsInvalid(f"TOUCHSTONE_DROP_FOLDER: {error}") from error
    outside.hand(size, "folder")
    return f"{file}: {size} records"


def to_mailbox(size: int) -> str:
    """Mails the checkpoint. Raises SettingsInvalid when the mail is not taken."""
    note = outside.note_with_cosignatures(size)
    text = _MAIL.format(origin=settings.ORIGIN, size=size, note=note)
    message = EmailMessage(f"Checkpoint of {settings.ORIGIN}: {size:,} records", text, to=[settings.DROP_MAIL])
    # Not as text, whose line ends and encoding a mail program may change.
    message.attach(f"checkpoint-{size}.txt", note.encode(), "application/octet-stream")
    try:
        message.send()
    except (OSError, smtplib.SMTPException) as error:
        raise errors.SettingsInvalid(f"The checkpoint could not be mailed to {settings.DROP_MAIL}: {error}") from error
    outside.hand(size, "mail", settings.DROP_MAIL)
    return f"{settings.DROP_MAIL}: {size} records"


def _ways() -> dict[str, Callable[[int], str]]:
    ways: dict[str, Callable[[int], str]] = {}
    if settings.DROP_FOLDER:
        ways["folder"] = to_folder
    if settings.DROP_MAIL:
        ways[f"mail {settings.DROP_MAIL}"] = to_mailbox
    return ways


def _write_new(file: Path, data: bytes) -> None:
    """In its place at once: a folder that only ever takes new files lets none be renamed or removed."""
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return
    with os.fdopen(handle, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _compare(folder: Path) -> None:
    """Refuses when the newest checkpoint in the folder is not one of ours: we were set back, or the log was rewritten."""
    sizes = [int(match[1]) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    if not sizes:
        return
    size = max(sizes)
    dropped = (folder / f"checkpoint-{size}.txt").read_bytes()
    try:
        ours = outside.signed_note(size)
        if ours.encode().startswith(dropped):
            # Cut off by a crash, or without cosignatures.
            return
        if notes.read_note(dropped).text == notes.read_note(ours.encode()).text:
            return
    except (errors.NotFound, errors.NoteInvalid):
        pass
    message = f"The drop folder holds a checkpoint of {size} records that this log does not know. Compare the two."
    alarms.sound(UNKNOWN, message, "drop folder")
    raise errors.SignerRefused(message)
