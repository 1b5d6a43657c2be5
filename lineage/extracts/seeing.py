"""What a process keeps open for look-ups: the files of extracts, mapped, and postings of what is newer than they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from lineage.extracts import Extract, Indexes, reading
from lineage.extracts.began import Began
from lineage.extracts.blocks import Content
from lineage.extracts.filed import Filed
from lineage.extracts.fresh import Fresh
from lineage.extracts.looking import Held, Keys, Lookup, Read, Seen
from lineage.extracts.meanings import Meanings
from lineage.extracts.postings import NOTHING, Damaged
from lineage.joining import Cursor
from lineage.newer import chunks
from lineage.newer.layers import Layer
from lineage.newer.records import Stand
from lineage.snapshots import Snapshot

FEW = 64
Limits = Callable[[], AbstractContextManager[None]]


class HasCursor(Protocol):
    cursor: Any


class Asked(NamedTuple):
    """The question: what gives its cursor with all views and without any, its limits and size.

    Up to `told_to` records are in extracts or newer; then the store's own come, of which with `is_silent` nothing is looked up.
    """

    cursor: Callable[[], Cursor]
    bare: Callable[[], HasCursor]
    limits: Limits
    snap: Snapshot
    size: int
    told_to: int = 0
    is_silent: bool = True


class Seeing:
    """Of one process. Files are immutable and their names never used again; all goes with an erasure."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.filed: dict[str, Filed] = {}
        self.meanings = Meanings()
        self.newer: tuple[str, Held] | None = None
        self.hidden: tuple[str, list[Indexes]] | None = None
        self.keys: Keys = {}
        self.began = Began([])

    def forget(self) -> None:
        """Lets go of every file and every value."""
        self.filed, self.meanings, self.newer, self.hidden, self.keys = {}, Meanings(), None, None, {}
        self.began = Began([])

    def look(self, asked: Asked, state: str, every: Sequence[Extract], told: Fresh | Stand) -> Lookup | None:
        """Look-ups over these extracts and what is newer, which has the name `state`; None where a file is damaged."""
        try:
            with self.lock:
                layers = self._files(asked, state, every, told.stale)
                files = [layer.of for layer in layers if layer.places]
                if self.began.files != files:
                    self.began = Began(files)
                began = self.began
                if isinstance(told, Stand):
                    layers += [_standing(told, *one) for one in told.layers]
                elif len(told.stale) or every[-1].following < asked.told_to:
                    layers.append(_seen(asked, self._newer(asked, state, every, told)))
        except (Damaged, FileNotFoundError):
            # The keeper makes it anew; the whole log answers meanwhile.
            return None
        if not asked.is_silent:
            own = f"from {state}.own where index < {asked.size}"
            layers.append(_seen(asked, Held(asked.cursor(), own, f"from raw_touches where index >= {asked.told_to}")))
        return Lookup(layers, asked.size, self.meanings, self.keys, began)

    def _files(self, asked: Asked, state: str, every: Sequence[Extract], stale: Indexes) -> list[Seen]:
        present = {one.folder for one in asked.snap.extracts}
        self.filed = {name: file for name, file in self.filed.items() if name in present}
        for one in every:
            if one.folder not in self.filed:
                self.filed[one.folder] = Filed(reading.folder(one.folder))
        if self.hidden is None or self.hidden[0] != state:
            self.hidden = state, [reading.together([stale, later]) for later in reading.dropped(every)]
        files = [self.filed[one.folder] for one in every]
        return [Seen(file, hidden, file.contents) for file, hidden in zip(files, self.hidden[1], strict=True)]

    def _newer(self, asked: Asked, state: str, every: Sequence[Extract], told: Fresh) -> Held:
        if self.newer is None or self.newer[0] != state:
            reached = min(every[-1].following, asked.told_to)
            touches = f"select * from raw_touches where index >= {reached} and index < {asked.told_to}"  # noqa: S608 - as below
            if len(told.stale):
                again = f"select * from raw_touches where index < {reached}"  # noqa: S608 - our own names and numbers
                few = f"{again} and index in ({', '.join(map(str, told.stale.tolist()))})"
                many = f"from ({again}) semi join (select index from {told.relation}) using (index)"  # noqa: S608
                touches += f" union all ({few if len(told.stale) <= FEW else many})"
            self.newer = state, Held(asked.cursor(), f"from {told.relation}", touches)
        return self.newer[1]


def _seen(asked: Asked, held: Held) -> Seen:
    def read(indexes: Indexes) -> dict[int, Content]:
        with asked.limits():
            return held.read(asked.cursor(), indexes)

    reads: Read = read
    return Seen(held, NOTHING, reads)


def _standing(stand: Stand, layer: Layer, hidden: Indexes) -> Seen:
    def read(indexes: Indexes) -> dict[int, Content]:
        return stand.read(layer, indexes)

    return Seen(layer, hidden, read, stand.statements)


def is_silent(asked: Asked) -> bool:
    """Whether what the store itself said last has nothing that anybody looks up."""
    if asked.told_to >= asked.size:
        return True
    own, touches = chunks.between(asked.snap.events, asked.snap.touches, asked.told_to, asked.size)
    named = ("session_id", "db_session_id", "ticket", "approval_request", "agent_run", "state", "statement")
    return not touches.num_rows and all(own[name].null_count == own.num_rows for name in named)
