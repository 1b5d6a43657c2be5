"""Decisions in plain sentences: who is told, about which object, by which rule, and what to do instead."""

from __future__ import annotations

from typing import NamedTuple

from lineage.guardrails import matching
from lineage.guardrails.asking import Asked, Outcome, Touch
from lineage.guardrails.rules import Rule

_DOING = {
    "read": "Reading", "insert": "Inserting into", "update": "Updating", "delete": "Deleting from",
    "truncate": "Emptying", "ddl": "Changing the definition of", "privilege": "Changing privileges on",
    "export": "Copying out of", "import": "Copying into", "procedural": "Running code", "session": "Changing a setting",
}  # fmt: skip
_HINTS: dict[Outcome, str] = {
    "block": "Ask whoever sets the guardrails, or do it another way.",
    "approve": "It waits until another person has approved it; then send the same statement again.",
    "limit": "Narrow the condition, or ask for an approval.",
    "mask": "The values arrive masked. Ask whoever sets the guardrails if you need them.",
    "allow": "",
}
_VERDICTS: dict[Outcome, str] = {
    "block": "is blocked", "approve": "needs another person's approval", "limit": "is limited to {} rows",
    "mask": "shows masked values only", "allow": "is allowed",
}  # fmt: skip


class Said(NamedTuple):
    """A decision in words."""

    sentence: str
    hint: str
    object: str


def said(outcome: Outcome, rule: Rule | None, touch: Touch | None, asked: Asked) -> Said:
    """The sentence, the hint and the object of a decision; `touch` is what the rule matched, where it matched one."""
    touch = touch or next((found for found in asked.touches if found.name), None)
    name = touch.name if touch else ""
    thing = name or "; ".join(asked.commands[:2]) or asked.datasource
    verdict = _VERDICTS[outcome].format(f"{rule.rows_over:,}" if rule and rule.rows_over else "")
    place = f" in {asked.environment}" if asked.environment else ""
    sentence = f"{_doing(rule, touch, asked)} {verdict}{place}"
    if rule is None:
        return Said(f"{sentence}: no rule says otherwise.", "", thing)
    title = rule.title.rstrip(".")
    because = f" ({title[0].lower()}{title[1:]})" if title else ""
    return Said(f"{sentence} by rule {rule.id}{because}.", rule.hint or _HINTS[outcome], thing)


def _doing(rule: Rule | None, touch: Touch | None, asked: Asked) -> str:
    if rule and rule.weakens and asked.weakens:
        return f"A statement that {asked.weakens[0]}"
    if asked.opaque and (rule is None or rule.opaque or "opaque" in rule.verbs):
        return f"A statement whose effect cannot be told ({asked.reason or 'it is not understood'})"
    if touch is None or (rule and rule.commands):
        named = matching.pattern(rule.commands) if rule else None
        command = next((one for one in asked.commands if named is None or named.fullmatch(one)), "An empty statement")
        return f"{command} on {touch.name}" if touch and touch.name else command
    doing = f"{_DOING.get(touch.verb, touch.verb.capitalize())} {touch.name}".rstrip()
    condition = " without a condition that chooses rows" if touch.unconditional and rule and rule.unconditional else ""
    return doing + condition
