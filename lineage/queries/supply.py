"""What the connected sources of a scope could tell of at all: without that there is no population to report on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lineage.access import Viewer
from lineage.models import Identity, Source
from lineage.queries.ask import OWN
from lineage.queries.hearing import BY_FORMAT
from lineage.queries.tags import tags

ANYTHING = ("statements", "changes")
"""What a source of another format can always tell of; decisions and states take a right (docs/access.md)."""
RIGHTS = {"approval": "decisions", "state": "states", "actor": "agents"}
ACTORS = ("service", "agent")


def supply(viewer: Viewer, environment: str = "", datasources: Sequence[str] = ()) -> frozenset[str]:
    """Which of `statements changes decisions states agents tags sources` there is something of in this scope.

    A source without a database of its own may tell of any. What was revoked told of its time.
    """
    if not viewer.reads_records:
        return frozenset()
    wanted = frozenset(datasources or viewer.datasources)
    found: set[str] = set()
    for source in Source.objects.exclude(name=OWN).values(
        "format", "environment", "datasource", "asserts", "context_roles"
    ):
        if _is_in_scope(source, viewer, environment, wanted):
            found |= {"sources", *_tells(source)}
    known = Identity.objects.filter(type__in=ACTORS)
    if (known.filter(datasource__in=wanted) if wanted else known).exists():
        found.add("agents")
    if any(row["classes"] and (not wanted or row["datasource"] in wanted) for row in tags(viewer)):
        found.add("tags")
    return frozenset(found)


def _is_in_scope(source: Mapping[str, Any], viewer: Viewer, environment: str, wanted: frozenset[str]) -> bool:
    environments = {environment} if environment else set(viewer.environments)
    in_environment = not environments or source["environment"] in environments
    return in_environment and (not wanted or not source["datasource"] or source["datasource"] in wanted)


def _tells(source: Mapping[str, Any]) -> set[str]:
    """What one source may tell of, by its format and what it may assert."""
    told = set(BY_FORMAT.get(source["format"], ANYTHING))
    told |= {word for right, word in RIGHTS.items() if right in source["asserts"]}
    # A gateway names whom it let in; a context message is believed from these logins.
    return told | ({"agents"} if source["format"] == "gateway" or source["context_roles"] else set())
