"""`manage.py override ask|grant|list`: lets a blocked report stand; two people, each by name (docs/reports.md)."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from lineage.management.commands import _told
from reports import overrides, tasks
from reports.models import Override


class Command(_told.Told):
    help = "Lets a report that does not reconcile stand all the same: one person asks and says why, another grants it."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        ask = verbs.add_parser("ask")
        ask.add_argument("report", type=int, help="the number without its letters: 7 for PA-0007")
        ask.add_argument("--reason", required=True, help="why it may stand; printed on its cover")
        grant = verbs.add_parser("grant")
        grant.add_argument("report", type=int)
        verbs.add_parser("list")
        for verb in (ask, grant):
            _told.add_person(verb)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["verb"] == "list":
            self._list()
            return
        viewer = _told.person(options, "configuration")
        if options["verb"] == "ask":
            overrides.ask(viewer, options["report"], options["reason"])
            self.stdout.write("The override is asked for; another person grants it.")
            return
        report = overrides.grant(viewer, options["report"])
        tasks.enqueue(report.pk)
        self.stdout.write(f"granted; {report.number} is made again by the worker")

    def _list(self) -> None:
        for one in Override.objects.select_related("report").order_by("pk"):
            state = f"granted by {one.granted_by}" if one.granted_at else "asked for"
            self.stdout.write(f"{one.report.number}\t{state}\tasked by {one.asked_by}\t{one.reason}")
