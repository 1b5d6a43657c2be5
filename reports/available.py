"""Which kinds of report the connected sources can supply: a population that nobody can tell of is not offered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lineage import errors, queries
from lineage.access import Viewer
from reports import controls
from reports.controls import EITHER, Kind

LACKS = {
    "statements": "no connected source tells of statements: add a source of a server's log, or a gateway",
    "changes": "no connected source tells of row changes: add a change capture",
    "decisions": "no connected source tells of approvals: add one that may assert them, or a gateway",
    "states": "no connected source tells of roles and rights: add a collector of the catalogs",
    "agents": "nothing names agents or services: no gateway, no source that may assert the actor, no trusted context "
    "message, and no login that is said to be theirs",
    "tags": "no column is classified: tag the columns that hold what is sensitive",
    "sources": "no source is connected",
}
"""Why a kind is not there, and what would change that."""


def lacking(viewer: Viewer, environment: str = "", datasources: Sequence[str] = ()) -> dict[str, str]:
    """The kinds that are not available from the sources of this scope, each with the reason."""
    there = queries.supply(viewer, environment, datasources)
    found = {}
    for kind in controls.KINDS.values():
        needs = _needs(kind)
        missing = [need for need in needs if not set(need.split(EITHER)) & there]
        if missing:
            found[kind.id] = "; ".join(LACKS[need.split(EITHER)[0]] for need in missing)
    return found


def offered(viewer: Viewer) -> dict[str, Any]:
    """For pages: `kinds` that can be asked for, and `lacking`: (title, reason) of the others."""
    reasons = lacking(viewer)
    return {
        "kinds": [kind for kind in controls.KINDS.values() if kind.id not in reasons],
        "lacking": [(controls.KINDS[name].title, reason) for name, reason in reasons.items()],
    }


def _needs(kind: Kind) -> list[str]:
    """What the kind itself needs, and what the items of its first test are made of: the others then could not be tested."""
    first = [controls.tests()[test].needs[:1] for test in kind.tests[:1]]
    return list(dict.fromkeys([*kind.needs, *(need for needs in first for need in needs)]))


def check(viewer: Viewer, kind: str, environment: str = "", datasources: Sequence[str] = ()) -> None:
    """Raises KindUnavailable, with the reason, for a kind that the sources of this scope cannot supply."""
    reason = lacking(viewer, environment, datasources).get(kind)
    if reason:
        raise errors.KindUnavailable(f"{controls.kind(kind).title}: not available from these sources; {reason}.")
