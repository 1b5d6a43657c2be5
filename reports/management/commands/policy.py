"""`manage.py policy`: the policy file that an auditor notes on day one; with each timestamp authority once it was met."""

from typing import Any

from lineage import authorities, keys, notes, witnesses
from lineage.management.commands._told import Told
from reports import signing


def replaced() -> list[str]:
    """Lines for keys that were replaced: log keys with the last size that they signed, others while they count."""
    lines = []
    for each in keys.publics("checkpoint")[1:]:
        lines.append(f"log {each.vkey}\n")
        if each.size is not None:
            lines.append(f"log-until {'+'.join(each.vkey.split('+')[:2])} {each.size}\n")
    for name in ("receipt", "report"):
        lines += [f"{name} {each.vkey}\n" for each in keys.publics(name)[1:] if each.in_force]
    return lines


class Command(Told):
    help = "Prints the policy file: key names and fingerprints to verify packs and reports against."

    def handle(self, *args: Any, **options: Any) -> None:
        text = notes.make_policy(
            keys.vkey("checkpoint"), keys.vkey("receipt"), keys.vkey("report"), signing.fingerprint()
        )
        cosigning = witnesses.policy_lines()
        self.stdout.write(text.removesuffix("quorum none\n") + cosigning if cosigning else text, ending="")
        for line in (*replaced(), *authorities.policy_lines()):
            self.stdout.write(line)
