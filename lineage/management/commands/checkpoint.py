"""`manage.py checkpoint`: signs now."""

from typing import Any

from lineage import keeper
from lineage.management.commands._told import Told


class Command(Told):
    help = "Signs a checkpoint over everything in the log, now."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"signed: {keeper.once()} records")
