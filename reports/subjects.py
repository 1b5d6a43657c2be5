"""Who is a subject of a report: whoever acted, was acted for, or asked for or gave an approval in its population."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lineage.models import Identity

NAMES = ("who_id", "who_email", "on_behalf_of", "requested_by")
LISTS = ("approvers",)
TABLES = ("population", "decisions")
ROWS_AT_ONCE = 50_000


def of(folder: Path) -> frozenset[str]:
    """The names, in small letters, in the frozen tables of a report. Whose files are gone: nobody is known."""
    found: set[str] = set()
    for table in TABLES:
        path = folder / f"{table}.parquet"
        if path.exists():
            found |= _in_file(path)
    return frozenset(found)


def _in_file(path: Path) -> set[str]:
    file, found = pq.ParquetFile(path), set[str]()
    columns = [name for name in (*NAMES, *LISTS, "approval") if name in file.schema_arrow.names]
    for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
        for name in columns:
            column = batch.column(name)
            values = pc.unique(pc.list_flatten(column) if name in LISTS else column).to_pylist()
            found |= _folded(_of_approvals(values) if name == "approval" else values)
    return found


def _of_approvals(values: Iterable[str | None]) -> Iterable[Any]:
    """Who asked for and who gave the approvals that accesses carry with them."""
    for value in values:
        told = msgspec.json.decode(value) if value else {}
        yield told.get("requested_by")
        yield from told.get("approvers") or ()


def _folded(values: Iterable[Any]) -> set[str]:
    return {value.strip().casefold() for value in values if isinstance(value, str) and value.strip()}


def names_of(email: str) -> frozenset[str]:
    """By which names a person of this address may stand in records: the address, and whose logins are theirs."""
    mapped = Identity.objects.filter(email__iexact=email).values_list("person_id", "email")
    return frozenset(_folded([email, *(name for row in mapped for name in row)]))
