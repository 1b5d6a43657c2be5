"""`manage.py merge`: renew and merge now what is due."""

from typing import Any

from lineage import locks, merging, renewing, segments
from lineage.management.commands._told import Told


class Command(Told):
    help = "Merges neighbouring sealed files into larger ones, now, as far as it is due, after renewing what an older version made."

    def handle(self, *args: Any, **options: Any) -> None:
        with locks.alone(locks.MERGE):
            before, merges, renewed = len(segments.manifest()), 0, 0
            while renewing.renew():
                renewed += 1
            while merging.merge():
                merges += 1
            self.stdout.write(f"merged: {merges} times, {before} segments before, {len(segments.manifest())} now")
            if renewed:
                self.stdout.write(f"renewed: {renewed} segments that an older version had made")
