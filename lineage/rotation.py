"""A new key in the place of one in use: both count for a while, and the change is a record in the log."""

from __future__ import annotations

import datetime as dt

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.conf import settings

from lineage import checkpoints, durable, errors, keeper, keys, ledger, notes, tree
from lineage.events import Custody, Event


def rotate(name: str, *, overlap: dt.timedelta, who: str, public_pem: bytes | None = None) -> keys.Public:
    """Takes a new key into use and returns it. A checkpoint key that is replaced signs too until the overlap ends.

    With `public_pem` the new checkpoint key lies where TOUCHSTONE_CHECKPOINT_SIGNER says, and this is its public half.
    Killed in between, the old key stays in use and the rotation can be done again. Raises SettingsInvalid when a key
    that should sign cannot be used, StoreUnavailable when the log cannot take the record.
    """
    with keeper.lock(), checkpoints.fence():
        before = keys.publics(name) if keys.was_made(name) else []
        new = keys.Public(_given(public_pem) if public_pem else _made(name))
        every = [new, *(_ending(name, each, overlap) for each in before)]
        if name == checkpoints.KEY:
            keys.signers(name, [each for each in every if each.in_force])
        _record(name, every, who)
        keys.write_publics(name, every)
        if name != checkpoints.KEY:
            for each in before:
                keys.destroy(name, each)
    return new


def _ending(name: str, each: keys.Public, overlap: dt.timedelta) -> keys.Public:
    """The key with the time when it ends: at once when nobody has its private half any more."""
    gone = name == checkpoints.KEY and keys.held(name, each) is None and not settings.CHECKPOINT_SIGNER
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    return each if each.until else each._replace(until=now if gone else now + overlap)


def _made(name: str) -> str:
    secret = notes.generate_key(keys.key_name(name))
    vkey = notes.vkey_of(secret)
    file = keys.path(name, notes.parse_vkey(vkey).key_id.hex())
    durable.folder(file.parent, 0o700)
    durable.create(file, secret.encode())
    return vkey


def _given(pem: bytes) -> str:
    try:
        key = load_pem_public_key(pem)
    except ValueError as error:
        raise errors.SettingsInvalid("The file holds no public key in PEM form.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise errors.SettingsInvalid("A log's key is an Ed25519 key; this is another kind.")
    return notes.make_vkey(keys.key_name(checkpoints.KEY), key.public_bytes_raw())


def _record(name: str, every: list[keys.Public], who: str) -> None:
    told = "; ".join(f"{each.vkey} until {each.until:%Y-%m-%dT%H:%M:%SZ}" for each in every[1:] if each.in_force)
    ledger.record(
        Event(
            kind="custody",
            custody=Custody(
                type="key_rotation",
                subject=name,
                detail=f"ordered by {who}: {every[0].vkey} from now on; {told or 'no other key'}",
                count=tree.head(),
            ),
        )
    )
