"""The log files of one folder: which are new, renamed, truncated, finished or gone, and how far each is read.

A file is known by its inode and the hash of its first bytes, not by its name. A file being read stays open, so
what was written to it is read even when it is renamed or removed meanwhile.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from enforcement import logrecords, shipper

HEAD_BYTES = 256
COMPRESSED = (".gz", ".zst", ".xz", ".bz2", ".lz4")
QUIET_SECONDS = 1.0
FINISHED_SECONDS = 5.0

SplitterFactory = Callable[[int], logrecords.Splitter]


class LogFile:
    """One file. `offset` is the end of the last whole record taken; bytes behind it may have been read already."""

    def __init__(self, path: Path, inode: int, make_splitter: SplitterFactory) -> None:
        self.name, self.path, self.inode = path.name, path, inode
        self.offset = 0
        self.head_length, self.head = 0, ""
        self.is_done = False
        self.told_removed = False
        self.modified = time.time()
        self._make_splitter = make_splitter
        self.splitter = make_splitter(0)
        self._read_to = 0
        self._handle: int | None = None
        self._grew_at = time.monotonic()

    def go_to(self, offset: int) -> None:
        """Continue at the end of a whole record."""
        self.offset = self._read_to = offset
        self.splitter = self._make_splitter(offset)

    def open(self) -> None:
        if self._handle is None:
            self._handle = os.open(self.path, os.O_RDONLY)

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None

    def read(self, size_bytes: int) -> bytes:
        """The next bytes, empty at the end of what is there."""
        if self._handle is None:
            return b""
        data = os.pread(self._handle, size_bytes, self._read_to)
        if data:
            self._read_to += len(data)
            self._grew_at = time.monotonic()
            self.is_done = False
        return data

    def was_replaced(self) -> bool:
        """Whether the content read so far is gone: the file is shorter, or begins with other bytes."""
        if self._handle is None:
            return False
        if os.fstat(self._handle).st_size < self._read_to:
            return True
        first = os.pread(self._handle, HEAD_BYTES, 0)
        replaced = hashlib.sha256(first[: self.head_length]).hexdigest() != self.head if self.head_length else False
        if not replaced and len(first) > self.head_length:
            self.head_length, self.head = len(first), hashlib.sha256(first).hexdigest()
        return replaced

    def is_quiet(self) -> bool:
        return time.monotonic() - self._grew_at > QUIET_SECONDS

    def is_finished(self, folder: Folder) -> bool:
        """Whether nothing more will come: a newer file is there and this one has rested for a while, or it is gone."""
        rests = time.time() - self.modified > FINISHED_SECONDS and time.monotonic() - self._grew_at > QUIET_SECONDS
        return rests and not self.is_done and (folder.has_newer(self) or not folder.still_has(self))

    def finish(self) -> None:
        """All of it was taken: let go of it."""
        self.is_done = True
        self.close()

    def start_again(self) -> None:
        self.head_length, self.head, self.is_done = 0, "", False
        self.go_to(0)

    def state(self) -> list[Any]:
        return [self.inode, self.name, self.head_length, self.head, self.offset, self.is_done]


class Folder:
    """All files that match the pattern, and those being read that no longer do."""

    def __init__(
        self, path: Path, pattern: str, make_splitter: SplitterFactory, state: list[Any], *, skip_existing: bool = False
    ) -> None:
        self.path, self.pattern, self._make_splitter = path, pattern, make_splitter
        self._known = {entry[0]: entry for entry in state}
        self._files: dict[int, LogFile] = {}
        self._present: set[int] = set()
        self._newest: tuple[float, str] = (0.0, "")
        self._skip_existing = skip_existing
        self._looked = False

    def files(self) -> list[LogFile]:
        """Files with something left to read, oldest change first."""
        return sorted((f for f in self._files.values() if not f.is_done), key=lambda f: (f.modified, f.name))

    def has_newer(self, file: LogFile) -> bool:
        return (file.modified, file.name) < self._newest

    def still_has(self, file: LogFile) -> bool:
        return file.inode in self._present

    def state(self) -> list[Any]:
        """What a restart needs, as JSON."""
        return [file.state() for file in self._files.values()]

    def look(self) -> list[bytes]:
        """See what changed in the folder; custody gaps for what is gone unread."""
        gaps: list[bytes] = []
        found = self._scan()
        self._present = set(found)
        self._newest = max(((m, p.name) for p, m, _ in found.values()), default=(0.0, ""))
        for inode, (path, modified, size) in found.items():
            with contextlib.suppress(FileNotFoundError):  # renamed since the folder was listed: met in the next look
                gaps += self._meet(inode, path, modified, size)
        if not self._looked:
            gaps += [gone(entry[1], entry[4]) for entry in self._known.values() if not entry[5]]
            self._known, self._looked, self._skip_existing = {}, True, False
        for file in self._files.values():
            if not file.is_done and not file.told_removed and file.inode not in found:
                file.told_removed = True
                gaps.append(removed(file.name, file.offset))
        for file in [f for f in self._files.values() if f.is_done and f.inode not in found]:
            file.close()
            del self._files[file.inode]
        return gaps

    def _scan(self) -> dict[int, tuple[Path, float, int]]:
        found = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                try:
                    stat = entry.stat()
                except FileNotFoundError:
                    continue
                known = stat.st_ino in self._files or stat.st_ino in self._known
                if entry.is_file() and (known or self._matches(entry.name)):
                    found[stat.st_ino] = (Path(entry.path), stat.st_mtime, stat.st_size)
        return found

    def _matches(self, name: str) -> bool:
        return fnmatch.fnmatch(name, self.pattern) and not name.endswith(COMPRESSED)

    def _meet(self, inode: int, path: Path, modified: float, size: int) -> list[bytes]:
        file = self._files.get(inode)
        if file is None:
            file = self._first_meeting(inode, path, size)
            if file is None:
                return []
        file.path, file.modified = path, modified
        if file.is_done and size == file.offset:
            return []
        was_done = file.is_done
        file.open()
        gaps: list[bytes] = []
        if file.was_replaced():
            gaps = [] if was_done else [replaced(file.name, file.offset)]
            file.start_again()
            file.was_replaced()
        file.is_done = False
        return gaps

    def _first_meeting(self, inode: int, path: Path, size: int) -> LogFile | None:
        file = LogFile(path, inode, self._make_splitter)
        entry = self._known.get(inode)
        if entry is not None and same_head(path, entry[2], entry[3]):
            file.name, file.head_length, file.head, offset, file.is_done = entry[1:]
            file.go_to(offset)
            del self._known[inode]
        elif not self._matches(path.name):
            return None
        elif self._skip_existing:
            file.go_to(size)
        self._files[inode] = file
        return file


def same_head(path: Path, length: int, digest: str) -> bool:
    """Whether the file still begins with the bytes that were hashed."""
    with path.open("rb") as file:
        first = file.read(length)
    return len(first) == length and (not length or hashlib.sha256(first).hexdigest() == digest)


def gone(name: str, offset: int) -> bytes:
    """The gap of a file that was removed while the collector did not run."""
    detail = (
        "The log file was removed or overwritten before the collector came back; what was behind this place is lost."
    )
    return shipper.custody_item("gap", "log", f"{name}: {detail}", first=f"{name}:{offset}")


def removed(name: str, offset: int) -> bytes:
    """The alarm of a file that was removed or moved away while the server, as far as is known, still writes to it."""
    detail = "The log file was removed or moved away while it was followed. It is read on while this collector runs."
    return shipper.custody_item("alarm", "log", f"{name}: {detail}", first=f"{name}:{offset}")


def replaced(name: str, offset: int) -> bytes:
    """The gap of a file that was truncated while it was followed."""
    detail = "The log file was truncated while it was followed; lines written shortly before may be lost."
    return shipper.custody_item("gap", "log", f"{name}: {detail}", first=f"{name}:{offset}")
