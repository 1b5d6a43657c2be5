"""Erasure: values go, leaves and proofs stay (docs/erasure.md). Request, approval, execution, and what still holds values."""

from __future__ import annotations

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

__all__ = [
    "Asked", "Erasure", "Still", "approve", "covered", "erased_by", "execute", "finish", "in_scope", "listing", "one", "preview",
    "reject", "request", "run_due", "seen", "still", "unsaid",
]  # fmt: skip


def run_due() -> int:
    """Executes what is approved and goes on with what is pending; how many wait still. Call under the keeper's lock."""
    for erasure in listing("approved"):
        execute(erasure.id)
    return sum(not finish(erasure.id) for erasure in listing("pending"))
