"""`manage.py reference import identities|databases|tickets|owners|tags FILE --as-of T`, CSV or JSON.

Whose login is whose; which databases there are; which tickets; who answers for databases; which classes columns have.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import CommandParser
from django.db import transaction

from lineage import errors, events, inventory, ledger, mappings, tagging, tickets
from lineage.management.commands._told import Told, operator
from lineage.models import Tag

COLUMNS = ("datasource", "db_user", "id", "name", "email", "type")
TAG_COLUMNS = ("datasource", "relation", "column", "classes")
NO_CLASS = "none"


Row = dict[str, str]


def _check_identity(row: Row, as_of: dt.datetime) -> str:
    """What is wrong with a row; empty where nothing is."""
    if set(COLUMNS) - set(row) or not row["db_user"] or not row["id"]:
        return f"every row needs {', '.join(COLUMNS)}."
    return "" if row["type"] in ("human", "service", "agent", "system") else "type is human, service, agent or system."


def _check_tag(row: Row, as_of: dt.datetime) -> str:
    """What is wrong with a row; empty where nothing is."""
    if set(TAG_COLUMNS) - set(row) or not all(row[name] for name in TAG_COLUMNS):
        return f"every row needs {', '.join(TAG_COLUMNS)}; the class none says that a column has none."
    if "." not in row["relation"]:
        return f"relation is schema.table, not {row['relation'][:60]}."
    words = row["classes"].split()
    if NO_CLASS in words and len(words) > 1:
        return "none stands alone."
    return (
        ""
        if all(re.fullmatch(r"[a-z][a-z0-9_]{0,39}", one) for one in words)
        else "a class is written like date_of_birth."
    )


def _keep_identity(row: Row, as_of: dt.datetime) -> None:
    person = mappings.Person(row["id"], row["name"], row["email"], row["type"], row.get("owner") or "")
    try:
        mappings.keep(row["datasource"], row["db_user"], person, as_of, operator())
    except errors.MappingInvalid as error:
        raise errors.MappingInvalid(
            f"{row['datasource']} {row['db_user']}: {error.message} Nothing was imported."
        ) from error


def _keep_tag(row: Row, as_of: dt.datetime) -> None:
    """The newest import of a column counts; one that says what is known already is no record."""
    classes = sorted(set(row["classes"].split()) - {NO_CLASS})
    place = {name: row[name] for name in ("datasource", "relation", "column")}
    if not Tag.objects.filter(**place, classes=classes).exists():
        tagging.keep(**place, classes=classes, by=operator(), why=f"imported as of {as_of.isoformat()}")


def _keep_database(row: Row, as_of: dt.datetime) -> None:
    inventory.keep_database(row, as_of, operator())


def _keep_owner(row: Row, as_of: dt.datetime) -> None:
    inventory.keep_owner(row, as_of, operator())


def _keep_tickets(rows: Sequence[Row], as_of: dt.datetime) -> None:
    tickets.keep_tickets(rows, as_of, operator())


def _each(keep: Callable[[Row, dt.datetime], None]) -> Callable[[Sequence[Row], dt.datetime], None]:
    def keep_all(rows: Sequence[Row], as_of: dt.datetime) -> None:
        for row in rows:
            keep(row, as_of)

    return keep_all


IMPORTS = {
    "identities": (_check_identity, _each(_keep_identity)), "tags": (_check_tag, _each(_keep_tag)),
    "databases": (inventory.check_database, _each(_keep_database)), "owners": (inventory.check_owner, _each(_keep_owner)),
    "tickets": (tickets.check_ticket, _keep_tickets),
}  # fmt: skip
KINDS = tuple(IMPORTS)


def _rows(raw: bytes, is_json: bool) -> list[tuple[str, Row]]:
    """The rows of a CSV with a header line, or of a JSON array of objects with text members, each with its place. Raises ValueError."""
    text = raw.decode("utf-8-sig")
    if is_json:
        found = msgspec.json.decode(text, type=list[dict[str, str | None]])
        rows = [(f"Item {n}", {name: value or "" for name, value in row.items()}) for n, row in enumerate(found, 1)]
    else:
        rows = _lines(text)
    if "\0" in text or any("\0" in cell for _, row in rows for pair in row.items() for cell in pair):
        raise ValueError("it holds a NUL character")
    return rows


def _lines(text: str) -> list[tuple[str, Row]]:
    """A cell beyond the header stands under a column without a name."""
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
        header = [name for name in reader.fieldnames or () if name]
        if len(set(header)) != len(header):
            raise ValueError("a column stands twice in its header")
        return [
            (f"Line {reader.line_num}", {name: cell if isinstance(cell, str) else "" for name, cell in row.items()})
            for row in reader
        ]
    except csv.Error as error:
        raise ValueError(f"it is no CSV: {error}") from error


class Command(Told):
    help = "Imports reference data. Each import is a configuration record with the file's hash."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        load = verbs.add_parser("import")
        load.add_argument("kind", choices=KINDS)
        load.add_argument("file", type=Path)
        load.add_argument("--as-of", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        kind = options["kind"]
        check, keep = IMPORTS[kind]
        try:
            as_of = events.parse_time(options["as_of"])
            raw = options["file"].read_bytes()
            rows = _rows(raw, options["file"].suffix.lower() == ".json")
        except (OSError, ValueError) as error:
            raise errors.SettingsInvalid(f"The file or --as-of cannot be read: {error}") from error
        if as_of > dt.datetime.now(dt.UTC) and kind == "tickets":
            raise errors.SettingsInvalid(
                "--as-of is a time to come: name when the tickets were read. Nothing was imported."
            )
        for place, row in rows:
            if wrong := check(row, as_of):
                raise errors.SettingsInvalid(f"{place}: {wrong} Nothing was imported.")
        with transaction.atomic():
            ledger.record_decision(
                "configuration",
                decided_by=operator(),
                subject=f"reference {kind}",
                transition=f"imported {len(rows)} as of {options['as_of']}",
                purpose=f"sha256={hashlib.sha256(raw).hexdigest()}",
            )
            keep([row for _, row in rows], as_of)
        self.stdout.write(f"{len(rows)} {kind} as of {options['as_of']}")
