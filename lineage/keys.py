"""Our keys on disk: a private file each below the data folder, and beside it a public one that lists every key ever used.

Only the keeper opens the checkpoint key, only the web the receipt key, only the worker the report key; everyone else
reads public files. The checkpoint key may also lie elsewhere (`TOUCHSTONE_CHECKPOINT_SIGNER`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from django.conf import settings

from lineage import durable, elsewhere, errors, notes

NAMES = ("checkpoint", "receipt", "report")


class Public(NamedTuple):
    """A public key as a C2SP vkey line. `until`: when a replaced one stops counting; `size`: what it signed last."""

    vkey: str
    until: dt.datetime | None = None
    size: int | None = None

    @property
    def key_id(self) -> str:
        return notes.parse_vkey(self.vkey).key_id.hex()

    @property
    def in_force(self) -> bool:
        return self.until is None or self.until > dt.datetime.now(dt.UTC)


def path(name: str) -> Path:
    """The private file (C2SP skey text) of the key that is used now."""
    return Path(settings.DATA_DIR) / "keys" / f"{name}.key"


def replaced_path(name: str, key_id: str) -> Path:
    """The private file of an earlier key that goes on signing for a while."""
    return path(name).with_name(f"{name}.{key_id}.key")


def public_path(name: str) -> Path:
    return path(name).with_suffix(".pub")


def was_made(name: str) -> bool:
    return path(name).exists() or public_path(name).exists()


def key_name(name: str) -> str:
    """C2SP names a log's key by its origin; "+" cannot stand in a key's name."""
    return str(settings.ORIGIN) if name == "checkpoint" else f"{settings.ORIGIN}/{name}"


def make(name: str) -> None:
    """Makes the key, if there is none, and its public file."""
    path(name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not was_made(name):
        durable.create(path(name), notes.generate_key(key_name(name)).encode())
    publics(name)


def load(name: str) -> str:
    """The private key of receipts or reports (C2SP skey text), made at first use.

    Raises SettingsInvalid when it has gone, or others may read it.
    """
    if name not in NAMES:
        raise errors.SettingsInvalid(f"There is no key named {name}.")
    make(name)
    return _private(path(name))


def vkey(name: str) -> str:
    """The public key that is used now, as a C2SP vkey line. Raises NotFound before the log's key is made."""
    if name != "checkpoint":
        make(name)
    return publics(name)[0].vkey


def vkeys(name: str) -> list[str]:
    """Every public key ever used under this name, newest first: for what was signed at any time."""
    return [each.vkey for each in publics(name)]


def publics(name: str) -> list[Public]:
    """As `vkeys`, with what is known of each. A lost public file is made again from the private key.

    Raises NotFound when there is no key yet.
    """
    file = public_path(name)
    if not file.exists():
        if not path(name).exists():
            raise errors.NotFound(f"There is no {name} key yet. It is made when the store is set up or first used.")
        durable.create(file, _line(Public(notes.vkey_of(_private(path(name))))).encode())
    return [_parsed(line) for line in file.read_text().splitlines()]


def write_publics(name: str, every: Sequence[Public]) -> None:
    """Replaces the list; what stands first is used from now on. Call under the signer's fence."""
    durable.replace(public_path(name), "".join(_line(each) for each in every).encode())


def retire(name: str, size: int) -> None:
    """Destroys replaced keys whose time is over and notes the last size that they signed."""
    every = publics(name)
    over = [each for each in every if not each.in_force and replaced_path(name, each.key_id).exists()]
    if over:
        sized = {each.vkey: each.size if each.size is not None else size for each in over}
        write_publics(name, [each._replace(size=sized.get(each.vkey, each.size)) for each in every])
    for each in over:
        durable.remove(replaced_path(name, each.key_id))


def sign(name: str, text: str) -> str:
    """The note of this text, signed by every key in force. Raises SettingsInvalid when one of them cannot be used."""
    every = [each for each in publics(name) if each.in_force]
    note = b""
    for signer in signers(name, every):
        signed = notes.sign(text, signer)
        note = notes.join(note, signed) if note else signed
    # Each key that we tell people to trust has really signed.
    if len(notes.verify(note, [each.vkey for each in every]).verified) != len(every):
        raise errors.SettingsInvalid(f"Not every {name} key in force has signed.")
    return note.decode()


def signers(name: str, every: Sequence[Public]) -> list[notes.SignerKey]:
    """What signs for these public keys: our own files, else in order what `TOUCHSTONE_CHECKPOINT_SIGNER` names."""
    files = [path(name), *(replaced_path(name, each.key_id) for each in every)]
    own = {str(key.verifier): key for key in (notes.parse_skey(_private(file)) for file in files if file.exists())}
    uris = iter(settings.CHECKPOINT_SIGNER if name == "checkpoint" else ())
    found = []
    for each in every:
        if each.vkey in own:
            found.append(own[each.vkey])
            continue
        uri = next(uris, None)
        if uri is None:
            raise errors.SettingsInvalid(
                f"The private key of {each.vkey} has gone. Restore {path(name)}, or run `bin/manage key rotate {name}`."
            )
        found.append(elsewhere.signer(uri, each.vkey))
    return found


def _private(file: Path) -> str:
    if not file.exists():
        raise errors.SettingsInvalid(
            f"The private key {file} has gone. Restore it, or run `bin/manage key rotate {file.stem}`."
        )
    durable.check_private(file.parent)
    durable.check_private(file)
    return file.read_text().strip()


def _line(each: Public) -> str:
    until = f" until={each.until:%Y-%m-%dT%H:%M:%SZ}" if each.until else ""
    size = f" size={each.size}" if each.size is not None else ""
    return f"{each.vkey}{until}{size}\n"


def _parsed(line: str) -> Public:
    vkey, *words = line.split(" ")
    told = dict(word.split("=", 1) for word in words)
    notes.parse_vkey(vkey)
    until = dt.datetime.fromisoformat(told["until"]) if "until" in told else None
    return Public(vkey, until, int(told["size"]) if "size" in told else None)
