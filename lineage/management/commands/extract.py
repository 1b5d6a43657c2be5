"""`manage.py extract`: make and merge extracts now."""

from typing import Any

from django.core.management.base import CommandParser

from lineage import locks
from lineage.extracts import making, merging, storing
from lineage.management.commands._told import Told


class Command(Told):
    help = "Makes the extracts that questions are answered from of all that is sealed, and merges them, now."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--anew", action="store_true", help="leave those that there are")

    def handle(self, *args: Any, **options: Any) -> None:
        with locks.alone(locks.EXTRACT):
            if options["anew"]:
                storing.leave()
            made = merged = 0
            while making.make():
                made += 1
            while merging.merge():
                merged += 1
            every = storing.manifest()
        reached = every[-1].following if every else 0
        self.stdout.write(f"extracts: {made} made, {merged} times merged, {len(every)} now, up to {reached}")
