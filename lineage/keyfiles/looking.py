"""Older keys, in the sealed files of the ranges whose keys have left PostgreSQL.

`ledger_keys_state()` names what has left and where it lies. A key that is in neither place at that state, and that could be
inserted, is new if the state is the same after the insert; else it is looked for again (docs/dedupe.md).
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection
from typing import Any

import msgspec
import psycopg
from django.conf import settings
from django.db import connection

from lineage import errors, segments
from lineage.keyfiles import form

ATTEMPTS = 3
Place = tuple[bytes, int, int]
"""Content hash, batch and ordinal of the first record of a key."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Manifest:
    """Which folders hold keys of which hours, by source, for the ranges whose keys have left; of one state of one store."""

    store: tuple[str, str, str]
    state: str
    hours: dict[int, list[tuple[int, int, str]]]

    def folders(self, source: int, keys: Collection[bytes]) -> dict[str, list[bytes]]:
        """The keys to look for in each folder: those of whose hour it holds any."""
        runs = self.hours.get(source)
        # What happens now is newer than all that has left.
        if not runs or not keys or int.from_bytes(min(keys)[:4], "big") > max(last for _, last, _ in runs):
            return {}
        by_hour: dict[bytes, list[bytes]] = defaultdict(list)
        for key in keys:
            by_hour[key[:4]].append(key)
        found: dict[str, list[bytes]] = defaultdict(list)
        for each, of_hour in by_hour.items():
            hour = int.from_bytes(each, "big")
            for first, last, folder in runs:
                if first <= hour <= last:
                    found[folder] += of_hour
        return found


class Unreadable(errors.StoreUnavailable):
    """A file of keys cannot be read: what it may hold cannot be accepted, and other sources are not concerned."""


_kept: _Manifest | None = None
"""Names and hours only, exchanged whole; never a key or a content hash."""


def find(
    cursor: psycopg.Cursor[Any], source: int, keys: Collection[bytes], state: str
) -> tuple[str, dict[bytes, Place]]:
    """Those of the source's keys that lie in sealed files, and the state that they were looked for in.

    `state` is what `ledger_keys_state()` said; the answer may be of a newer one. Raises Unreadable.
    """
    global _kept
    for _ in range(ATTEMPTS):
        manifest = _manifest(cursor, state)
        try:
            found = _look(manifest, source, keys)
        except FileNotFoundError:
            # An erasure or a merge put another file in its place, long ago for us.
            _kept = None
            state = _state(cursor)
            continue
        except (form.Damaged, OSError) as error:
            raise Unreadable("A file of dedupe keys is damaged. Run `bin/manage fsck`.") from error
        return manifest.state, _placed(cursor, found)
    raise Unreadable("A file of dedupe keys is missing. Run `bin/manage fsck`.")


def _look(manifest: _Manifest, source: int, keys: Collection[bytes]) -> dict[bytes, form.Found]:
    place, found = segments.storage(), dict[bytes, form.Found]()
    for folder, wanted in manifest.folders(source, keys).items():
        with form.KeyFile(place.path(folder, "keys")) as file:
            found |= file.find(source, wanted)
    return found


def _placed(cursor: psycopg.Cursor[Any], found: dict[bytes, form.Found]) -> dict[bytes, Place]:
    """The same by batch and ordinal, as the rows in PostgreSQL have them."""
    if not found:
        return {}
    cursor.execute(
        "select i, b.batch, (i - b.first_index)::int from unnest(%s::bigint[]) as asked(i) cross join lateral "
        "(select batch, first_index from ledger_batch where first_index <= i order by first_index desc limit 1) b",
        ([each.index for each in found.values()],),
    )
    places = {index: (batch, ordinal) for index, batch, ordinal in cursor.fetchall()}
    return {key: (each.content, *places[each.index]) for key, each in found.items()}


def _state(cursor: psycopg.Cursor[Any]) -> str:
    cursor.execute("select ledger_keys_state()")
    return str((cursor.fetchone() or ("",))[0])


def _manifest(cursor: psycopg.Cursor[Any], state: str) -> _Manifest:
    global _kept
    given = connection.settings_dict
    store, kept = (str(given["HOST"]), str(given["NAME"]), str(settings.DATA_DIR)), _kept
    if kept is None or (kept.store, kept.state) != (store, state):
        _kept = kept = _read(cursor, store)
    return kept


def _read(cursor: psycopg.Cursor[Any], store: tuple[str, str, str]) -> _Manifest:
    cursor.execute(
        "select ledger_keys_state(), s.folder, (s.files->'keys'->'hours')::text from ledger_keys_left "
        "left join ledger_segment s on spans && int8range(s.first_index, s.next_index) and s.files ? 'keys'"
    )
    rows = cursor.fetchall()
    hours: dict[int, list[tuple[int, int, str]]] = defaultdict(list)
    for _, folder, stated in rows:
        for source, runs in msgspec.json.decode(stated or "{}", type=form.Hours).items():
            hours[int(source)] += [(first, last, folder) for first, last in runs]
    return _Manifest(store, str(rows[0][0]), dict(hours))
