"""`manage.py policy`: the policy file that an auditor notes on day one."""

from typing import Any

from lineage import keys, notes
from lineage.management.commands._told import Told
from reports import signing


class Command(Told):
    help = "Prints the policy file: key names and fingerprints to verify packs and reports against."

    def handle(self, *args: Any, **options: Any) -> None:
        text = notes.make_policy(
            keys.vkey("checkpoint"), keys.vkey("receipt"), keys.vkey("report"), signing.fingerprint()
        )
        self.stdout.write(text, ending="")
