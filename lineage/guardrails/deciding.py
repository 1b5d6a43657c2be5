"""What the rules say to one statement: the gravest outcome of all that match."""

from __future__ import annotations

from lineage.guardrails import wording
from lineage.guardrails.asking import Asked, Decision, Outcome, Touch
from lineage.guardrails.matching import ready
from lineage.guardrails.rules import Guardrails, Rule

_GRAVITY: dict[Outcome, int] = {"block": 4, "approve": 3, "limit": 2, "mask": 1, "allow": 0}


def decide(rules: Guardrails, asked: Asked) -> Decision:
    """What `rules` say to what is asked. The same for the same, always."""
    masks: set[str] = set()
    matching: list[tuple[Rule, Touch | None]] = []
    for one in ready(rules, asked.environment, asked.actor_type):
        if not one.holds(asked):
            continue
        is_matched, touch = one.touched(asked)
        if is_matched and one.rule.outcome == "mask":
            masks.update(one.rule.classes)
            is_matched = one.shows(asked)
        if is_matched:
            matching.append((one.rule, touch))
    return _decision(rules, asked, matching, frozenset(masks))


def _decision(
    rules: Guardrails, asked: Asked, matching: list[tuple[Rule, Touch | None]], masks: frozenset[str]
) -> Decision:
    chosen, touch = _gravest(matching)
    outcome: Outcome = chosen.outcome if chosen else "allow"
    said = wording.said(outcome, chosen, touch, asked)
    return Decision(
        outcome=outcome,
        rule=chosen.id if chosen else "",
        version=rules.version,
        sentence=said.sentence,
        hint=said.hint,
        object=said.object,
        rows_over=chosen.rows_over if chosen else None,
        mask=masks,
        matched=tuple((rule.id, rule.outcome) for rule, _ in matching),
    )


def _gravest(matching: list[tuple[Rule, Touch | None]]) -> tuple[Rule | None, Touch | None]:
    """The rule that decides: an allow rule with `first`, else the gravest; of several limits or approvals the tightest."""
    first = next((found for found in matching if found[0].first), None)
    if first is not None:
        return first
    return max(
        matching,
        key=lambda found: (_GRAVITY[found[0].outcome], -(found[0].rows_over or 1 << 62)),
        default=(None, None),
    )
