"""`manage.py merge`: not available yet."""

from typing import Any

from lineage import errors
from lineage.management.commands._told import Told


class Command(Told):
    help = "Merges segments (not available yet)."

    def handle(self, *args: Any, **options: Any) -> None:
        raise errors.NotAvailableYet("Merging segments is not available yet; sealing is (`bin/manage seal`).")
