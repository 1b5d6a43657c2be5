"""Texts with transaction control in them: cut into Queries where that means the same, so that each write can be vouched for.

The server runs the statements of one Query in one implicit transaction, but for what explicit BEGIN and COMMIT make of it. Statement
by statement is the same where each stands inside an explicit block, or alone behind one.
"""

from __future__ import annotations

import msgspec

from enforcement.gateway.session.judging import Judgement, Refusal

_BEGINS = frozenset({"BEGIN", "START TRANSACTION"})
_ENDS = frozenset({"COMMIT", "ROLLBACK", "END", "ABORT"})


class Group(msgspec.Struct, frozen=True):
    """Statements `first` up to `last` of a text (characters `start` to `end`) that are sent as one Query."""

    first: int
    last: int
    start: int
    end: int


def groups(judgement: Judgement, in_block: bool) -> list[Group] | Refusal:
    """How a text is sent. A refusal where a write could not be given its identity message without changing what the text means."""
    rulings = judgement.rulings
    whole = [Group(0, len(rulings), 0, len(judgement.text))]
    if len(rulings) < 2 or not any(one.part.part.is_transaction_control for one in rulings):
        return whole
    runs = _runs(judgement, in_block)
    if runs is None:
        return _CANNOT if judgement.writes else whole
    starts = [rulings[first].part.part.text_start for first, _ in runs]
    ends = [*starts[1:], len(judgement.text)]
    return [Group(first, last, start, end) for (first, last), start, end in zip(runs, starts, ends, strict=True)]


_CANNOT = Refusal(
    "0A000",
    "Statements outside a transaction and BEGIN or COMMIT stand in one text; it cannot be told which transaction a write is in.",
    "Send BEGIN first, or send the statements one by one.",
)


def _runs(judgement: Judgement, in_block: bool) -> list[tuple[int, int]] | None:
    """Statements that can be sent together, as (first, last); None where cutting would change what the text means."""
    runs: list[tuple[int, int]] = []
    outside = False
    for at, ruling in enumerate(judgement.rulings):
        part = ruling.part.part
        if part.is_transaction_control:
            if outside:
                return None
            runs.append((at, at + 1))
            text = judgement.text[part.text_start : part.text_end]
            in_block = _in_block(part.tag, text, in_block)
            continue
        outside = not in_block
        follows = bool(runs) and not judgement.rulings[at - 1].part.part.is_transaction_control
        runs[-1:] = [(runs[-1][0], at + 1)] if follows else [*runs[-1:], (at, at + 1)]
    return runs


def _in_block(tag: str, text: str, before: bool) -> bool:
    words = " ".join(text.lower().split())
    if tag in _BEGINS:
        return True
    if tag not in _ENDS or " to " in words:
        return before
    return "and chain" in words
