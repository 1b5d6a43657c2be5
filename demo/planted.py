"""What goes wrong in the generated quarter, on purpose: each once, on a day of its own, and what the tests of control find of it.

Nothing else deviates there: everything that a person or an agent does has a ticket that somebody else approved before.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Json = dict[str, Any]
LEAD = "lea.martin@simulated.example"
"""Approves what the others ask for, and does nothing else."""
SILENT_DAY, SILENT_HOURS = 60, range(13, 16)


class Planted(NamedTuple):
    """One act on one day. `approved`: by whom and how many minutes after it was done; None where nobody did.

    `found` says by which tests and with which words.
    """

    name: str
    day: int
    login: str
    op: str
    table: str
    text: str
    ticket: str | None
    found: dict[str, list[str]]
    approved: tuple[str, int] | None = None
    behalf: bool = True


PLANTED = (
    Planted(
        "self-approval", 10, "marek.zielinski", "update", "contracts", "update contracts set renewed = false where id = 77",
        "CRM-9001",
        {
            "privileged-access": ["self-approved"],
            "direct-data-changes": ["self-approved"],
            "approvals": ["approved by who asked", "approved by who acted"],
        },
        approved=("marek.zielinski@simulated.example", -30),
    ),
    Planted(
        "late approval", 20, "fatima.haddad", "ddl", "invoices", "create index on invoices (amount)", "CRM-9002",
        {
            "privileged-access": ["approved late"],
            "schema-and-rights-changes": ["approved late"],
            "approvals": ["used before it was approved"],
        },
        approved=(LEAD, 120),
    ),
    Planted(
        "missing approval", 30, "sven.holm", "export", "tickets", "copy (select * from tickets) to stdout", "CRM-9003",
        {"privileged-access": ["no approval"], "approvals": ["never asked for"]},
    ),
    Planted(
        "agent without person", 40, "forecast-agent", "read", "contracts", "select * from contracts where customer_id = 12",
        "CRM-9004", {"agent-acts": ["no person behind it"]}, approved=(LEAD, -30), behalf=False,
    ),
    Planted(
        "unapproved change", 50, "fatima.haddad", "ddl", "contracts", "alter table contracts add column note text", None,
        {"privileged-access": ["no ticket"], "schema-and-rights-changes": ["no ticket"]},
    ),
    Planted(
        "direct data fix", 70, "aiko.tanaka", "update", "invoices", "update invoices set amount = 0 where number = 4711", None,
        {"privileged-access": ["no ticket"], "direct-data-changes": ["no ticket"]},
    ),
)  # fmt: skip


def is_silent(day: int, hour: int) -> bool:
    """Whether the source tells nothing in this hour: it stood still, and says so nowhere."""
    return day == SILENT_DAY and hour in SILENT_HOURS


def approval(ticket: str, requested_by: str, approver: str, at: str) -> Json:
    """The change desk's record of a decision, without its time."""
    return {
        "kind": "decision", "ticket": ticket, "decision": {"type": "approval", "decided_by": approver, "subject": ticket},
        "approval": {
            "state": "approved", "requested_by": requested_by, "approvers": [approver], "decided_at": at, "reason": "needed for the work",
        },
    }  # fmt: skip
