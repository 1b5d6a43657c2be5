"""`manage.py receiver set|list`: who is told of findings. Prints a new secret, alone, on stdout."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from lineage.finding_models import Receiver
from lineage.findings import receivers
from lineage.findings.rules import SEVERITIES
from lineage.management.commands._told import Told, viewer


class Command(Told):
    help = "Sets who is told of findings or sent reports, and lists them. A new webhook's secret is printed, alone, on stdout."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        wanted = verbs.add_parser("set")
        wanted.add_argument("name")
        wanted.add_argument("--kind", choices=receivers.KINDS, default="webhook")
        wanted.add_argument("--address", required=True)
        wanted.add_argument("--severity", choices=(*SEVERITIES, receivers.NO_FINDINGS), default="high")
        for many in ("rules", "environments", "datasources"):
            wanted.add_argument(f"--{many[:-1]}", action="append", default=[], dest=many)
        wanted.add_argument("--off", action="store_true")
        wanted.add_argument("--new-secret", action="store_true")
        wanted.add_argument("--reason", required=True)
        verbs.add_parser("list")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["verb"] == "list":
            for one in Receiver.objects.order_by("name"):
                state = "on" if one.is_on else "off"
                self.stdout.write(
                    f"{one.name}\t{one.kind}\t{receivers.shown_address(one)}\tfrom {one.severity}\t{state}"
                )
            return
        names = ("name", "kind", "address", "severity", "rules", "environments", "datasources", "new_secret")
        given = {name: options[name] for name in names} | {"is_on": not options["off"]}
        _, secret = receivers.establish(viewer(), given, options["reason"])
        if secret:
            self.stdout.write(secret)
