"""`manage.py reference import identities FILE --as-of T`: whose login is whose."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction

from lineage import errors, events, ledger
from lineage.management.commands._told import Told, operator
from lineage.models import Identity

COLUMNS = ("datasource", "db_user", "id", "name", "email", "type")
KINDS = ("identities", "databases", "tickets", "owners", "tags")


class Command(Told):
    help = "Imports reference data. Each import is a configuration record with the file's hash."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        load = verbs.add_parser("import")
        load.add_argument("kind", choices=KINDS)
        load.add_argument("file", type=Path)
        load.add_argument("--as-of", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["kind"] != "identities":
            raise errors.NotAvailableYet(f"Importing {options['kind']} is not available yet; identities are.")
        try:
            as_of = events.parse_time(options["as_of"])
            raw = options["file"].read_bytes()
            rows = list(csv.DictReader(raw.decode("utf-8-sig").splitlines()))
        except (OSError, ValueError) as error:
            raise errors.SettingsInvalid(f"The file or --as-of cannot be read: {error}") from error
        for line, row in enumerate(rows, 2):
            if set(COLUMNS) - set(row) or not row["db_user"] or not row["id"]:
                raise errors.SettingsInvalid(f"Line {line}: every row needs {', '.join(COLUMNS)}.")
            if row["type"] not in ("human", "service", "agent", "system"):
                raise errors.SettingsInvalid(f"Line {line}: type is human, service, agent or system.")
        with transaction.atomic():
            ledger.record_decision(
                "configuration",
                decided_by=operator(),
                subject="reference identities",
                transition=f"imported {len(rows)} as of {options['as_of']}",
                purpose=f"sha256={hashlib.sha256(raw).hexdigest()}",
            )
            for row in rows:
                Identity.objects.update_or_create(
                    datasource=row["datasource"],
                    db_user=row["db_user"],
                    as_of=as_of,
                    defaults={
                        "person_id": row["id"], "name": row["name"] or row["id"], "email": row["email"], "type": row["type"],
                    },
                )  # fmt: skip
        self.stdout.write(f"{len(rows)} identities as of {options['as_of']}")
