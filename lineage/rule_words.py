"""A guardrail in plain words: when it holds, and what then happens. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lineage.guardrails import Rule

OUTCOMES = {
    "block": "blocked", "approve": "held until another person approves", "limit": "limited", "mask": "masked",
    "allow": "allowed",
}  # fmt: skip
VERBS = {
    "read": "reads", "insert": "inserts", "update": "updates", "delete": "deletes", "truncate": "empties a table",
    "ddl": "changes the schema", "privilege": "changes privileges", "export": "exports", "import": "imports",
    "procedural": "runs code in the database", "session": "changes settings of the session", "opaque": "cannot be understood",
}  # fmt: skip
PEOPLE = {"human": "people", "service": "services", "agent": "agents"}


def sentence(rule: Rule) -> str:
    """ "In production, by agents: what updates or deletes without a condition is blocked." """
    places = [f"in {_or(rule.environments)}"] if rule.environments else []
    who = [f"by {_or([PEOPLE[kind] for kind in rule.who])}"] if rule.who else []
    people = [f"{word} {_or(names)}" for word, names in (
        ("by or for", rule.people), ("with the role", rule.roles), ("in the database", rule.datasources),
        ("through the account", rule.accounts), ("but not by", rule.except_people),
    ) if names]  # fmt: skip
    when = ", ".join([*places, *who, *people])
    what = " ".join(text for text in ("what", _deed(rule), *_conditions(rule)) if text)
    said = f"{when}: {what}" if when else what
    return f"{said[0].upper()}{said[1:]} is {_outcome(rule)}."


def _deed(rule: Rule) -> str:
    deeds = [VERBS[verb] for verb in rule.verbs]
    if rule.commands:
        deeds.append(f"is a command {_or(rule.commands)}")
    return _or(deeds) or ("is asked" if not rule.opaque and not rule.weakens else "")


def _conditions(rule: Rule) -> Iterator[str]:
    if rule.opaque:
        yield "and cannot be understood" if _deed(rule) else "cannot be understood"
    if rule.weakens:
        yield "takes away from auditing or change capture"
    if rule.unconditional:
        yield "without a condition"
    if rule.bulk:
        yield "rows that no key names"
    classes = () if rule.outcome == "mask" else rule.classes
    for word, names in (("touching", rule.relations), ("touching columns of the class", classes)):
        if names:
            yield f"{word} {_or(names)}"
    if rule.missing:
        yield f"while {_or(rule.missing)} is not given"


def _outcome(rule: Rule) -> str:
    cap = f"{rule.rows_over:,} rows" if rule.rows_over else ""
    if rule.outcome == "limit":
        return f"limited to {cap}"
    if rule.outcome == "approve":
        return f"{OUTCOMES['approve']}, for up to {cap}" if cap else OUTCOMES["approve"]
    if rule.outcome == "mask":
        every = "every class" if "*" in rule.classes else f"the class {_or(rule.classes)}"
        return f"answered with masked values for columns of {every}"
    return "allowed before any other rule is looked at" if rule.first else OUTCOMES[rule.outcome]


def _or(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} or {parts[-1]}" if parts else ""
