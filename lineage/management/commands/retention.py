"""`manage.py retention set|approve|stop|run|list`: values expire by policy; the default keeps everything (docs/erasure.md)."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from lineage import erasures, keeper, retention
from lineage.events import GROUPS
from lineage.management.commands import _told


class Command(_told.Told):
    help = "Lets values expire: one person sets a policy, another approves it, `run` purges. Leaves are never purged."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        propose = verbs.add_parser("set")
        propose.add_argument("query", nargs="?", default="", help="a search; empty is everything")
        propose.add_argument("--days", type=int, required=True, help="the age, by receive time")
        propose.add_argument("--groups", default=",".join(GROUPS))
        propose.add_argument("--reason", required=True)
        propose.add_argument("--ground", required=True)
        for verb in ("approve", "stop"):
            verbs.add_parser(verb).add_argument("number", type=int)
        verbs.add_parser("run")
        verbs.add_parser("list")
        for verb in ("set", "approve", "stop"):
            _told.add_person(verbs.choices[verb])

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['verb']}")(options)

    def _set(self, options: dict[str, Any]) -> None:
        number = retention.propose(
            _told.person(options, "retention"),
            options["query"],
            options["days"],
            reason=options["reason"],
            ground=options["ground"],
            groups=[group.strip() for group in options["groups"].split(",") if group.strip()],
        )
        self.stdout.write(str(number))

    def _approve(self, options: dict[str, Any]) -> None:
        retention.approve(_told.person(options, "retention"), options["number"])
        self.stdout.write(f"policy {options['number']} is valid")

    def _stop(self, options: dict[str, Any]) -> None:
        retention.stop(_told.person(options, "retention"), options["number"])
        self.stdout.write(f"policy {options['number']} is stopped")

    def _run(self, options: dict[str, Any]) -> None:
        with keeper.lock():
            made = retention.run()
            erasures.run_due()
        purged = sum(erasures.one(number).records for number in made)
        self.stdout.write(f"{purged} records purged" if made else "Nothing has expired; everything is kept.")

    def _list(self, options: dict[str, Any]) -> None:
        for policy in retention.listing():
            self.stdout.write(
                f"{policy.id}\t{policy.state}\t{policy.days} days\t{', '.join(policy.groups)}\tset by {policy.set_by}"
                f"{f', approved by {policy.approved_by}' if policy.approved_by else ''}\t{policy.reason}"
            )
