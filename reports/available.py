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
    reasons = {kind.id: _reason(_needs(kind), there) for kind in controls.KINDS.values()}
    return {name: reason for name, reason in reasons.items() if reason}


def offered(viewer: Viewer) -> dict[str, Any]:
    """For pages: `kinds` that can be asked for, `controls`, `frameworks`, and `lacking`: (title, reason) of the other kinds."""
    reasons = lacking(viewer)
    return {
        "kinds": [kind for kind in controls.KINDS.values() if kind.id not in reasons],
        "controls": [
            *controls.tests(),
            *(f"{f.id}/{one.id}" for f in controls.frameworks().values() for one in f.controls),
        ],
        "frameworks": list(controls.frameworks().items()),
        "lacking": [(controls.KINDS[name].title, reason) for name, reason in reasons.items()],
    }


def listed(viewer: Viewer, environment: str = "") -> list[dict[str, Any]]:
    """Every kind with `id`, `title`, `question`, `tests`, `available`, and the `reason` where it is not."""
    reasons = lacking(viewer, environment)
    return [
        {name: getattr(kind, name) for name in ("id", "title", "question", "tests")}
        | {"available": kind.id not in reasons, "reason": reasons.get(kind.id, "")}
        for kind in controls.KINDS.values()
    ]


def _needs(kind: Kind, control: str = "") -> list[str]:
    """What the kind itself needs, and what the items of its first test are made of: the others then could not be tested.

    A control that an auditor asks about needs what the kinds of its first test need.
    """
    tests = controls.asked(kind.id, control)[:1] if kind.tests or control else []
    kinds = (
        [kind]
        if kind.tests
        else [one for one in controls.KINDS.values() if {test.id for test in tests} & set(one.tests)]
    )
    return list(
        dict.fromkeys([*(need for one in kinds for need in one.needs), *(n for test in tests for n in test.needs[:1])])
    )


def check(viewer: Viewer, kind: str, environment: str = "", datasources: Sequence[str] = (), control: str = "") -> None:
    """Raises KindUnavailable, with the reason, for what the sources of this scope cannot supply."""
    reason = _reason(_needs(controls.kind(kind), control), queries.supply(viewer, environment, datasources))
    if reason:
        raise errors.KindUnavailable(f"{controls.kind(kind).title}: not available from these sources; {reason}.")


def check_control(kind: str, control: str) -> None:
    """Raises QueryInvalid where a control is named to a kind that has tests of its own, or none to one that has none."""
    if control and controls.kind(kind).tests:
        raise errors.QueryInvalid("A control is named for an auditor's request alone; this kind has tests of its own.")
    controls.asked(kind, control)


def _reason(needs: Sequence[str], there: frozenset[str]) -> str:
    return "; ".join(LACKS[need.split(EITHER)[0]] for need in needs if not set(need.split(EITHER)) & there)
