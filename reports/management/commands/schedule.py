"""`manage.py schedule add NAME …` and `schedule list`: reports that are made by themselves."""

from typing import Any

from django.core.management.base import CommandParser

from lineage import errors
from lineage.management.commands._told import Told, viewer
from reports import requests, schedules
from reports.controls import KINDS
from reports.models import Cadence, Schedule


class Command(Told):
    help = "Adds or lists schedules of reports."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        add = actions.add_parser("add")
        add.add_argument("name")
        add.add_argument("--kind", choices=sorted(KINDS), default="privileged-access")
        add.add_argument("--cadence", choices=Cadence.values, required=True)
        add.add_argument("--from", dest="since", help="with --cadence once: start of the period")
        add.add_argument("--to", dest="until", help="with --cadence once: end of the period, not included")
        add.add_argument("--run-at", help="with --cadence once: when; default: at the period's end")
        add.add_argument("--environment", default="")
        add.add_argument("--datasource", action="append", default=[])
        actions.add_parser("list")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "list":
            for one in Schedule.objects.order_by("name"):
                due = f"{one.next_due_at:%Y-%m-%dT%H:%M:%SZ}" if one.next_due_at else "nothing more due"
                self.stdout.write(f"{one.name} {one.kind} {one.cadence} {due}{'' if one.enabled else ' off'}")
            return
        period = None
        if options["since"] or options["until"]:
            if not (options["since"] and options["until"]):
                raise errors.QueryInvalid("Give both --from and --to.")
            period = (requests.moment(options["since"], "from"), requests.moment(options["until"], "to"))
        run_at = requests.moment(options["run_at"], "run-at") if options["run_at"] else None
        made = schedules.add(
            viewer(), options["name"], options["kind"], options["cadence"],
            run_at=run_at, period=period, scope=(options["environment"], tuple(options["datasource"])),
        )  # fmt: skip
        self.stdout.write(f"{made.name}: due {made.next_due_at:%Y-%m-%dT%H:%M:%SZ}")
