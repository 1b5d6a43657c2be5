"""`manage.py source add|revoke|list`: feeds and their tokens."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from lineage import feeds
from lineage.management.commands._told import Told, viewer


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


class Command(Told):
    help = "Adds or revokes a source. `add` prints the ingest token, alone."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        add = verbs.add_parser("add")
        add.add_argument("name")
        add.add_argument("--format", required=True)
        add.add_argument("--environment", default="default")
        add.add_argument("--datasource", default="")
        add.add_argument("--asserts", default="", help=f"comma-separated: {', '.join(feeds.ASSERTIONS)}")
        add.add_argument("--context-roles", default="", help="logins whose context messages are believed")
        revoke = verbs.add_parser("revoke")
        revoke.add_argument("name")
        verbs.add_parser("list")

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['verb']}")(options)

    def _add(self, options: dict[str, Any]) -> None:
        wanted = feeds.Wanted(
            name=options["name"], format=options["format"], environment=options["environment"],
            datasource=options["datasource"], asserts=_list(options["asserts"]),
            context_roles=_list(options["context_roles"]),
        )  # fmt: skip
        self.stdout.write(feeds.add(viewer(), wanted))

    def _revoke(self, options: dict[str, Any]) -> None:
        feeds.revoke(viewer(), options["name"])
        self.stdout.write(f"{options['name']} is revoked.")

    def _list(self, options: dict[str, Any]) -> None:
        for source in feeds.listed(viewer()):
            state = "revoked" if source.revoked_at else "active"
            self.stdout.write(f"{source.name}\t{source.format}\t{source.environment}\t{source.datasource}\t{state}")
