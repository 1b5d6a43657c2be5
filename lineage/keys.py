"""Our keys on disk: one file each below the data folder, mode 0600, made at first use and never overwritten."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
from pathlib import Path

from django.conf import settings

from lineage import errors, notes

NAMES = ("checkpoint", "receipt", "report")


def path(name: str) -> Path:
    return Path(settings.DATA_DIR) / "keys" / f"{name}.key"


def load(name: str) -> str:
    """The private key (C2SP skey text), made when missing. SettingsInvalid when others may read the file."""
    if name not in NAMES:
        raise errors.SettingsInvalid(f"There is no key named {name}.")
    file = path(name)
    if not file.exists():
        _make(file, name)
    if file.stat().st_mode & 0o077:
        raise errors.SettingsInvalid(f"{file} can be read by others. Run: chmod 600 {file}")
    return file.read_text().strip()


def _make(file: Path, name: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Neither another thread nor a killed process whose number came back may own a draft of this name.
    draft = file.with_suffix(f".{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as out:
        # C2SP names a log's key by its origin; "+" cannot stand in a key's name.
        out.write(notes.generate_key(settings.ORIGIN if name == "checkpoint" else f"{settings.ORIGIN}/{name}"))
        out.flush()
        os.fsync(out.fileno())
    # Where another process made it first, that one counts.
    with contextlib.suppress(FileExistsError):
        os.link(draft, file)
    draft.unlink()


@functools.lru_cache(maxsize=8)
def _vkey(skey: str) -> str:
    return notes.vkey_of(skey)


def vkey(name: str) -> str:
    """The public key as a C2SP vkey line."""
    return _vkey(load(name))
