"""Our keys on disk: a private file each below the data folder, and beside it a public one that lists every key ever used.

Only the keeper opens the checkpoint key, only the web the receipt key and the gateway key, only the worker the report
key; everyone else reads public files. The checkpoint key may also lie elsewhere (`TOUCHSTONE_CHECKPOINT_SIGNER`).
"""

from __future__ import annotations

import datetime as dt
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from django.conf import settings

from lineage import durable, elsewhere, errors, notes

NAMES = ("checkpoint", "receipt", "report", "gateway")


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


def path(name: str, key_id: str = "") -> Path:
    """The private file (C2SP skey text) of the first key, or of the one with this id that came later."""
    return Path(settings.DATA_DIR) / "keys" / (f"{name}.{key_id}.key" if key_id else f"{name}.key")


def public_path(name: str) -> Path:
    return path(name).with_suffix(".pub")


def files(name: str) -> list[Path]:
    """The private files that are there, the newest first."""
    every = [path(name), *path(name).parent.glob(f"{name}.*.key")]
    return sorted((file for file in every if file.exists()), key=lambda file: -file.stat().st_mtime_ns)


def was_made(name: str) -> bool:
    return bool(files(name)) or public_path(name).exists()


def key_name(name: str) -> str:
    """C2SP names a log's key by its origin; "+" cannot stand in a key's name."""
    return str(settings.ORIGIN) if name == "checkpoint" else f"{settings.ORIGIN}/{name}"


def make(name: str) -> None:
    """Makes the key, if there is none, and its public file."""
    if not was_made(name):
        durable.folder(path(name).parent, 0o700)
        durable.create(path(name), notes.generate_key(key_name(name)).encode())
    publics(name)


def load(name: str) -> str:
    """The private key of receipts, reports or gateway tokens (C2SP skey text), made at first use.

    Raises SettingsInvalid when it has gone, or others may read it.
    """
    if name not in NAMES:
        raise errors.SettingsInvalid(f"There is no key named {name}.")
    if not public_path(name).exists():
        make(name)
    used = publics(name)[0]
    file = held(name, used)
    if file is None:
        raise _gone(name, used)
    return _private(file)


def signer(name: str) -> notes.SignerKey:
    """The key that `load` gives, ready to sign; kept as long as neither its file nor the public one changes."""
    place = (str(settings.DATA_DIR), name)
    kept = _kept.get(place)
    if kept is not None and all(_state(file) == state for file, state in kept[1]):
        return kept[0]
    public = public_path(name)
    before = _state(public)
    key = notes.parse_skey(load(name))
    file = held(name, publics(name)[0])
    if file is not None and before is not None:
        _kept[place] = key, [(str(public), before), (str(file), _state(file))]
    return key


_kept: dict[tuple[str, str], tuple[notes.SignerKey, list[tuple[str, tuple[int, ...] | None]]]] = {}


def _state(file: Path | str) -> tuple[int, ...] | None:
    """What changes with a file; None when it is not there."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode, found.st_uid


def vkey(name: str) -> str:
    """The public key that is used now, as a C2SP vkey line. Raises NotFound before the log's key is made."""
    if name != "checkpoint":
        make(name)
    return publics(name)[0].vkey


def vkeys(name: str) -> list[str]:
    """Every public key ever used under this name, newest first: for what was signed at any time."""
    return [each.vkey for each in publics(name)]


def publics(name: str) -> list[Public]:
    """As `vkeys`, with what is known of each. A lost list is made again from the private keys that are there.

    Raises NotFound when there is no key yet.
    """
    place = public_path(name)
    if not place.exists():
        every = [Public(notes.vkey_of(_private(file))) for file in files(name)]
        if not every:
            raise errors.NotFound(f"There is no {name} key yet. It is made when the store is set up or first used.")
        durable.create(place, _lines(every))
    return [_parsed(line) for line in place.read_text().splitlines()]


def write_publics(name: str, every: Sequence[Public]) -> None:
    """Replaces the list; what stands first is used from now on. Call under the signer's fence."""
    durable.replace(public_path(name), _lines(every))


def retire(name: str, size: int) -> None:
    """Destroys the private keys whose time is over and notes the last size that they signed."""
    every = publics(name)
    over = [each for each in every if not each.in_force and each.size is None]
    for each in over:
        destroy(name, each)
    if over:
        write_publics(name, [each._replace(size=size) if each in over else each for each in every])


def destroy(name: str, each: Public) -> None:
    file = held(name, each)
    if file is not None:
        durable.remove(file)


def held(name: str, each: Public) -> Path | None:
    """The private file of a public key, if it is ours. Raises SettingsInvalid when others may read it."""
    return next((file for file in files(name) if _vkey(_private(file)) == each.vkey), None)


@functools.lru_cache(maxsize=8)
def _vkey(skey: str) -> str:
    return notes.vkey_of(skey)


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
    uris = iter(settings.CHECKPOINT_SIGNER if name == "checkpoint" else ())
    found = []
    for each in every:
        file = held(name, each)
        uri = None if file else next(uris, None)
        if file:
            found.append(notes.parse_skey(_private(file)))
        elif uri:
            found.append(elsewhere.signer(uri, each.vkey))
        else:
            raise _gone(name, each)
    return found


def _gone(name: str, each: Public) -> errors.SettingsInvalid:
    return errors.SettingsInvalid(
        f"The private key of {each.vkey} has gone. Restore {path(name).parent}, or run `bin/manage key rotate {name}`."
    )


def _private(file: Path) -> str:
    durable.check_private(file.parent)
    durable.check_private(file)
    return file.read_text().strip()


def _lines(every: Sequence[Public]) -> bytes:
    return "".join(_line(each) for each in every).encode()


def _line(each: Public) -> str:
    until = f" until={each.until:%Y-%m-%dT%H:%M:%SZ}" if each.until else ""
    size = f" size={each.size}" if each.size is not None else ""
    return f"{each.vkey}{until}{size}\n"


def _parsed(line: str) -> Public:
    vkey, *words = line.split(" ")
    told = dict(word.split("=", 1) for word in words)
    until = dt.datetime.fromisoformat(told["until"]) if "until" in told else None
    return Public(vkey, until, int(told["size"]) if "size" in told else None)
