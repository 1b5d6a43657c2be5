"""`manage.py ask QUERY`: the daily tool."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import msgspec
from django.core.management.base import CommandParser

from lineage import cells, errors, exports, ledger, queries
from lineage.management.commands._told import Told, viewer

COLUMNS = {
    "event": ("index", "occurred_at", "who_name", "on_behalf_of", "op", "relations", "verdict", "key", "ticket", "attribution"),
    "touch": ("index", "occurred_at", "who_name", "on_behalf_of", "access", "relation", "key", "verdict", "ticket"),
    "session": ("session", "started_at", "who_name", "on_behalf_of", "statements", "rows_changed", "refused"),
    "relation": ("datasource", "relation", "reads", "readers", "writes", "writers", "rows_changed", "last_at"),
    "identity": ("id", "name", "type", "accesses", "writes", "rows_changed", "refused", "last_at"),
}  # fmt: skip


class Command(Told):
    help = "Asks the log: ask 'relation:customers key:4711'"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("query")
        parser.add_argument("--by", choices=sorted(COLUMNS), default="event")
        parser.add_argument("--format", choices=("table", "json", "csv"), default="table")
        parser.add_argument("--limit", type=int, default=50)
        parser.add_argument(
            "--manifest", type=Path, help="write here what the output (json, csv) answers, how completely, and its hash"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["manifest"] and options["format"] == "table":
            raise errors.QueryInvalid("A manifest belongs to a file: ask with --format json or csv.", format="table")
        who, by, now = viewer(), options["by"], dt.datetime.now(dt.UTC)
        ledger.record_decision("evidence_read", decided_by=who.email, subject="ask", purpose=options["query"][:1024])
        answer = queries.LISTS[by](who, options["query"], limit=options["limit"])
        if options["format"] == "table":
            self._table(answer, COLUMNS[by])
            return
        body = cells.as_csv(answer.items) if options["format"] == "csv" else msgspec.json.encode(answer.items) + b"\n"
        if options["manifest"]:
            asked = exports.Asked(options["query"], by, queries.Window(), options["format"], now, answer.as_of)
            options["manifest"].write_bytes(exports.of_answer(who, asked, answer, body, asked.file))
        self.stdout.write(body.decode(), ending="")

    def _table(self, answer: queries.Answer, columns: tuple[str, ...]) -> None:
        rows = [[cells.cell(item.get(c))[:40] for c in columns] for item in answer.items]
        widths = [max(len(c), *(len(row[n]) for row in rows), 0) for n, c in enumerate(columns)]
        for row in [list(columns), *rows]:
            self.stdout.write("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
        more = "" if answer.total.exact else "more than "
        self.stdout.write(f"{len(rows)} of {more}{answer.total.value}, as of record {answer.as_of}")
        for covered in answer.coverage:
            self.stdout.write(f"  {covered.source}: {covered.detail}")
