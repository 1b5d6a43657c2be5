"""Twelve questions that compliance asks each quarter, as searches (docs/search.md). Change one only together with that page."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """One question: what is asked, the search that answers it, and what a count above zero calls for."""

    id: str
    title: str
    q: str
    then: str


QUESTIONS = (
    Question("rights", "Who was given or lost rights?", "class:privilege", "Compare each with a request for it."),
    Question(
        "structure", "Who changed the structure of databases?", "class:ddl", "Compare each with a planned change."
    ),
    Question(
        "destroyed",
        "Who deleted rows or emptied tables?",
        "op:delete or op:truncate",
        "Look for those without a ticket.",
    ),
    Question(
        "sensitive",
        "Who touched data that is tagged as sensitive?",
        "tag:* (kind:query or kind:change)",
        "Sample ten, and ask why.",
    ),
    Question("refused", "Who was refused?", "verdict:blocked", "Look for the same person allowed soon after."),
    Question(
        "unticketed",
        "Which writes on production name no ticket?",
        "class:write environment:prod* -ticket:*",
        "Ask the owner of each database.",
    ),
    Question(
        "agents", "What did AI agents change?", "(type:agent or agent:*) class:write", "Compare with what they may do."
    ),
    Question(
        "alone",
        "Which agents worked for nobody?",
        "(type:agent or agent:*) -for:* (kind:query or kind:change)",
        "Find out who answers for them.",
    ),
    Question("exports", "What left a database as an export?", "op:export", "Ask where each copy lies now."),
    Question(
        "bulk", "Which reads returned more than 1,000 rows?", "rows:>1000 op:read", "Look for people, not services."
    ),
    Question(
        "unnamed",
        "Which writes are known by login only?",
        "class:write (attribution:db_login or attribution:none)",
        "Map the login to a person.",
    ),
    Question(
        "forged",
        "Which claims about people were false?",
        "flag:suspected_forgery or flag:unauthorised_assertion",
        "Treat each as an incident.",
    ),
)

_QUARTER = re.compile(r"([0-9]{4})-?[Qq]([1-4])")


@dataclass(frozen=True, order=True)
class Quarter:
    """A quarter of a calendar year, in UTC."""

    year: int
    number: int

    @property
    def name(self) -> str:
        return f"{self.year}-Q{self.number}"

    @property
    def start(self) -> dt.datetime:
        return dt.datetime(self.year, 3 * self.number - 2, 1, tzinfo=dt.UTC)

    @property
    def end(self) -> dt.datetime:
        """The moment after its last."""
        return self.moved(1).start

    def moved(self, by: int) -> Quarter:
        whole = self.year * 4 + self.number - 1 + by
        return Quarter(whole // 4, whole % 4 + 1)


def quarter_of(at: dt.datetime) -> Quarter:
    return Quarter(at.year, (at.month + 2) // 3)


def quarter(text: str) -> Quarter:
    """The quarter that a text such as 2026-Q4 names. Raises ValueError."""
    match = _QUARTER.fullmatch(text)
    if match is None or not 1990 <= int(match[1]) <= 2200:
        raise ValueError("Write a quarter such as 2026-Q4")
    return Quarter(int(match[1]), int(match[2]))
