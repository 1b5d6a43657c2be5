"""`manage.py reference import identities|tags|databases|owners FILE --as-of T`, CSV or JSON.

Whose login is whose; which classes columns have; which databases there are; who answers for them.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import re
from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import CommandParser
from django.db import transaction

from lineage import errors, events, inventory, ledger, mappings
from lineage.management.commands._told import Told, operator
from lineage.models import Tag

COLUMNS = ("datasource", "db_user", "id", "name", "email", "type")
TAG_COLUMNS = ("datasource", "relation", "column", "classes")
NO_CLASS = "none"
KINDS = ("identities", "databases", "tickets", "owners", "tags")


Row = dict[str, str]


def _check_identity(row: Row) -> str:
    """What is wrong with a row; empty where nothing is."""
    if set(COLUMNS) - set(row) or not row["db_user"] or not row["id"]:
        return f"every row needs {', '.join(COLUMNS)}."
    return "" if row["type"] in ("human", "service", "agent", "system") else "type is human, service, agent or system."


def _check_tag(row: Row) -> str:
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
    person = mappings.Person(row["id"], row["name"], row["email"], row["type"])
    try:
        mappings.keep(row["datasource"], row["db_user"], person, as_of, operator())
    except errors.MappingInvalid as error:
        raise errors.MappingInvalid(
            f"{row['datasource']} {row['db_user']}: {error.message} Nothing was imported."
        ) from error


def _keep_tag(row: Row, as_of: dt.datetime) -> None:
    """The newest import of a column counts: what it had before is in the log by the hash of the file."""
    classes = sorted(set(row["classes"].split()) - {NO_CLASS})
    Tag.objects.update_or_create(
        datasource=row["datasource"],
        relation=row["relation"],
        column=row["column"],
        defaults={"classes": classes, "by": operator()},
    )


def _keep_database(row: Row, as_of: dt.datetime) -> None:
    inventory.keep_database(row, as_of, operator())


def _keep_owner(row: Row, as_of: dt.datetime) -> None:
    inventory.keep_owner(row, as_of, operator())


IMPORTS = {
    "identities": (_check_identity, _keep_identity), "tags": (_check_tag, _keep_tag),
    "databases": (inventory.check_database, _keep_database), "owners": (inventory.check_owner, _keep_owner),
}  # fmt: skip


def _rows(raw: bytes, is_json: bool) -> list[Row]:
    """The rows of a CSV with a header line, or of a JSON array of objects with text members. Raises ValueError."""
    text = raw.decode("utf-8-sig")
    if "\0" in text:
        raise ValueError("it holds a NUL character")
    if not is_json:
        return [{k: v or "" for k, v in row.items() if isinstance(k, str)} for row in csv.DictReader(io.StringIO(text))]
    found = msgspec.json.decode(text, type=list[dict[str, str | None]])
    return [{name: value or "" for name, value in row.items()} for row in found]


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
        if kind not in IMPORTS:
            raise errors.NotAvailableYet(f"Importing {kind} is not available yet; {' and '.join(IMPORTS)} are.")
        check, keep = IMPORTS[kind]
        try:
            as_of = events.parse_time(options["as_of"])
            raw = options["file"].read_bytes()
            rows = _rows(raw, options["file"].suffix.lower() == ".json")
        except (OSError, ValueError) as error:
            raise errors.SettingsInvalid(f"The file or --as-of cannot be read: {error}") from error
        for line, row in enumerate(rows, 2):
            if wrong := check(row):
                raise errors.SettingsInvalid(f"Line {line}: {wrong} Nothing was imported.")
        with transaction.atomic():
            ledger.record_decision(
                "configuration",
                decided_by=operator(),
                subject=f"reference {kind}",
                transition=f"imported {len(rows)} as of {options['as_of']}",
                purpose=f"sha256={hashlib.sha256(raw).hexdigest()}",
            )
            for row in rows:
                keep(row, as_of)
        self.stdout.write(f"{len(rows)} {kind} as of {options['as_of']}")
