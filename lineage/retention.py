"""Retention: values expire by policy; leaves, proofs and counts stay (docs/erasure.md). Default: everything is kept."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence

from django.db import connection, transaction
from django.utils import timezone

from lineage import access, erasures, errors, ledger, rights, search
from lineage.access import Viewer
from lineage.erasures import selection
from lineage.events import GROUPS
from lineage.models import Role


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """One row of the registry. Valid once a second person approved it and while nobody stopped it."""

    id: int
    query: str | None
    groups: list[str]
    days: int
    reason: str
    ground: str
    set_by: str
    set_at: dt.datetime
    approved_by: str | None
    approved_at: dt.datetime | None
    stopped_by: str | None
    stopped_at: dt.datetime | None

    @property
    def is_valid(self) -> bool:
        return self.approved_at is not None and self.stopped_at is None

    @property
    def state(self) -> str:
        if self.stopped_at:
            return "stopped"
        return "valid" if self.approved_at else "proposed"


COLUMNS = ", ".join(field.name for field in dataclasses.fields(Policy))


def listing() -> list[Policy]:
    """All policies, newest first."""
    with connection.cursor() as cursor:
        cursor.execute(f"select {COLUMNS} from ledger_retention order by id desc")  # noqa: S608 - our own names
        return [Policy(*row) for row in cursor.fetchall()]


def in_scope(viewer: Viewer) -> list[Policy]:
    """Those that the viewer may know of: set by somebody whose scope is within theirs."""
    return [policy for policy in listing() if access.sees_asked_by(viewer, policy.set_by)]


def propose(viewer: Viewer, query: str, days: int, *, reason: str, ground: str, groups: Sequence[str] = GROUPS) -> int:
    """A policy that is not valid before another person approves it; its number.

    Raises AccessDenied and QueryInvalid; each refusal is recorded.
    """
    with rights.asked(viewer, "retention"):
        if not groups or not set(groups) <= set(GROUPS) or not 1 <= days <= 36_500:
            raise errors.QueryInvalid(f"Name groups of {', '.join(GROUPS)}, and 1 to 36,500 days.")
        if not reason.strip() or not ground.strip() or max(len(reason), len(ground)) > 500:
            raise errors.QueryInvalid("Give a reason and a legal ground, each of at most 500 characters.")
        _check_reach(viewer)
        search.to_sql(search.parse(query))
        wanted = list(selection.with_statement(groups))
        with transaction.atomic():
            number = int(
                rights.call(
                    "select ledger_set_retention(%s, %s, %s, %s, %s, %s)",
                    query.strip(), wanted, days, reason.strip(), ground.strip(), viewer.email,
                )
            )  # fmt: skip
            _record(number, viewer, "proposed")
        return number


def _check_reach(viewer: Viewer, number: int | None = None) -> None:
    """Raises AccessDenied for a narrowed viewer, NotFound where they may not even know of the policy."""
    if number is not None and number not in [policy.id for policy in in_scope(viewer)]:
        raise errors.NotFound(f"No retention policy {number} waits for this. `bin/manage retention list` shows them.")
    if viewer.is_narrowed:
        raise errors.AccessDenied(f"A policy reaches everything; your scope is {viewer.label}.")


def approve(viewer: Viewer, number: int) -> None:
    """Makes a policy valid; by another person than the one who set it. Raises AccessDenied and NotFound."""
    with rights.asked(viewer, "retention", number), transaction.atomic():
        _check_reach(viewer, number)
        rights.call("select ledger_decide_retention(%s, %s, true)", number, viewer.email)
        _record(number, viewer, "approved")


def stop(viewer: Viewer, number: int) -> None:
    """Ends a policy; what it purged stays purged. Raises AccessDenied and NotFound."""
    with rights.asked(viewer, "retention", number), transaction.atomic():
        _check_reach(viewer, number)
        rights.call("select ledger_decide_retention(%s, %s, false)", number, viewer.email)
        _record(number, viewer, "stopped")


def _record(number: int, viewer: Viewer, transition: str) -> None:
    policy = next(policy for policy in listing() if policy.id == number)
    ledger.record_decision(
        "retention",
        decided_by=viewer.email,
        subject=f"policy {number}",
        transition=transition,
        purpose=f"{policy.reason} ({', '.join(policy.groups)}, {policy.days} days)",
        requested_by=policy.set_by,
        ground=policy.ground,
    )


def run() -> list[int]:
    """Purges what has expired under each valid policy; numbers of the erasures made. Call under the keeper's lock."""
    made = []
    for policy in reversed(listing()):
        number = _expire(policy) if policy.is_valid else None
        if number is not None:
            erasures.execute(number)
            made.append(number)
    return made


def _expire(policy: Policy) -> int | None:
    """An approved erasure of what has expired and has a value still; None when there is nothing."""
    before = timezone.now() - dt.timedelta(days=policy.days)
    wanted = selection.Wanted(
        tuple(selection.with_statement(policy.groups)), policy.query or "", timezone.now(), received_before=before
    )
    taken, size = selection.select(Viewer(email=policy.set_by, role=Role.ADMIN), wanted)
    left = selection.unexpired(taken)
    if not left:
        return None
    return int(
        rights.call(
            "select ledger_request_retention(%s, %s, %s, %s, %s)",
            policy.id, before, size, len(left), selection.digest(left),
        )
    )  # fmt: skip
