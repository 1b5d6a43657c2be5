"""Witnesses: each is shown the newest checkpoint, and what it cosigns is kept (C2SP tlog-witness; docs/witness.md).

Shown in a round of the keeper that runs apart, so that signing waits for none of them. A witness that holds another
history than ours is an alarm.
"""

from __future__ import annotations

import base64
import datetime as dt
import logging
import time
from pathlib import Path
from typing import NamedTuple

from django.conf import settings
from django.db import connection

from lineage import alarms, errors, merkle, notes, outside, posting, tree
from lineage.events import format_time
from lineage.notes.keys import COSIGNATURE, unbase64

TIMEOUT_SECONDS = 5.0
ANSWER_MOST = 64 * 1024
FIRST_WAIT_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 900.0
REFUSED, LATE = "witness-refused", "witness-late"
log = logging.getLogger("touchstone.witnesses")


class Witness(NamedTuple):
    """A witness of the policy. Without a `url` it fetches our checkpoints and brings its cosignatures itself."""

    name: str
    key: notes.VerifierKey
    url: str


class Checkpoint(NamedTuple):
    """A published checkpoint of ours: its size and its note as signed."""

    size: int
    note: str


class Showing:
    """The keeper's round: shows each witness the newest checkpoint, waits longer after each failure, judges lateness."""

    def __init__(self) -> None:
        self.failures: dict[str, int] = {}
        self.not_before: dict[str, float] = {}

    def __call__(self) -> None:
        for witness in configured():
            if witness.url and time.monotonic() >= self.not_before.get(witness.name, 0):
                self._try(witness)
        judge_lateness()

    def _try(self, witness: Witness) -> None:
        reason = show(witness)
        if reason is None:
            self.failures.pop(witness.name, None)
            return
        failed = self.failures[witness.name] = self.failures.get(witness.name, 0) + 1
        wait = min(FIRST_WAIT_SECONDS * 2 ** min(failed - 1, 10), LONGEST_WAIT_SECONDS)
        self.not_before[witness.name] = time.monotonic() + wait
        log.warning("no cosignature of %s: %s Shown again in %.0f s.", witness.name, reason, wait)


def policy() -> notes.Policy | None:
    """The policy file that TOUCHSTONE_WITNESS_POLICY names; None without one. SettingsInvalid: it cannot be used."""
    if not settings.WITNESS_POLICY:
        return None
    try:
        return notes.parse_policy(Path(settings.WITNESS_POLICY).read_text())
    except (OSError, UnicodeDecodeError, errors.NoteInvalid) as error:
        reason = error.message if isinstance(error, errors.NoteInvalid) else str(error)
        raise errors.SettingsInvalid(f"TOUCHSTONE_WITNESS_POLICY: {reason}") from error


def configured() -> list[Witness]:
    """The witnesses of the policy whose keys can cosign. SettingsInvalid: the policy or an address cannot be used."""
    found = policy()
    if found is None:
        return []
    for name, url in found.urls.items():
        if not url.startswith(("http://", "https://")):
            raise errors.SettingsInvalid(f"TOUCHSTONE_WITNESS_POLICY: the address of {name} is not http or https.")
    known = found.witnesses.items()
    return [Witness(name, key, found.urls.get(name, "")) for name, key in known if key.algorithm == COSIGNATURE]


def policy_lines() -> str:
    """The lines of the policy that an auditor's own needs: witnesses, groups, quorum. Empty without a policy."""
    if policy() is None:
        return ""
    lines = Path(settings.WITNESS_POLICY).read_text().splitlines()
    return "".join(f"{line.strip()}\n" for line in lines if line.split()[:1] in (["witness"], ["group"], ["quorum"]))


def show_all() -> dict[str, str]:
    """Shows the newest checkpoint to every witness with an address, now; why those did not cosign that did not."""
    reasons = {witness.name: show(witness) for witness in configured() if witness.url}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def show(witness: Witness) -> str | None:
    """Has the newest checkpoint cosigned, and keeps the cosignature. None: it is kept; else why there is none.

    Sounds the alarm `witness-refused` when the witness holds what our log does not continue.
    """
    newest = Checkpoint(*tree.published())
    known = _cosigned(witness)
    if newest.size <= known:
        return None
    old = known
    # A witness that knows another size than we thought says so (409) and is shown a proof from there, once.
    for _ in range(2):
        try:
            body = _submission(witness, old, newest)
            url = witness.url.rstrip("/") + "/add-checkpoint"
            answer = posting.post(url, body, "text/plain; charset=utf-8", TIMEOUT_SECONDS, ANSWER_MOST)
        except (errors.StoreUnavailable, errors.SignerRefused, errors.LedgerBroken, errors.ProofInvalid) as error:
            return error.message
        if answer.status == 200:
            return _keep(witness, newest, answer.body)
        theirs = _size(answer) if answer.status == 409 else None
        if theirs is None or theirs == old:
            return _refused(witness, old, newest, answer)
        if theirs < known or theirs > newest.size:
            return _other_size(witness, theirs, known)
        old = theirs
    return "It answered with another size each time."


def bring(size: int, lines: str) -> str:
    """Keeps the cosignature that an auditor brings; returns the witness's name.

    Raises NotFound when no checkpoint of that size is signed, AccessDenied when no witness of the policy made the line.
    """
    note = outside.signed_note(size)
    for witness in configured():
        line = _line_of(witness, note, lines)
        if line:
            _store(size, witness, line)
            return witness.name
    raise errors.AccessDenied("This is no cosignature of a witness of TOUCHSTONE_WITNESS_POLICY over that checkpoint.")


def judge_lateness() -> None:
    """Raises the alarm when a checkpoint waits too long for any cosignature; clears it when none does.

    Where every witness fetches for itself, nobody is late: they come when they come.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "select at from ledger_checkpoint where size > (select coalesce(max(size), 0) from ledger_cosignature) "
            "order by size limit 1"
        )
        row = cursor.fetchone()
    late = dt.timedelta(seconds=settings.WITNESS_LATE_SECONDS)
    if row is None or dt.datetime.now(dt.UTC) - row[0] <= late or not any(each.url for each in configured()):
        alarms.clear(LATE)
        return
    alarms.sound(
        LATE,
        f"No witness has cosigned a checkpoint since that of {format_time(row[0])[:16]}Z was signed. "
        "Run `bin/manage checkpoint --show` to see what they answer.",
    )


def _submission(witness: Witness, old: int, newest: Checkpoint) -> bytes:
    """The request that shows `newest` to a witness that holds size `old`.

    Raises SignerRefused, with an alarm, when our history has no such checkpoint; LedgerBroken or ProofInvalid when our
    own stored hashes do not prove it: damage here must not look like a fork there.
    """
    if not old:
        return f"old 0\n\n{newest.note}".encode()
    root = _root(old)
    if root is None:
        message = (
            f"The witness {witness.name} holds a checkpoint of {old} records that this log never signed: a second "
            "history exists, or the log was set back and went on. Compare with what the witness keeps."
        )
        alarms.sound(REFUSED, message, witness.name)
        raise errors.SignerRefused(message)
    proof: list[str] = [] if old == newest.size else tree.consistency(old, newest.size)["proof"]
    new_root = notes.parse_checkpoint(notes.read_note(newest.note.encode()).text).root
    merkle.verify_consistency(old, root, newest.size, new_root, [unbase64(each) for each in proof])
    return "\n".join([f"old {old}", *proof, "", newest.note]).encode()


def _refused(witness: Witness, old: int, newest: Checkpoint, answer: posting.Reply) -> str:
    said = ascii(answer.body[:200].decode("utf-8", "replace").strip())
    # The proof was right for our root at `old`, so another root is kept there.
    if answer.status == 422 or (answer.status == 409 and old == newest.size):
        alarms.sound(
            REFUSED,
            f"The witness {witness.name} holds another root at {old} records than this log: two histories exist. "
            "Keep everything as it is, and compare with the checkpoint that the witness keeps.",
            witness.name,
        )
    return f"It answered {answer.status} {said}."


def _other_size(witness: Witness, theirs: int, known: int) -> str | None:
    """What it means that a witness holds a size beyond our newest checkpoint, or below one that it cosigned."""
    if known < theirs <= max(tree.published()[0], _cosigned(witness)):
        # Shown by another process meanwhile.
        return None
    why = (
        f"although it cosigned {known}: its memory was set back, and it might cosign a second history"
        if theirs < known
        else "and this log has fewer: it was set back, or a second history exists"
    )
    alarms.sound(REFUSED, f"The witness {witness.name} holds a checkpoint of {theirs} records, {why}.", witness.name)
    return f"It holds a checkpoint of {theirs} records, {why}."


def _keep(witness: Witness, newest: Checkpoint, body: bytes) -> str | None:
    line = _line_of(witness, newest.note, body.decode("utf-8", "replace"))
    if line is None:
        return "It answered 200, but no line of the answer is its cosignature over our checkpoint."
    _store(newest.size, witness, line)
    return None


def _line_of(witness: Witness, note: str, lines: str) -> str | None:
    """The one line that is the witness's cosignature over this note; others are ignored, as C2SP says."""
    for line in lines.split("\n")[:100]:
        try:
            if notes.verify(f"{note}{line}\n", [witness.key]).verified:
                return f"{line}\n"
        except errors.NoteInvalid:
            continue
    return None


def _store(size: int, witness: Witness, line: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("select ledger_cosign(%s, %s, %s)", [size, witness.name, line])


def _cosigned(witness: Witness) -> int:
    """The size of the newest checkpoint that this witness's present key cosigned; 0 before the first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select size, line from ledger_cosignature where witness = %s order by size desc limit 1", [witness.name]
        )
        row = cursor.fetchone()
    if row is None:
        return 0
    key_id = base64.b64decode(row[1].split(" ")[2])[:4]
    return int(row[0]) if key_id == witness.key.key_id else 0


def _root(size: int) -> bytes | None:
    with connection.cursor() as cursor:
        cursor.execute("select root from ledger_checkpoint where size = %s", [size])
        row = cursor.fetchone()
    return bytes(row[0]) if row else None


def _size(answer: posting.Reply) -> int | None:
    text = answer.body.removesuffix(b"\n")
    return int(text) if text.isdigit() and len(text) < 19 else None
