"""`manage.py seal`: checkpoint, then seal now."""

from typing import Any

from lineage import keeper, segments
from lineage.management.commands._told import Told


class Command(Told):
    help = "Seals everything under the newest checkpoint into Parquet files, now."

    def handle(self, *args: Any, **options: Any) -> None:
        keeper.once()
        with keeper.lock():
            before = segments.sealed_to()
            while segments.seal():
                pass
            self.stdout.write(f"sealed: {segments.sealed_to() - before} records, up to {segments.sealed_to()}")
