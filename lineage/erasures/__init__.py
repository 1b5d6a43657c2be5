"""Erasure: values go, leaves and proofs stay (docs/erasure.md). Request, approval, execution, and what still holds values."""

from __future__ import annotations

from lineage.access import Viewer
from lineage.erasures import quarantine
from lineage.erasures.covering import covered, erased_by, unsaid
from lineage.erasures.execution import execute
from lineage.erasures.pending import Still, finish, still
from lineage.erasures.requests import (
    Asked,
    Erasure,
    approve,
    in_scope,
    listing,
    one,
    preview,
    reject,
    request,
    seen,
)
from lineage.models import Role

__all__ = [
    "Asked", "Erasure", "Still", "approve", "covered", "erased_by", "execute", "finish", "in_scope", "listing", "one", "preview",
    "quarantine", "reject", "request", "run_due", "seen", "still", "takes_item", "unsaid",
]  # fmt: skip


def takes_item(number: int) -> bool:
    """Whether an approved erasure that is not carried out yet takes this quarantined item, in whoever's scope.

    True stays true: call `quarantine.beside_decisions` before, in the same transaction.
    """
    everywhere = Viewer(email="", role=Role.ADMIN)
    return any(number in quarantine.matching(everywhere, each.wanted()) for each in listing("approved"))


def run_due() -> int:
    """Executes what is approved and goes on with what is pending; how many wait still. Call under the keeper's lock."""
    for erasure in listing("approved"):
        execute(erasure.id)
    return sum(not finish(erasure.id) for erasure in listing("pending"))
