"""`manage.py schedule add|change|pause|resume|run|list …`: reports that are made by themselves."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.core.management.base import CommandParser

from lineage import errors
from lineage.management.commands._told import Told, viewer
from reports import periods, planning, requests, schedules, tasks
from reports.controls import KINDS
from reports.models import Cadence, Schedule
from reports.schedules import Wanted


class Command(Told):
    help = (
        "Adds schedules of reports, sets them otherwise, pauses them, lets them go on, runs them now, and lists them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        for verb in ("add", "change"):
            wanted = actions.add_parser(verb)
            wanted.add_argument("name")
            wanted.add_argument("--kind", choices=sorted(KINDS), default="privileged-access")
            wanted.add_argument("--cadence", choices=Cadence.values, required=True)
            wanted.add_argument(
                "--zone", default="", help="whole days of this zone, such as Europe/Berlin; default: UTC"
            )
            wanted.add_argument("--every", type=int, help="with --cadence custom: how many …")
            wanted.add_argument("--unit", choices=list(periods.LONGEST), default="", help="… days, weeks or months")
            wanted.add_argument("--anchor", help="with --cadence custom: a day on which a period begins")
            wanted.add_argument("--from", dest="since", help="with --cadence once: start of the period")
            wanted.add_argument("--to", dest="until", help="with --cadence once: end of the period, not included")
            wanted.add_argument("--run-at", help="with --cadence once: when; default: at the period's end")
            wanted.add_argument("--late-days", type=int, default=schedules.LATE_DAYS, help="late after so many days")
            wanted.add_argument("--environment", default="")
            wanted.add_argument("--datasource", action="append", default=[])
        for verb in ("pause", "resume", "run"):
            named = actions.add_parser(verb)
            named.add_argument("name")
            if verb == "resume":
                named.add_argument("--catch-up", action="store_true", help="make what was due meanwhile")
        actions.add_parser("list")

    def handle(self, *args: Any, **options: Any) -> None:
        action, who = options["action"], viewer()
        if action == "list":
            for one in Schedule.objects.order_by("name"):
                self.stdout.write(f"{one.name} {one.kind} {_line(one)}")
            return
        if action == "add":
            made = planning.add(who, options["name"], _wanted(options))
        else:
            number = planning.named(who, options["name"]).pk
            if action == "run":
                report = planning.run(who, number)
                tasks.enqueue(report.pk)
                self.stdout.write(f"{report.number}: queued")
                return
            if action == "change":
                made = planning.change(who, number, _wanted(options))
            elif action == "pause":
                made = planning.pause(who, number)
            else:
                made = planning.resume(who, number, catch_up=options["catch_up"])
        self.stdout.write(f"{made.name}: {_line(made)}")


def _line(one: Schedule) -> str:
    due = f"due {one.next_due_at:%Y-%m-%dT%H:%M:%SZ}" if one.next_due_at else "nothing more due"
    return f"{schedules.words_of(one)}: {due}{'' if one.enabled else ', paused'}"


def _wanted(options: dict[str, Any]) -> Wanted:
    """What the options ask for. Raises QueryInvalid."""
    cadence, rhythm, period = options["cadence"], None, None
    if cadence != Cadence.ONCE:
        anchor = _day(options["anchor"]) if options["anchor"] else None
        rhythm = periods.rhythm(cadence, options["zone"], options["every"], options["unit"], anchor)
    if options["since"] or options["until"]:
        if not (options["since"] and options["until"]):
            raise errors.QueryInvalid("Give both --from and --to.")
        period = (requests.moment(options["since"], "from"), requests.moment(options["until"], "to"))
    run_at = requests.moment(options["run_at"], "run-at") if options["run_at"] else None
    scope = (options["environment"], tuple(options["datasource"]))
    return Wanted(options["kind"], cadence, rhythm, period, run_at, scope, options["late_days"])


def _day(text: str) -> dt.date:
    return requests.day(text, "anchor")
