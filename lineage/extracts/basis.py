"""Of what an extract was made: of another code, or of other roles whose claims are believed, it is made anew."""

from __future__ import annotations

import functools
import hashlib

import pyarrow as pa

from lineage import facts, joins, projections, resolving
from lineage.extracts.companions import COMPANIONS

VERSION = "1"
"""Of the files `records` and `overrides`."""


def of(context_roles: pa.Table) -> str:
    """What the manifest says of extracts made now."""
    roles = sorted(tuple(row.values()) for row in context_roles.to_pylist())
    return hashlib.sha256(f"{_code()}{roles}".encode()).hexdigest()[:32]


@functools.cache
def _code() -> str:
    """Everything that decides about a stored row, as text."""
    companions = [(each.version, each.files) for each in COMPANIONS]
    said = (
        VERSION,
        projections.VERSION,
        facts.VERSION,
        joins.tables(True, True),
        resolving.resolved(False),
        companions,
    )
    return repr(said)
