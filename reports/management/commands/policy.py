"""`manage.py policy`: the policy file that an auditor notes on day one; with each timestamp authority once it was met."""

from typing import Any

from lineage import authorities, keys, notes, witnesses
from lineage.management.commands._told import Told
from reports import signing


class Command(Told):
    help = "Prints the policy file: key names and fingerprints to verify packs and reports against."

    def handle(self, *args: Any, **options: Any) -> None:
        text = notes.make_policy(
            keys.vkey("checkpoint"), keys.vkey("receipt"), keys.vkey("report"), signing.fingerprint()
        )
        cosigning = witnesses.policy_lines()
        self.stdout.write(text.removesuffix("quorum none\n") + cosigning if cosigning else text, ending="")
        for line in authorities.policy_lines():
            self.stdout.write(line)
