"""`manage.py merge`: merge now what is due."""

from typing import Any

from lineage import locks, merging, segments
from lineage.management.commands._told import Told


class Command(Told):
    help = "Merges neighbouring sealed files into larger ones, now, as far as it is due."

    def handle(self, *args: Any, **options: Any) -> None:
        with locks.alone(locks.MERGE):
            before, merges = len(segments.manifest()), 0
            while merging.merge():
                merges += 1
            self.stdout.write(f"merged: {merges} times, {before} segments before, {len(segments.manifest())} now")
