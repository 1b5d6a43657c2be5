"""What weakens the capture of a database: settings, publications, slots and tables before and after (docs/coverage.md). Pure.

`differences` compares two states as `pgstate` tells them; `weak` and `weaker` judge one setting. What cannot be compared
(absent before or after, because that part was not told) is no difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

import msgspec

from lineage.events import KeyState, Mark, PublicationState, PublishedTable, State

LOGS = frozenset({"postgres-csvlog", "postgres-jsonlog", "postgres-stderr"})
"""Formats of sources that tell of statements."""
CAPTURES = frozenset({"pgoutput"})
"""Formats of sources that tell of row changes."""
CLASSES = frozenset({"read", "write", "function", "role", "ddl", "misc", "misc_set"})
NEEDED_CLASSES = frozenset({"read", "write", "role", "ddl"})
LEVELS = (
    "debug5", "debug4", "debug3", "debug2", "debug1", "debug", "info", "notice", "warning", "error", "log", "fatal", "panic",
)  # fmt: skip
STATEMENTS = ("none", "ddl", "mod", "all")
ORIGINS = ("replica", "origin")
WAL_LEVELS = ("minimal", "replica", "logical")
IDENTITIES = {"nothing": 0, "default": 1, "index": 1, "full": 2}
ON = frozenset({"on", "true", "yes", "1", "t"})
SWITCHES = frozenset({
    "pgaudit.log_rows", "pgaudit.log_relation", "pgaudit.log_parameter", "pgaudit.log_catalog", "pgaudit.log_statement",
    "log_connections", "log_disconnections", "logging_collector",
})  # fmt: skip
LIBRARIES = frozenset({"shared_preload_libraries", "session_preload_libraries", "local_preload_libraries"})
PLACES = frozenset({"log_directory", "log_filename", "pgaudit.role", "pgaudit.log_level"})
"""Settings of which every change may lead the records elsewhere."""


class Weakness(msgspec.Struct, frozen=True):
    """One thing that captures less than before. `rule` is the finding's; `object` is what the catalog calls it, `part` what of it."""

    rule: str
    object: str
    before: str
    after: str
    part: str = ""

    @property
    def about(self) -> str:
        """What stays the same while it is weakened, and as it comes back."""
        return f"{self.object} {self.part}".strip()[:512]

    @property
    def sentence(self) -> str:
        return f"{self.object}: {self.before} → {self.after}."


# One setting


def audited(value: str) -> frozenset[str]:
    """The statement classes that a value of pgaudit.log stands for."""
    found: set[str] = set()
    for word in re.split(r"[\s,]+", value.lower()):
        named = CLASSES if word.lstrip("-") == "all" else {word.lstrip("-")} & CLASSES
        found = found - named if word.startswith("-") else found | named
    return frozenset(found)


def _place(order: tuple[str, ...]) -> Callable[[str], int]:
    return lambda value: order.index(value.lower()) if value.lower() in order else 0


def _number(value: str) -> float:
    try:
        return float(value) if float(value) >= 0 else float("inf")
    except ValueError:
        return 0.0


RANKS: dict[str, Callable[[str], float]] = {
    "log_statement": _place(STATEMENTS),
    "log_min_messages": lambda value: -_place(LEVELS)(value),
    "log_min_error_statement": lambda value: -_place(LEVELS)(value),
    "wal_level": _place(WAL_LEVELS),
    "session_replication_role": lambda value: 0 if value.lower() == "replica" else 1,
    "max_slot_wal_keep_size": _number,
}
"""Higher captures more."""


def weaker(name: str, before: str, after: str) -> bool:
    """Whether a setting captures less, or may write elsewhere, than it did."""
    if before == after:
        return False
    if name == "pgaudit.log":
        return bool(audited(before) - audited(after))
    if name in SWITCHES:
        return before.lower() in ON and after.lower() not in ON
    if name in LIBRARIES or name == "log_destination":
        return bool(_words(before) - _words(after))
    if name in RANKS:
        return RANKS[name](after) < RANKS[name](before)
    return name in PLACES


def weak(name: str, value: str) -> bool:
    """Whether a value by itself captures too little; for a statement that sets it, where what was before is not known."""
    if name == "pgaudit.log":
        return bool(NEEDED_CLASSES - audited(value))
    if name in SWITCHES:
        return value.lower() not in ON
    if name == "shared_preload_libraries":
        return "pgaudit" not in _words(value)
    if name in ("log_min_messages", "log_min_error_statement"):
        return RANKS[name](value) < RANKS[name]("error")
    best = {"log_statement": "ddl", "wal_level": "logical", "session_replication_role": "origin"}
    if name in best:
        return RANKS[name](value) < RANKS[name](best[name])
    return name in PLACES


def _words(value: str) -> set[str]:
    return {word.strip(' "').lower() for word in value.split(",") if word.strip(' "')}


# Two states


def differences(before: State, after: State) -> Iterator[Weakness]:
    """What captures less in `after` than in `before`, each once."""
    yield from _settings(before, after)
    yield from _publications(before.published, after.published, {(k.schema, k.relation) for k in after.keys})
    yield from _slots(before, after)
    yield from _tables(before.keys, after.keys)
    yield from _superusers(before, after)


def _settings(before: State, after: State) -> Iterator[Weakness]:
    was, now = ({s.name: s.value for s in state.settings} for state in (before, after))
    if not now:
        return
    for full, value in was.items():
        name = full.rpartition(":")[2]
        if full in now:
            if weaker(name, value, now[full]):
                yield _setting(full, value, now[full])
        elif full.startswith("pgaudit.") or (name == full and name in LIBRARIES | SWITCHES | {"wal_level"}):
            yield Weakness("capture-weakened", f"setting {full}", value or "empty", "no longer to be seen")
    for full in now.keys() - was.keys():
        name = full.rpartition(":")[2]
        if name != full and name in was and weaker(name, was[name], now[full]):
            yield _setting(full, f"{was[name]} (of the server)", now[full])


def _setting(full: str, before: str, after: str) -> Weakness:
    rule = "replication-role" if full.endswith("session_replication_role") else "capture-weakened"
    return Weakness(rule, f"setting {full}", before or "empty", after or "empty")


def _publications(
    before: Iterable[PublicationState], after: Iterable[PublicationState], there: set[tuple[str, str]]
) -> Iterator[Weakness]:
    now = {p.name: p for p in after}
    for was in before:
        name = f"publication {was.name}"
        publication = now.get(was.name)
        if publication is None:
            yield Weakness("capture-weakened", name, "there", "gone")
            continue
        lost = [op for op in was.operations if op not in publication.operations]
        if lost:
            told = ", ".join(lost)
            yield Weakness("capture-weakened", name, f"sends {told}", f"no longer sends {told}", "operations")
        if publication.all_tables:
            continue
        if was.all_tables:
            yield Weakness("capture-weakened", name, "sends all tables", f"sends {len(publication.tables)} tables")
            continue
        yield from _published_tables(name, was.tables, publication.tables, there)


def _published_tables(
    name: str, before: Iterable[PublishedTable], after: Iterable[PublishedTable], there: set[tuple[str, str]]
) -> Iterator[Weakness]:
    now = {(t.schema, t.relation): t for t in after}
    for was in before:
        full, table = f"{was.schema}.{was.relation}", now.get((was.schema, was.relation))
        if table is None:
            if (was.schema, was.relation) in there:
                yield Weakness("capture-weakened", name, f"sends {full}", f"no longer sends {full}", full)
            continue
        if table.row_filter and table.row_filter != was.row_filter:
            yield Weakness(
                "capture-weakened",
                name,
                f"{full} {was.row_filter or 'all rows'}",
                f"{full} {table.row_filter}",
                f"rows of {full}",
            )
        if table.columns and (not was.columns or set(was.columns) - set(table.columns)):
            told = ", ".join(was.columns) or "all columns"
            now_sent = f"{full} {', '.join(table.columns)}"
            yield Weakness("capture-weakened", name, f"{full} {told}"[:500], now_sent[:500], f"columns of {full}")


def _slots(before: State, after: State) -> Iterator[Weakness]:
    now = {slot.name: slot for slot in after.slots}
    for was in before.slots:
        # Subscribers make and drop slots of their own while they copy tables.
        if was.plugin != "pgoutput" or re.fullmatch(r"pg_\d+_sync_\d+_\d+", was.name):
            continue
        slot = now.get(was.name)
        if slot is None:
            yield Weakness("slot-lost", f"slot {was.name}", f"at {was.confirmed_lsn or 'an unknown position'}", "gone")
        elif slot.wal_status == "lost" and was.wal_status != "lost":
            yield Weakness("slot-lost", f"slot {was.name}", was.wal_status or "in use", "its log was removed")


def _tables(before: Iterable[KeyState], after: Iterable[KeyState]) -> Iterator[Weakness]:
    now = {(k.schema, k.relation): k for k in after}
    for was in before:
        table = now.get((was.schema, was.relation))
        if table is None:
            continue
        name = f"table {was.schema}.{was.relation}"
        if was.persistence == "permanent" and table.persistence == "unlogged":
            yield Weakness("capture-weakened", name, "in the write-ahead log", "unlogged")
        old, new = was.replica_identity or "", table.replica_identity or ""
        if IDENTITIES.get(new, 2) < IDENTITIES.get(old, 0):
            yield Weakness("capture-weakened", name, f"replica identity {old}", f"replica identity {new}")


def _superusers(before: State, after: State) -> Iterator[Weakness]:
    was = {role.name: role for role in before.roles}
    for role in after.roles:
        if role.superuser and role.name in was and not was[role.name].superuser:
            yield Weakness(
                "capture-weakened", f"role {role.name}", "no superuser", "superuser: may switch auditing off"
            )


def written_again(before: Iterable[Mark], after: Iterable[Mark]) -> Iterator[tuple[Mark, Mark]]:
    """Marks that say the same as before and yet were written meanwhile, as (before, after)."""
    was = {mark.object: mark for mark in before}
    for mark in after:
        old = was.get(mark.object)
        if old is not None and old.content == mark.content and old.version != mark.version:
            yield old, mark
