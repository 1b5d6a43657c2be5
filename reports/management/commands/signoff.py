"""`manage.py signoff set|list …`: what sign-off is asked for, and what waits for whom. Nobody signs here: that is done in person."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from lineage import errors
from lineage.management.commands._told import Told, viewer
from reports import planning, review_plans, reviews
from reports.review_models import Part, SignOffPlan
from reports.review_plans import Step


class Command(Told):
    help = "Says who signs the reports of a kind or of a schedule, and lists it with what waits."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        wanted = actions.add_parser("set", help="without --step none is asked for any more")
        wanted.add_argument("kind", nargs="?", default="", help="the kind of report; or --schedule")
        wanted.add_argument("--schedule", default="", help="only the reports of the schedule of this name")
        wanted.add_argument(
            "--step",
            action="append",
            default=[],
            metavar="PART:EMAIL:DAYS[:SECOND]",
            help=f"part: {', '.join(Part.values)}",
        )
        wanted.add_argument("--if-empty", action="store_true", help="approve a report in which nothing occurred")
        wanted.add_argument("--reason", required=True)
        actions.add_parser("list")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "set":
            schedule = planning.named(viewer(), options["schedule"]) if options["schedule"] else None
            kind = schedule.kind if schedule else options["kind"]
            steps = [_step(text) for text in options["step"]]
            review_plans.establish(
                viewer(), kind, schedule, steps, if_empty=options["if_empty"], reason=options["reason"]
            )
        for plan in review_plans.visible(viewer()):
            self.stdout.write(f"{_about(plan)}: {'; '.join(review_plans.value(plan)['steps'])}")
        if options["action"] == "list":
            for step in reviews.waiting(viewer()):
                who = " or ".join(reviews.signers(step)) or "nobody who may"
                self.stdout.write(
                    f"{step.report.number} waits for {reviews.label(step)} {who} until {step.due_at:%Y-%m-%d %H:%M} UTC"
                )


def _about(plan: SignOffPlan) -> str:
    return f"schedule {plan.schedule.name}" if plan.schedule else plan.kind


def _step(text: str) -> Step:
    """PART:EMAIL:DAYS[:SECOND]. Raises QueryInvalid."""
    part, _, rest = text.partition(":")
    person, _, rest = rest.partition(":")
    days, _, second = rest.partition(":")
    if not (person and days.isdecimal() and len(days) <= 4):
        raise errors.QueryInvalid(
            "Write a step as PART:EMAIL:DAYS[:SECOND], such as approver:anna@shop.example:5.", step=text[:100]
        )
    return Step(part, person, int(days), second)
