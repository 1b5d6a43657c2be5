"""`manage.py hold add|release|list`: what must be neither erased nor expire (docs/erasure.md)."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from lineage import holds
from lineage.management.commands import _told


class Command(_told.Told):
    help = "Holds records against erasure and retention: one person places a hold, two release it."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        add = verbs.add_parser("add")
        add.add_argument("query", nargs="?", default="")
        add.add_argument("--reason", required=True)
        add.add_argument("--first", type=int, help="instead of a search, or within it: the first record")
        add.add_argument("--last", type=int)
        release = verbs.add_parser("release")
        release.add_argument("number", type=int)
        verbs.add_parser("list")
        _told.add_person(add)
        _told.add_person(release)

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['verb']}")(options)

    def _add(self, options: dict[str, Any]) -> None:
        viewer = _told.person(options, "hold")
        number = holds.add(viewer, options["query"], options["reason"], options["first"], options["last"])
        self.stdout.write(str(number))

    def _release(self, options: dict[str, Any]) -> None:
        released = holds.release(_told.person(options, "hold"), options["number"])
        self.stdout.write("released" if released else "The release is asked for; another person gives it.")

    def _list(self, options: dict[str, Any]) -> None:
        for hold in holds.listing():
            state = "released" if hold.released_at else "release asked for" if hold.release_at else "stands"
            self.stdout.write(f"{hold.id}\t{state}\t{hold.records} records\tplaced by {hold.placed_by}\t{hold.reason}")
