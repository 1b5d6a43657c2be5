"""PostgreSQL stderr logs with a declared `log_line_prefix` -> events; also what managed databases hand out.

An entry is a first line, its continuations (each begins with a tab) and the DETAIL, CONTEXT, STATEMENT lines that the
same process writes after it. stderr is the weakest carrier: prefer csvlog or jsonlog where they can be had.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from lineage import events
from lineage.events import Custody, Event, Quarantined, Skipped
from lineage.sources import feed, line_prefix, postgres_csvlog, postgres_log, postgres_time
from lineage.sources.feed import Item
from lineage.sources.line_prefix import SECONDARY, Head
from lineage.sources.postgres_log import LogRecord


class Entry(msgspec.Struct):
    """One log entry while it is gathered: its first line, and the text of each secondary line by its word."""

    item: Item
    head: Head
    flags: tuple[str, ...] = ()
    parts: dict[str, str] = {}


Gathered = Entry | Event | Quarantined | Skipped


def parse(body: bytes, **options: Any) -> Iterator[Event | Quarantined | Skipped]:
    """One output for each log entry of a file, or for each item of a feed.

    Options: `feed`, `line_prefix` (default PostgreSQL's own, `%m [%p] `), `timezone`. Never raises.
    """
    zone = postgres_time.zone(options.get("timezone"))
    pattern = line_prefix.compiled(str(options.get("line_prefix") or line_prefix.DEFAULT))
    gather = _Gatherer(pattern)
    if options.get("feed"):
        for item in feed.text_items(body):
            gather.feed_item(item) if isinstance(item, Item) else gather.outputs.append(item)
    else:
        for line in body.split(b"\n"):
            gather.line(line)
    seen: dict[str, int] = {}
    for index, output in enumerate(gather.outputs):
        yield _finish(output, index, seen, zone)


class _Gatherer:
    """Puts lines together to entries, in the order of their first lines."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.pattern = pattern
        self.outputs: list[Gathered] = []
        self.last: dict[str, Entry] = {}
        self.open: tuple[Entry, str] | None = None

    def line(self, raw: bytes) -> None:
        """One line of a file."""
        if not raw.strip(b"\r "):
            return
        text, flags = events.clean_text(raw)
        if text[0] == "\t" and self.open is not None:
            self._continue(text, flags, raw)
            return
        head = line_prefix.head(text, self.pattern)
        if head is None:
            self.open = None
            self.outputs.append(
                Item(0, raw).quarantined("line-without-prefix", "the line does not begin with line_prefix")
            )
        elif head.severity in SECONDARY and not head.ambiguous:
            entry = self.last.get(head.process())
            if entry is None:
                self.open = None
                self.outputs.append(_detached(head, Item(0, raw)))
                return
            entry.item.raw += b"\n" + raw
            self._attach(entry, head, flags)
        else:
            self._begin(Entry(Item(0, raw), head, flags, {}))

    def feed_item(self, item: Item) -> None:
        """One item of a feed: a first line with what belongs to it, or secondary lines of an entry before it."""
        lines = item.raw.split(b"\n")
        text, flags = events.clean_text(lines[0])
        head = line_prefix.head(text, self.pattern)
        if head is None:
            self.outputs.append(item.quarantined("line-without-prefix", "the entry does not begin with line_prefix"))
            return
        self.open = None
        if head.severity in SECONDARY and not head.ambiguous:
            entry = self.last.get(head.process())
            if entry is None:
                self.outputs.append(_detached(head, item))
                return
            self._attach(entry, head, flags)
            self.outputs.append(item.skipped("belongs to the entry before it"))
        else:
            self._begin(Entry(item, head, flags, {}))
        place = len(self.outputs) - 1
        if not all([self._inner(raw) for raw in lines[1:] if raw.strip(b"\r ")]):
            self.outputs[place] = item.quarantined("two-entries", "the record holds the first line of a second entry")

    def _inner(self, raw: bytes) -> bool:
        text, flags = events.clean_text(raw)
        if text[0] == "\t" and self.open is not None:
            self._continue(text, flags, None)
            return True
        head = line_prefix.head(text, self.pattern)
        if self.open is None:
            return False
        if head is None:  # what an archive command or a library printed; never part of the statement
            self._flag(self.open[0], ("foreign_line",))
            return True
        if head.severity not in SECONDARY or head.ambiguous:
            return False
        self._attach(self.open[0], head, flags)
        return True

    def _begin(self, entry: Entry) -> None:
        self.outputs.append(entry)
        self.last[entry.head.process()] = entry
        self.open = (entry, "")

    @staticmethod
    def _flag(entry: Entry, flags: tuple[str, ...]) -> None:
        entry.flags += tuple(flag for flag in flags if flag not in entry.flags)

    def _attach(self, entry: Entry, head: Head, flags: tuple[str, ...]) -> None:
        entry.parts.setdefault(head.severity, head.text)
        self._flag(entry, flags)
        self.open = (entry, head.severity)

    def _continue(self, text: str, flags: tuple[str, ...], raw: bytes | None) -> None:
        if self.open is None:
            return
        entry, part = self.open
        if part:
            entry.parts[part] += "\n" + text[1:]
        else:
            entry.head.text += "\n" + text[1:]
        self._flag(entry, flags)
        if raw is not None:
            entry.item.raw += b"\n" + raw


def _detached(head: Head, item: Item) -> Event | Skipped:
    """A CONTEXT or STATEMENT without its entry: the record that ended the body before may have been forged."""
    if head.severity not in ("CONTEXT", "STATEMENT", "QUERY"):
        return item.skipped("belongs to an entry of an earlier body")
    custody = Custody(
        type="finding",
        subject="detached log line",
        detail="its entry came in an earlier body: an audit record that ended that body may be a forged one",
    )
    return Event(
        kind="custody",
        class_="custody",
        sequence=item.sequence,
        occurred_at_quality="unknown",
        db_system="postgresql",
        custody=custody,
        origin=item.origin(),
    )


def _finish(
    output: Gathered, index: int, seen: dict[str, int], zone: dt.tzinfo | None
) -> Event | Quarantined | Skipped:
    if isinstance(output, Event) and output.source_event_id is None:
        digest = output.origin.sha256 if output.origin else ""
        return msgspec.structs.replace(output, source_event_id=_repeat(f"{digest}", seen))
    if isinstance(output, Quarantined | Skipped):
        return msgspec.structs.replace(output, position=str(index))
    if isinstance(output, Event):
        return output
    output.item.index = index
    record = _record(output, zone)
    if output.item.position is None:
        record.key = _repeat(hashlib.sha256(output.item.raw).hexdigest(), seen)
    else:
        record.key = hashlib.sha256(output.item.raw + b"\0" + output.item.position.encode()).hexdigest()
    return postgres_log.interpret(record, output.item, zone)


def _repeat(digest: str, seen: dict[str, int]) -> str:
    """The digest with its count within the body: equal lines of one body are different events."""
    seen[digest] = seen.get(digest, 0) + 1
    return f"{digest}/{seen[digest]}"


def _record(entry: Entry, zone: dt.tzinfo | None) -> LogRecord:
    fields, parts = entry.head.fields, entry.parts
    host, port = _address(fields.get("r") or fields.get("h") or "")
    epoch = "n" in fields and "m" not in fields
    record = LogRecord(
        time=fields.get("m") or fields.get("n") or fields.get("t") or "",
        user=_known(fields.get("u")),
        database=_known(fields.get("d")),
        host=host,
        port=port,
        session_id=fields.get("c") or _session_id(fields, zone),
        line_num=fields.get("l", ""),
        command_tag=fields.get("i", ""),
        session_start=fields.get("s", ""),
        vxid=fields.get("v", ""),
        txid=fields.get("x", ""),
        severity=entry.head.severity,
        sqlstate=fields.get("e", ""),
        message=entry.head.text,
        detail=parts.get("DETAIL", ""),
        context=parts.get("CONTEXT", "") or parts.get("QUERY", ""),
        query=parts.get("STATEMENT", ""),
        application=_known(fields.get("a")),
        backend_type=fields.get("b", ""),
        flags=entry.flags,
        epoch=epoch,
    )
    if entry.head.ambiguous:  # which part of the prefix is whose name is the very thing that is not known
        record.ambiguous, record.user, record.database, record.application = True, "", "", ""
    return record


def _known(name: str | None) -> str:
    return "" if name is None or name == "[unknown]" else name


_REMOTE = re.compile(r"(.*)\((\d{1,5})\)")


def _address(text: str) -> tuple[str, int | None]:
    match = _REMOTE.fullmatch(text)
    return (
        (match.group(1), int(match.group(2)))
        if match
        else postgres_csvlog.address(text)
        if text == "[local]"
        else (text, None)
    )


def _session_id(fields: dict[str, str], zone: dt.tzinfo | None) -> str:
    """The id that PostgreSQL itself makes of start time and process id, where the prefix has both."""
    started = postgres_time.log_time(fields.get("s", ""), zone)
    if started is None or started[1] != "source" or "p" not in fields:
        return ""
    return f"{int(events.parse_time(started[0]).timestamp()):x}.{int(fields['p']):x}"
