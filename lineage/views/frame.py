"""What every page shares: the window from the address, the frame around the page, and how a page is answered."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.utils.functional import SimpleLazyObject

from lineage import errors, queries, search, toasts, words, zones
from lineage.access import Viewer
from lineage.models import Role, Source

CARRIED = ("since", "until", "environment")
SIMULATED = "simulated"
OWN = "touchstone"
PRESETS = (
    ("", "All time"),
    ("1h", "Last hour"),
    ("24h", "Last 24 hours"),
    ("7d", "Last 7 days"),
    ("30d", "Last 30 days"),
)
RAIL = (
    ("overview", "Overview", "overview"),
    ("search", "Search", "search"),
    ("sessions", "Sessions", "session"),
    ("identities", "Identities", "human"),
    ("tables", "Tables", "table"),
    ("databases", "Databases", "database"),
    ("findings", "Findings", "flag"),
    ("approvals", "Approvals", "approval"),
    ("reports", "Reports", "report"),
    ("integrity", "Integrity", "seal"),
)
GATEWAY = (
    ("live", "Live sessions", "session"),
    ("guardrails", "Guardrails", "guardrail"),
    ("connect", "Connect", "link"),
)
"""What the gateway adds, under a heading of its own; a page that is not there is left out."""
SECTIONS = {
    "session": "sessions", "identity": "identities", "table": "tables", "row": "tables", "tags": "tables",
    "event": "search", "report": "reports", "sign-offs": "reports",
    "guardrail-version": "guardrails", "guardrails-try": "guardrails", "held": "approvals", "live-session": "live", "firsts": "overview",
    "record-chain": "search", "ticket-chain": "approvals", "session-chain": "sessions", "row-chain": "tables",
} | dict.fromkeys(
    ("forgetting", "erasure", "checkpoints", "checkpoint", "gaps", "quarantine", "quarantine-item", "recheck", "pack"), "integrity"
) | dict.fromkeys(("run", "touched", "undo"), "identities")  # fmt: skip
SECTIONS |= dict.fromkeys(("report-verify", "report-new"), "reports")
SECTIONS |= dict.fromkeys(("schedules", "schedule", "report-calendar"), "reports")
SECTIONS |= dict.fromkeys(("finding", "finding-rules", "finding-receivers"), "findings")
SECTIONS |= dict.fromkeys(("quarter", "saved", "saved-change"), "search")
SECTIONS |= dict.fromkeys(("access-seat", "access-tokens", "access-sources"), "access") | {"logins": "identities"}

KEEPERS: dict[str, tuple[tuple[str, str, str], ...]] = {
    Role.ADMIN: (("access", "Access", "human"),),
    Role.OPERATOR: (("access", "Sources", "service"),),
}
"""Who keeps the house finds this too."""

MEMBER_PAGES = frozenset({"approvals", "connect"})

_RELATIVE = re.compile(r"^(\d{1,5})([smhdw])$")
OWN_RANGE = "own"


def moment(text: str, now: dt.datetime) -> dt.datetime | None:
    """The time that `since` or `until` names: "24h" ago, a date, or a time (UTC unless it says otherwise).

    Empty text is no bound. Raises QueryInvalid for anything else.
    """
    if text in ("", OWN_RANGE):
        return None
    relative = _RELATIVE.match(text)
    try:
        if relative:
            return now - dt.timedelta(**{f"{words.RELATIVE[relative[2]]}s": int(relative[1])})
        found = dt.datetime.fromisoformat(text)
        return found.astimezone(dt.UTC) if found.tzinfo else found.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError) as error:
        raise errors.QueryInvalid(
            f"The time “{text[:40]}” cannot be read. Write 24h, 7d, 2026-11-21 or 2026-11-21T14:30.", time=text[:40]
        ) from error


def window(request: HttpRequest) -> queries.Window:
    """The time range and environment in the address. Raises QueryInvalid."""
    now = dt.datetime.now(dt.UTC)
    given = {name: request.GET.get(name, "").strip() for name in CARRIED}
    return queries.between(moment(given["since"], now), moment(given["until"], now), given["environment"] or None)


def period(request: HttpRequest) -> str:
    """The window in the address in words."""
    since = request.GET.get("since", "").strip()
    return words.period(window(request), since if _RELATIVE.match(since) else "")


def limit(request: HttpRequest) -> int | None:
    """The page length in the address, or None. Raises QueryInvalid."""
    text = request.GET.get("limit", "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 6):
        raise errors.QueryInvalid("Write the page length as a number up to 1000.", limit="not a number")
    return int(text) if text else None


def carried(given: QueryDict) -> dict[str, str]:
    """The parameters that every link takes along."""
    return {name: str(given[name]) for name in CARRIED if given.get(name) not in (None, "", OWN_RANGE)}


def environments(viewer: Viewer) -> list[str]:
    """Environments in the viewer's scope that a source reports for."""
    known = (
        Source.objects.exclude(environment=OWN).values_list("environment", flat=True).distinct().order_by("environment")
    )
    return [name for name in known if not viewer.environments or name in viewer.environments]


def conditions(q: str) -> list[search.Chip]:
    """The conditions of a search text, each with what is left without it; none of a text that cannot be understood."""
    try:
        return search.chips(search.parse(q))
    except errors.QueryInvalid:
        return []


def only(coverage: list[queries.Coverage], datasource: str) -> list[queries.Coverage]:
    """The completeness of the sources that report on one database."""
    return [c for c in coverage if c.datasource == datasource]


def shows_simulated(window: queries.Window, rows: list[dict[str, Any]]) -> bool:
    """Whether any of the rows on a page was made up."""
    return words.simulated(window, (row.get("environment") for row in rows), SIMULATED)


def may_show_simulated(window: queries.Window, coverage: list[queries.Coverage]) -> bool:
    """For pages whose rows count over environments: whether a simulated source could be among them."""
    return words.simulated(window, (c.environment for c in coverage), SIMULATED)


def page_context(request: HttpRequest) -> dict[str, Any]:
    """What the frame shows. Without a viewer (sign-in, errors before it) only the names; asks no database by itself."""
    viewer = getattr(request, "viewer", None)
    match = request.resolver_match
    name = (match.url_name if match else "") or ""
    context: dict[str, Any] = {
        "viewer": viewer,
        "section": SECTIONS.get(name, name),
        "rail": RAIL,
        "gateway_rail": GATEWAY,
        "zone": zones.current(),
        "toasts": SimpleLazyObject(lambda: toasts.said(request)),
    }
    if viewer is None:
        return context
    if not viewer.reads_records:
        return context | {part: [p for p in context[part] if p[0] in MEMBER_PAGES] for part in ("rail", "gateway_rail")}
    given = {part: request.GET.get(part, "") for part in CARRIED}
    return context | {
        "rail": RAIL + KEEPERS.get(viewer.role, ()),
        "given": given,
        "carried": carried(request.GET),
        "presets": PRESETS,
        "environments": SimpleLazyObject(lambda: environments(viewer)),
        "standing": SimpleLazyObject(lambda: queries.alarms(viewer)),
        "chips": conditions(request.GET.get("q", "")),
        "own_range": bool(given["until"]) or given["since"] not in dict(PRESETS),
    }


def page(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    """A page of evidence: never kept by a browser's or proxy's cache."""
    answer = render(request, template, context)
    answer["Cache-Control"] = "private, no-store"
    return answer
