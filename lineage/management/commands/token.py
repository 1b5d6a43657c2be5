"""`manage.py token add|revoke|list`: API tokens with a name, a scope and an end."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from lineage import api_tokens, seats
from lineage.management.commands._told import Told, moment, viewer


class Command(Told):
    help = "Makes, revokes and lists API tokens. `add` prints the token, alone; its scope only narrows its owner's."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        add = verbs.add_parser("add")
        add.add_argument("email", help="whose: an e-mail address, or a service's name")
        add.add_argument("--name", required=True, help="what it is for")
        add.add_argument("--datasource", action="append", default=[])
        add.add_argument("--environment", action="append", default=[])
        add.add_argument("--from", dest="from_at", help="only records from this time")
        add.add_argument("--until", dest="until_at", help="only records before this time")
        add.add_argument("--expires", dest="expires_at", help="when it ends, within a year; else with its owner's seat")
        revoke = verbs.add_parser("revoke")
        revoke.add_argument("number", type=int)
        verbs.add_parser("list")

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['verb']}")(options)

    def _add(self, options: dict[str, Any]) -> None:
        wanted = api_tokens.Wanted(
            name=options["name"], datasources=tuple(options["datasource"]), environments=tuple(options["environment"]),
            from_at=moment(options["from_at"]), until_at=moment(options["until_at"]), expires_at=moment(options["expires_at"]),
        )  # fmt: skip
        self.stdout.write(api_tokens.make(viewer(), seats.named(options["email"]), wanted))

    def _revoke(self, options: dict[str, Any]) -> None:
        api_tokens.revoke(viewer(), options["number"])
        self.stdout.write(f"Token {options['number']} is revoked.")

    def _list(self, options: dict[str, Any]) -> None:
        for one in api_tokens.listed(viewer()):
            used = f"last used {one.used_at:%Y-%m-%d}" if one.used_at else "never used"
            ends = f"ends {one.expires_at:%Y-%m-%d}" if one.expires_at else "ends with the seat"
            self.stdout.write(f"{one.pk}\t{one.user.email}\t{one.name}\t{ends}\t{used}")
