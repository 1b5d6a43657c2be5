"""`manage.py schedule add|change|pause|resume|run|send|unsend|list …`: reports that are made by themselves."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.core.management.base import CommandParser

from lineage import errors
from lineage.access import Viewer
from lineage.management.commands._told import Told, viewer
from reports import periods, planning, recipients, requests, schedules, tasks
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
        for verb in ("send", "unsend"):
            named = actions.add_parser(verb, help="names who is sent its final reports, or takes them off")
            named.add_argument("name")
            named.add_argument("--to", required=True, help="the e-mail address of a seat, or the name of a receiver")
            if verb == "send":
                named.add_argument("--attach", action="store_true", help="mails hold the file")
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
            made = self._set(who, planning.named(who, options["name"]), options)
        self.stdout.write(f"{made.name}: {_line(made)}")

    def _set(self, who: Viewer, schedule: Schedule, options: dict[str, Any]) -> Schedule:
        """What is done to a schedule that is there."""
        number = schedule.pk
        match options["action"]:
            case "run":
                report = planning.run(who, number)
                tasks.enqueue(report.pk)
                self.stdout.write(f"{report.number}: queued")
            case "change":
                return planning.change(who, number, _wanted(options))
            case "pause":
                return planning.pause(who, number)
            case "resume":
                return planning.resume(who, number, catch_up=options["catch_up"])
            case "send":
                recipients.add(who, number, options["to"], attaches=options["attach"])
            case "unsend":
                recipients.end_named(who, number, options["to"])
        return planning.one(who, number)


def _line(one: Schedule) -> str:
    sent = ", ".join(each.name for each in recipients.of(one))
    due = f"due {one.next_due_at:%Y-%m-%dT%H:%M:%SZ}" if one.next_due_at else "nothing more due"
    return f"{schedules.words_of(one)}: {due}{'' if one.enabled else ', paused'}{sent and f'; sent to {sent}'}"


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
