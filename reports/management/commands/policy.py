"""`manage.py policy`: the policy file that an auditor notes on day one; with each timestamp authority once it was met."""

from typing import Any

from lineage.management.commands._told import Told
from reports import policies


class Command(Told):
    help = "Prints the policy file: key names and fingerprints to verify packs and reports against."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(policies.text(), ending="")
