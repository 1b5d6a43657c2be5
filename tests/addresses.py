"""Every address of the product, with what it is to whom: the table that `tests/lineage/test_strangers.py` walks.

A new address needs a line here: its route as in the URL conf, a path whose names `{…}` stand for things that the test made
(`furnish` there), and what it is. A route without a line fails the test.
"""

from __future__ import annotations

import dataclasses
from typing import Any

RECORDLESS = ("witness", "service", "member")
READERS = ("auditor", "security", "compliance", "operator", "admin")
VALUES = ("auditor", "security", "compliance", "admin")
DECIDERS = ("security", "admin")
FORGETTERS = ("compliance", "admin")
MEMBERS_TOO = (*READERS, "member")
EVERYBODY = (*READERS, *RECORDLESS)

LIST, OBJECT, SHARED, OPEN, SOURCE = "list", "object", "shared", "open", "source"
"""A list or count of records; one thing of a team; what is the same for all teams; what needs no viewer; what needs a
source's token."""


@dataclasses.dataclass(frozen=True)
class Address:
    route: str
    path: str
    kind: str = LIST
    roles: tuple[str, ...] = READERS
    post: dict[str, Any] | None = None
    """What is posted; None: it is read."""
    stranger: tuple[int, ...] = ()
    """What a viewer of another team is answered, where it is not 200 for lists and 404 for objects; nobody, where it is open."""

    @property
    def is_api(self) -> bool:
        return self.path.startswith(("/api/", "/checkpoint", "/tile/", "/log/"))

    @property
    def is_again(self) -> bool:
        """Whether it is a list in another form than the one that stands for all."""
        return "format=" in self.path and "format=json" not in self.path

    @property
    def expected(self) -> tuple[int, ...]:
        return self.stranger or ((404,) if self.kind == OBJECT else (200,))

    def __str__(self) -> str:
        return f"{'POST' if self.post is not None else 'GET'} {self.path}"


def at(route: str, path: str, kind: str = LIST, **more: Any) -> Address:
    return Address(route, path, kind, **more)


API = "api/v1/"
FORMATS = ("json", "csv", "ndjson", "parquet")
LISTS = (
    "events",
    "touches",
    "sessions",
    "identities",
    "relations",
    "approvals",
    "findings",
    "datasources",
    "reports",
    "sign-offs",
)
CELL = f"{API}relations/<str:datasource>/<str:relation>/"
WHERE = "/api/v1/relations/{datasource}/{relation}/"
PAGE = "tables/<name:datasource>/"
REASON = {"reason": "zealous"}

ADDRESSES = (
    # pages of records
    at("", "/"),
    at("overview/live/", "/overview/live/"),
    at("search", "/search?q=op:read"),
    at("search", "/search?q=op:read&by=touch"),
    at("search", "/search?q=op:read&by=session"),
    at("search", "/search?q=op:read&by=identity"),
    at("search", "/search?q=op:read&by=relation"),
    at("overview/first/", "/overview/first/"),
    at("search/export", "/search/export?q=op:read&by=event"),
    at("search/export", "/search/export?q=op:read&by=touch&format=parquet"),
    at("search/complete", "/search/complete?text=actor:"),
    at("search/quarter/", "/search/quarter/"),
    at("search/saved/", "/search/saved/"),
    at("search/saved/add/", "/search/saved/add/", SHARED, post={"name": ""}, stranger=(400,)),
    at("search/saved/<int:number>/", "/search/saved/{saved}/", OBJECT),
    at("search/saved/<int:number>/remove/", "/search/saved/{saved}/remove/", OBJECT, post={}),
    at("search/saved/<int:number>/restore/", "/search/saved/{saved}/restore/", OBJECT, post={}),
    at("lineage/record/<int:index>/", "/lineage/record/{index}/", OBJECT),
    at("lineage/ticket/<path:ticket>/", "/lineage/ticket/{ticket}/", OBJECT),
    at("lineage/session/<path:key>/", "/lineage/session/{session}/", OBJECT),
    at("lineage/row/<name:datasource>/<name:relation>/rows/<path:key>/", "/lineage/row/{datasource}/{relation}/rows/{key}/", OBJECT),
    at("sessions/", "/sessions/"),
    at("sessions/<path:key>/", "/sessions/{session}/", OBJECT),
    at("sessions/live/", "/sessions/live/"),
    at("sessions/live/rows/", "/sessions/live/rows/"),
    at("sessions/live/<int:number>/", "/sessions/live/{live}/", OBJECT),
    at("sessions/live/<int:number>/end/", "/sessions/live/{live}/end/", OBJECT, roles=(*DECIDERS, "operator"), post=REASON),
    at("identities/", "/identities/"),
    at("identities/<path:identity_id>/", "/identities/{identity}/", OBJECT),
    at("runs/<path:run>/", "/runs/{run}/", OBJECT),
    at("touched/", "/touched/?identity={identity}&by=rows"),
    at("touched/", "/touched/?run={run}"),
    at("undo/", "/undo/?run={run}", OBJECT, roles=VALUES),
    at("undo/script.sql", "/undo/script.sql?run={run}", OBJECT, roles=VALUES),
    at("tables/", "/tables/"),
    at(f"{PAGE}<name:relation>/tags/", "/tables/{datasource}/{relation}/tags/", OBJECT),
    at(f"{PAGE}<path:relation>/", "/tables/{datasource}/{relation}/", OBJECT),
    at(f"{PAGE}<name:relation>/rows/<path:key>/", "/tables/{datasource}/{relation}/rows/{key}/", OBJECT),
    at("events/<int:index>/", "/events/{index}/", OBJECT),
    at("databases/", "/databases/"),
    at("findings/", "/findings/"),
    at("findings/", "/findings/?state=all"),
    at("findings/<int:number>/", "/findings/{finding}/", OBJECT),
    at("findings/<int:number>/triage/", "/findings/{finding}/triage/", OBJECT, roles=READERS, post={"act": "note", "note": "x"}),
    at("findings/rules/", "/findings/rules/", SHARED),
    at("findings/receivers/", "/findings/receivers/", roles=DECIDERS, stranger=(403,)),
    at(f"{API}findings/<int:number>", "/api/v1/findings/{finding}", OBJECT),
    at(f"{API}findings/<int:number>/triage", "/api/v1/findings/{finding}/triage", OBJECT, roles=EVERYBODY,
       post={"act": "note", "note": "x"}),
    at("logins/", "/logins/"),
    at("preferences/", "/preferences/", SHARED, roles=MEMBERS_TOO, post={}, stranger=(302, 200, 400)),
    at("approvals/", "/approvals/", roles=MEMBERS_TOO),
    at("approvals/live/", "/approvals/live/", roles=MEMBERS_TOO),
    at("approvals/held/<str:request_id>/", "/approvals/held/{held}/", OBJECT, roles=MEMBERS_TOO),
    at("approvals/held/<str:request_id>/decide/", "/approvals/held/{held}/decide/", OBJECT, roles=DECIDERS,
       post={"decision": "reject", **REASON}),
    at("approvals/held/<str:request_id>/review/", "/approvals/held/{held}/review/", OBJECT, roles=DECIDERS, post={"note": "x"}),
    # the log
    at("integrity/", "/integrity/"),
    at("integrity/seal/", "/integrity/seal/"),
    at("integrity/checkpoints/", "/integrity/checkpoints/", SHARED),
    at("integrity/checkpoints/<int:size>/", "/integrity/checkpoints/{size}/", SHARED),
    at("integrity/gaps/", "/integrity/gaps/"),
    at("integrity/quarantine/", "/integrity/quarantine/"),
    at("integrity/quarantine/<int:number>/", "/integrity/quarantine/{item}/", OBJECT),
    at("integrity/quarantine/<int:number>/bytes", "/integrity/quarantine/{item}/bytes", OBJECT, roles=VALUES),
    at("integrity/quarantine/<int:number>/retry/", "/integrity/quarantine/{item}/retry/", OBJECT, roles=(*DECIDERS, "operator"), post={}),
    at("integrity/checks/", "/integrity/checks/", SHARED, post={}, stranger=(302,)),
    at("integrity/checks/<int:number>/", "/integrity/checks/{check}/", SHARED),
    at("integrity/checks/<int:number>/live/", "/integrity/checks/{check}/live/", SHARED),
    at("integrity/checks/<int:number>/cancel/", "/integrity/checks/{check}/cancel/", SHARED, post={}, stranger=(403,)),
    at("integrity/pack/", "/integrity/pack/?q=op:read"),
    at("integrity/pack/", "/integrity/pack/", OBJECT, post={"q": "relation:payroll"}),
    at("integrity/erasures/", "/integrity/erasures/"),
    at("integrity/erasures/ask/", "/integrity/erasures/ask/", OBJECT, roles=FORGETTERS,
       post={"q": "relation:{relation}", "groups": ["change"], "ground": "Article 17", **REASON}),
    at("integrity/erasures/<int:number>/", "/integrity/erasures/{erasure}/", OBJECT),
    at("integrity/erasures/<int:number>/decide/", "/integrity/erasures/{erasure}/decide/", OBJECT, roles=FORGETTERS,
       post={"decision": "approve"}),
    at("integrity/holds/add/", "/integrity/holds/add/", SHARED, roles=FORGETTERS, post={"q": "", "reason": ""}, stranger=(400,)),
    at("integrity/holds/<int:number>/release/", "/integrity/holds/{hold}/release/", OBJECT, roles=FORGETTERS, post={}),
    # what is the same for everybody
    at("connect/", "/connect/", roles=tuple(role for role in EVERYBODY if role not in ("witness", "service"))),
    at("guardrails/", "/guardrails/", SHARED),
    at("guardrails/try/", "/guardrails/try/", SHARED),
    at("guardrails/set/", "/guardrails/set/", SHARED, roles=DECIDERS, post={}, stranger=(403,)),
    at("guardrails/<int:number>/", "/guardrails/0/", SHARED),
    at("access/", "/access/", SHARED, roles=("admin", "operator"), stranger=(302,)),
    at("access/seats/<int:number>/", "/access/seats/{seat}/", OBJECT, roles=("admin",), stranger=(403,)),
    at("access/tokens/", "/access/tokens/", SHARED, roles=("admin",), stranger=(403,)),
    at("access/tokens/<int:number>/revoke/", "/access/tokens/{token}/revoke/", OBJECT, roles=READERS, post={}),
    at("access/sources/", "/access/sources/", roles=("admin", "operator")),
    at("account/", "/account/", roles=MEMBERS_TOO),
    at("accounts/login/", "/accounts/login/", OPEN),
    at("accounts/openid/", "/accounts/openid/", OPEN, stranger=(404,)),
    at("accounts/openid/callback/", "/accounts/openid/callback/", OPEN, stranger=(404,)),
    at("accounts/logout/", "/accounts/logout/", OPEN, post={}),
    # reports
    at("reports/", "/reports/"),
    at("reports/policy", "/reports/policy", SHARED),
    at("reports/new/", "/reports/new/", SHARED, roles=VALUES),
    at("reports/new/", "/reports/new/?kind=privileged-access&from=2026-01-01&to=2026-02-01&datasources={datasource}", OBJECT,
       roles=VALUES, stranger=(403, 404, 422)),
    at("reports/verify/", "/reports/verify/", SHARED),
    at("reports/verify/", "/reports/verify/", SHARED, post={}, stranger=(400,)),
    at("reports/ask", "/reports/ask", OBJECT, roles=VALUES, stranger=(403, 404),
       post={"kind": "privileged-access", "from": "2026-01-01", "to": "2026-02-01", "datasources": "{datasource}"}),
    at("reports/schedules/", "/reports/schedules/", roles=FORGETTERS),
    at("reports/schedules/", "/reports/schedules/", SHARED, roles=FORGETTERS, post={"name": ""}, stranger=(400, 422)),
    at("reports/schedules/<int:number>/", "/reports/schedules/{schedule}/", OBJECT, roles=FORGETTERS),
    at("reports/schedules/<int:number>/", "/reports/schedules/{schedule}/", OBJECT, roles=FORGETTERS, post={"act": "pause"}),
    at("reports/calendar/", "/reports/calendar/"),
    at("reports/<int:report_id>/", "/reports/{report}/", OBJECT),
    at("reports/<int:report_id>/override", "/reports/{report}/override", OBJECT, roles=FORGETTERS, post={"reason": "x"},
       stranger=(403, 404)),
    at("reports/<int:report_id>/supplement", "/reports/{report}/supplement", OBJECT, roles=VALUES, post={}),
    at("reports/<int:report_id>/redraw", "/reports/{report}/redraw", OBJECT, roles=VALUES, post={"nonce": "x"}),
    at("reports/sign-off/", "/reports/sign-off/"),
    at("reports/sign-off/plan", "/reports/sign-off/plan", SHARED, roles=FORGETTERS, post={"about": "kind x"}, stranger=(403,)),
    at("reports/<int:report_id>/sign-off", "/reports/{report}/sign-off", OBJECT, roles=("security", *FORGETTERS), post={"do": "sign"}),
    at("reports/<int:report_id>/exceptions", "/reports/{report}/exceptions", OBJECT, roles=("security", *FORGETTERS), post={"owner": "x"}),
    at("reports/<int:report_id>/judgement", "/reports/{report}/judgement", OBJECT, roles=("security", *FORGETTERS), post={"reason": "x"}),
    at(r"reports/^(?P<report_id>\d+)/file\.(?P<form>pdf|json|zip)$", "/reports/{report}/file.json", OBJECT),
    at("reports/<int:report_id>/<slug:test_id>.csv", "/reports/{report}/privileged-access.csv", OBJECT),
    # the API
    *(at(f"{API}{name}", f"/api/v1/{name}?format={form}") for name in LISTS for form in FORMATS),
    at(f"{API}reports/kinds", "/api/v1/reports/kinds"),
    at(f"{API}reports/calendar", "/api/v1/reports/calendar"),
    at(f"{API}reports/<int:report_id>/exceptions", "/api/v1/reports/{report}/exceptions", OBJECT),
    at(f"{API}events/<int:index>", "/api/v1/events/{index}", OBJECT),
    at(f"{API}sessions/<path:key>", "/api/v1/sessions/{session}", OBJECT),
    at(f"{API}identities/<path:identity_id>", "/api/v1/identities/{identity}", OBJECT),
    at(f"{CELL}holders", f"{WHERE}holders", stranger=(200, 404)),
    at(f"{CELL}rows/<path:key>", f"{WHERE}rows/{{key}}", OBJECT),
    at(f"{API}touched", "/api/v1/touched?run={run}"),
    at(f"{API}export", "/api/v1/export?q=op:read"),
    at(f"{API}guardrails", "/api/v1/guardrails", SHARED),
    at(f"{API}proof/inclusion", "/api/v1/proof/inclusion?index=0", SHARED, roles=EVERYBODY),
    at(f"{API}proof/consistency", "/api/v1/proof/consistency?from=1&to=2", SHARED, roles=EVERYBODY),
    at(f"{API}cosignature", "/api/v1/cosignature?size=1", SHARED, roles=EVERYBODY, post={}, stranger=(400, 404, 422)),
    at(f"{API}connect", "/api/v1/connect", OBJECT, roles=tuple(role for role in EVERYBODY if role != "witness"),
       post={"database": "{place}"}),
    at(f"{API}reports", "/api/v1/reports", OBJECT, roles=VALUES, stranger=(403,),
       post={"kind": "privileged-access", "from": "2026-01-01", "to": "2026-02-01", "datasources": ["{datasource}"]}),
    at(f"{API}reports/<int:report_id>/override", "/api/v1/reports/{report}/override", OBJECT, roles=FORGETTERS,
       post={"act": "ask", "reason": "x"}, stranger=(403, 404)),
    at(f"{API}reports/<int:report_id>/supplement", "/api/v1/reports/{report}/supplement", OBJECT, roles=VALUES, post={}),
    at(f"{API}gateway/held", "/api/v1/gateway/held", roles=MEMBERS_TOO),
    at(f"{API}gateway/held/<str:request_id>/decision", "/api/v1/gateway/held/{held}/decision", OBJECT, roles=DECIDERS,
       post={"decision": "reject", "reason": "x"}),
    at("checkpoint", "/checkpoint", SHARED, roles=EVERYBODY),
    at("tile/<path:name>", "/tile/0/000.p/1", SHARED, roles=EVERYBODY),
    at("tile/entries/<path:name>", "/tile/entries/000.p/1", OBJECT, stranger=(403,)),
    # what needs no viewer
    at(f"{API}gateway/keys", "/api/v1/gateway/keys", OPEN),
    at("healthz", "/healthz", OPEN),
    at("readyz", "/readyz", OPEN),
    at("metrics", "/metrics", OPEN),
    at("log/key", "/log/key", OPEN),
    at("api/schema", "/api/schema", OPEN),
    # what needs a source's token
    at(f"{API}ingest/<str:format_name>", "/api/v1/ingest/events", SOURCE, post={}),
    at(f"{API}token", "/api/v1/token", SOURCE, post={}),
    at(f"{API}heartbeat", "/api/v1/heartbeat", SOURCE, post={}),
    at(f"{API}gateway/exchange", "/api/v1/gateway/exchange", SOURCE, post={}),
)  # fmt: skip
