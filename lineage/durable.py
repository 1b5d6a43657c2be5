"""Writing files so that they are there after a crash, whole or not at all. Every system call of it is in this module.

A folder's handle is open before the change and is synced through that same handle: the kernel reports a failed write
of the folder only to handles that were open when it failed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from lineage import errors


def folder(path: Path, mode: int = 0o755) -> None:
    """Makes the folder and those above it that are missing; a file in it is not lost with its folder's name."""
    for each in reversed([each for each in (path, *path.parents) if not each.exists()]):
        with _folder(each.parent) as above:
            with contextlib.suppress(FileExistsError):
                os.mkdir(each, mode)
            os.fsync(above)


def replace(path: Path, data: bytes) -> None:
    """Makes `data` the whole content of the file, mode 0600: after a crash the old or the new content is there."""
    with _folder(path.parent) as folder:
        _put(folder, path.with_name(f"{path.name}.new"), path, data)


def create(path: Path, data: bytes) -> bool:
    """Makes the file, mode 0600, unless there is one; returns whether it did. Of many at once one wins."""
    with _folder(path.parent) as folder:
        # The lock ends with its process: a draft that lies here under it is of one that was killed.
        fcntl.flock(folder, fcntl.LOCK_EX)
        for left in path.parent.glob("*.draft"):
            os.unlink(left)
        if path.exists():
            return False
        _put(folder, path.with_name(f"{path.name}.draft"), path, data)
    return True


def _put(folder: int, draft: Path, path: Path, data: bytes) -> None:
    with _file(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
        _write(file, data)
        os.fsync(file)
    os.rename(draft, path)
    os.fsync(folder)


def write_from(path: Path, start: int, parts: Iterator[bytes]) -> None:
    """Cuts the file (made when missing) at `start` bytes and writes the parts from there."""
    with _folder(path.parent) as folder, _file(path, os.O_WRONLY | os.O_CREAT, mode=0o644) as file:
        os.ftruncate(file, start)
        os.lseek(file, start, os.SEEK_SET)
        for part in parts:
            _write(file, part)
        os.fsync(file)
        # What is read next comes from the disk and not from memory.
        os.posix_fadvise(file, start, 0, os.POSIX_FADV_DONTNEED)
        os.fsync(folder)


def rename(path: Path, target: Path) -> None:
    """Puts a whole file in the place of another."""
    with _folder(target.parent) as folder:
        os.rename(path, target)
        os.fsync(folder)


def remove(path: Path) -> None:
    """Removes the file, if it is there."""
    with _folder(path.parent) as folder:
        path.unlink(missing_ok=True)
        os.fsync(folder)


def check_private(path: Path) -> None:
    """Refuses a file or folder that others may enter or that is not ours. Raises SettingsInvalid with what mends it."""
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise errors.SettingsInvalid(f"{path} belongs to another user. Run: chown {os.geteuid()} {path}")
    if found.st_mode & 0o077:
        mode = 700 if stat.S_ISDIR(found.st_mode) else 600
        raise errors.SettingsInvalid(f"{path} can be read by others. Run: chmod {mode} {path}")


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _file(path: Path, flags: int, mode: int = 0o600) -> Iterator[int]:
    handle = os.open(path, flags, mode)
    try:
        yield handle
    finally:
        os.close(handle)


def _write(file: int, data: bytes) -> None:
    """All of it: a call may write less than it was given."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
