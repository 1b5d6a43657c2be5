"""The policy file: key names and fingerprints that an auditor notes on day one, and checks packs and reports against."""

from __future__ import annotations

from lineage import authorities, keys, notes, witnesses
from reports import signing


def text() -> str:
    """The whole file, with keys that were replaced, witnesses, and each timestamp authority once it was met."""
    made = notes.make_policy(keys.vkey("checkpoint"), keys.vkey("receipt"), keys.vkey("report"), signing.fingerprint())
    cosigning = witnesses.policy_lines()
    first = made.removesuffix("quorum none\n") + cosigning if cosigning else made
    return "".join([first, *_replaced(), *authorities.policy_lines()])


def _replaced() -> list[str]:
    """Lines for keys that were replaced: log keys with the last size that they signed, others while they count."""
    lines = []
    for each in keys.publics("checkpoint")[1:]:
        lines.append(f"log {each.vkey}\n")
        if each.size is not None:
            lines.append(f"log-until {'+'.join(each.vkey.split('+')[:2])} {each.size}\n")
    for name in ("receipt", "report"):
        lines += [f"{name} {each.vkey}\n" for each in keys.publics(name)[1:] if each.in_force]
    return lines
