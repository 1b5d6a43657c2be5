"""Exports: exactly what a search shows, as a file with its manifest, and the record of it in the log (docs/search.md).

The ZIP is made while it is sent and lies nowhere: whoever goes away ends the work. Its last member is the manifest,
written after the record of the export; without that record the ZIP has no end and no tool opens it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

import msgspec
from django.conf import settings

from lineage import cells, errors, ledger, queries, tree
from lineage.access import Viewer
from lineage.events import Actor, Custody, Event, format_time
from lineage.queries import Answer, Window

FORMAT = "touchstone-export/1"
ROWS_MOST = 100_000
FILES = {"event": "records", "touch": "accesses", "session": "sessions", "identity": "identities", "relation": "tables"}
EARLIEST = (1980, 1, 1, 0, 0, 0)


@dataclasses.dataclass(frozen=True)
class Asked:
    """What somebody asks to be exported. Relative times in `q` count from `now`; `as_of` is the log size that was shown."""

    q: str
    by: str
    window: Window
    form: str
    now: dt.datetime
    as_of: int | None = None

    @property
    def file(self) -> str:
        return f"{FILES[self.by]}.{self.form}"


class _Sent(io.RawIOBase):
    """A file that nobody seeks in: what is written waits to be sent."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.length = 0

    def writable(self) -> bool:
        return True

    def write(self, given: Any) -> int:
        self.parts.append(bytes(given))
        self.length += len(given)
        return len(given)

    def tell(self) -> int:
        return self.length

    def taken(self) -> bytes:
        parts, self.parts = self.parts, []
        return b"".join(parts)


class _Hashed(io.RawIOBase):
    """Passes on what is written, with its hash and length."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.sha256, self.length = file, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, given: Any) -> int:
        self.sha256.update(given)
        self.length += len(given)
        self.file.write(given)
        return len(given)

    def tell(self) -> int:
        return self.length


class Export:
    """One export, ready to be sent. Raises QueryInvalid, AccessDenied, QueryTooLong when it is made."""

    def __init__(self, viewer: Viewer, asked: Asked) -> None:
        if asked.by not in FILES:
            raise errors.QueryInvalid(f"What is listed is one of {', '.join(FILES)}.", by="unknown")
        if asked.form not in cells.forms(asked.by):
            raise errors.QueryInvalid(f"The format is one of {', '.join(cells.forms(asked.by))}.", format="unknown")
        self.viewer, self.asked = viewer, asked
        self.whole = queries.Whole(viewer, asked.q, asked.window, asked.by, asked.now, asked.as_of, ROWS_MOST)

    @property
    def name(self) -> str:
        return f"touchstone-{FILES[self.asked.by]}-{self.whole.size}.zip"

    def sent(self, check: Callable[[Viewer], None] = lambda _: None) -> Iterator[bytes]:
        """The ZIP, piece by piece. The record of the export comes before its end.

        `check` is called before each piece and before the end. When it raises SeatEnded that is recorded, and what was
        sent so far is no whole ZIP.
        """
        try:
            yield from self._pieces(check)
        except errors.SeatEnded as ended:
            ledger.record_decision(
                "evidence_read",
                decided_by=self.viewer.email,
                subject=f"export {self.name}",
                transition=f"401 {ended.code}",
            )
            raise

    def _pieces(self, check: Callable[[Viewer], None]) -> Iterator[bytes]:
        out = _Sent()
        with zipfile.ZipFile(cast(IO[bytes], out), "w", zipfile.ZIP_DEFLATED) as archive:
            with archive.open(zipfile.ZipInfo(self.asked.file, EARLIEST), "w", force_zip64=True) as member:
                file = _Hashed(member)
                writer = cells.FORMS[self.asked.form](cast(IO[bytes], file), self.whole.schema)
                for rows in self.whole.pieces():
                    check(self.viewer)
                    writer.write(rows)
                    yield out.taken()
                writer.end()
            check(self.viewer)
            told = {"name": self.asked.file, "bytes": file.length, "sha256": file.sha256.hexdigest()}
            manifest = self._manifest(told)
            archive.writestr(zipfile.ZipInfo("manifest.json", EARLIEST), _written(manifest))
        yield out.taken()

    def _manifest(self, file: dict[str, Any]) -> dict[str, Any]:
        whole = self.whole
        index = record(self.viewer, file, whole.size, whole.count, self.asked.by, whole.span)
        return manifest(
            self.viewer, self.asked, file, size=whole.size, rows=whole.count, total=whole.total, columns=whole.schema.names,
            span=whole.span, coverage=whole.coverage, recorded_at=index,
        )  # fmt: skip


def of_answer(viewer: Viewer, asked: Asked, answer: Answer, body: bytes, name: str) -> bytes:
    """The manifest of one page that was written out elsewhere as `body`, whose record it makes."""
    file = {"name": name, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    indexes: list[int] = [row["index"] if "index" in row else row["last_index"] for row in answer.items]
    span = (min(indexes), max(indexes)) if indexes else (None, None)
    columns = list(dict.fromkeys(column for row in answer.items for column in row))
    index = record(viewer, file, answer.as_of, len(answer.items), asked.by, span)
    return _written(
        manifest(
            viewer, asked, file, size=answer.as_of, rows=len(answer.items), total=answer.total, columns=columns, span=span,
            coverage=answer.coverage, recorded_at=index,
        )
    )  # fmt: skip


def record(
    viewer: Viewer, file: dict[str, Any], size: int, rows: int, by: str, span: tuple[int | None, int | None]
) -> int:
    """Writes into the log that this file left, by its hash; returns the record's index. Raises EvidenceReadUnrecorded."""
    first, last = (None if one is None else str(one) for one in span)
    custody = Custody(
        type="export",
        subject=file["name"],
        detail=f"sha256 {file['sha256']}, {file['bytes']} bytes, by {by}, as of log size {size}",
        first=first,
        last=last,
        count=rows,
    )
    actor = Actor(id=viewer.email[:512], type="human" if "@" in viewer.email else "system")
    try:
        return ledger.record(Event(kind="custody", actor=actor, custody=custody)).index
    except errors.StoreUnavailable as error:
        raise errors.EvidenceReadUnrecorded from error


def manifest(
    viewer: Viewer, asked: Asked, file: dict[str, Any], *, size: int, rows: int, total: queries.Total, columns: list[str],
    span: tuple[int | None, int | None], coverage: list[queries.Coverage], recorded_at: int,
) -> dict[str, Any]:  # fmt: skip
    """What a file is the answer to, for whom, and how complete (docs/search.md, "The manifest")."""
    window = asked.window
    return {
        "format": FORMAT,
        "made_by": f"touchstone {settings.SPECTACULAR_SETTINGS['VERSION']}",
        "made_at": format_time(dt.datetime.now(dt.UTC)),
        "recorded_at_index": recorded_at,
        "query": {
            "q": asked.q, "by": asked.by, "since": _time(window.since), "until": _time(window.until),
            "environment": window.environment, "relative_times_count_from": format_time(asked.now),
        },
        "viewer": {
            "email": viewer.email, "role": viewer.role, "datasources": list(viewer.datasources),
            "environments": list(viewer.environments), "from": _time(viewer.from_at), "until": _time(viewer.until_at),
            "values": "shown" if viewer.sees_values else "withheld from this role",
        },
        "as_of": {"size": size},
        "checkpoint": _checkpoint(),
        "rows": {
            "count": rows, "total": total, "complete": total.exact and rows == total.value, "most": ROWS_MOST,
            "order": "newest first, as the page shows them", "first_index": span[0], "last_index": span[1], "columns": columns,
        },
        "file": file,
        "coverage": coverage,
    }  # fmt: skip


def _checkpoint() -> str | None:
    try:
        return tree.newest_note()
    except errors.NotFound:
        return None


def _time(at: dt.datetime | None) -> str | None:
    return format_time(at) if at else None


def _written(told: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"
