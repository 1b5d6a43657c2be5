"""Which approvals were used: on the disk before the statement runs, until the store has been told and they are past."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from lineage import exchanged

KEEP = dt.timedelta(days=2)
"""Longer than any approval holds: a use that was told is remembered, whatever the store says later."""
COMPACT_LINES = 1_000


class Use(msgspec.Struct):
    request_id: str
    digest: str
    at: dt.datetime
    told: bool = False


class Uses:
    """A file of uses, one JSON object a line; a later line of a request replaces the earlier. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._uses: dict[str, Use] = {}
        self._lines = 0
        for line in path.read_bytes().split(b"\n") if path.exists() else ():
            try:
                use = msgspec.json.decode(line, type=Use)
            except msgspec.DecodeError:
                continue  # the end of a line that a crash cut: its statement did not run
            self._uses[use.request_id] = use
        self._compact()

    def has(self, request_id: str) -> bool:
        return request_id in self._uses

    def add(self, request_id: str, digest: str) -> None:
        """Durable when it returns. OSError when it cannot be; then it is no use."""
        use = Use(request_id, digest, dt.datetime.now(dt.UTC))
        self._append([use], sync=True)
        self._uses[request_id] = use

    def waiting(self) -> list[exchanged.Done]:
        """What the store has not been told."""
        return [
            exchanged.Done(request_id=use.request_id, digest=use.digest, state="used", at=use.at)
            for use in self._uses.values()
            if not use.told
        ]

    def told(self, request_ids: Iterable[str]) -> None:
        """The store knows. Where that cannot be written it is told again, which it takes as the same news."""
        changed = [use for name in request_ids if (use := self._uses.get(name)) is not None and not use.told]
        for use in changed:
            use.told = True
        try:
            if changed:
                self._append(changed, sync=False)
            if self._lines > COMPACT_LINES:
                self._compact()
        except OSError:
            return

    def _append(self, uses: list[Use], *, sync: bool) -> None:
        with self._path.open("ab") as file:
            # After a cut line the next begins on its own.
            file.write(b"\n" + b"\n".join(msgspec.json.encode(use) for use in uses) + b"\n")
            file.flush()
            if sync:
                os.fsync(file.fileno())
        self._lines += len(uses)

    def _compact(self) -> None:
        oldest = dt.datetime.now(dt.UTC) - KEEP
        self._uses = {name: use for name, use in self._uses.items() if not use.told or use.at > oldest}
        replace(self._path, b"\n".join(msgspec.json.encode(use) for use in self._uses.values()) + b"\n")
        self._lines = len(self._uses)


def replace(path: Path, content: bytes) -> None:
    """Writes a small file whole, durably: the old one or the new one is there after a crash."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
