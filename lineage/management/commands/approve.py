"""`manage.py approve REQUEST --reason …`: a held statement is approved, rejected or reviewed (docs/held.md)."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from lineage import held
from lineage.management.commands import _told


class Command(_told.Told):
    help = "Decides about a statement that a gateway holds; without a request it lists those that wait."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("request", nargs="?", help="the request's id, as the client was told it")
        parser.add_argument("--reason", default="", help="why; it stays in the log")
        deed = parser.add_mutually_exclusive_group()
        deed.add_argument("--reject", action="store_true")
        deed.add_argument(
            "--break-glass", action="store_true", help="in an emergency, as admin: no cap, and a review is due"
        )
        deed.add_argument(
            "--review", action="store_true", help="broken glass was looked at; --reason says what was found"
        )
        parser.add_argument(
            "--minutes", type=int, default=held.MINUTES, help=f"how long it may be run ({held.MINUTES})"
        )
        parser.add_argument("--rows", type=int, help="the most rows; else the rule's")
        _told.add_person(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        viewer = _told.person(options, "approval")
        if not options["request"]:
            for one in held.in_scope(viewer).filter(state="requested"):
                self.stdout.write(
                    f"{one.request_id}\t{one.asked_at:%Y-%m-%d %H:%M:%S}\t{held.name_of(one.requested_by)}\t{one.sentence}"
                )
            return
        if options["review"]:
            held.review(viewer, options["request"], options["reason"])
            self.stdout.write(f"{options['request']}\treviewed")
            return
        verdict: held.Verdict = (
            "rejected" if options["reject"] else "break_glass" if options["break_glass"] else "approved"
        )
        done = held.decide(
            viewer, options["request"], verdict, options["reason"], minutes=options["minutes"], row_cap=options["rows"]
        )
        until = f"\tuntil {done.expires_at:%Y-%m-%d %H:%M:%S} UTC" if done.expires_at else ""
        self.stdout.write(f"{done.request_id}\t{done.state}{until}")
