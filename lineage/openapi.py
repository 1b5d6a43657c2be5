"""The OpenAPI 3.1 document: one table of endpoints, and the event model as JSON Schema."""

from __future__ import annotations

from typing import Any

LISTS = ("events", "touches", "sessions", "identities", "datasources", "relations", "findings", "approvals")
WHOLE = {
    "/api/v1/export": "All of a list in one file with its manifest, as a ZIP (`q`, `by`, `format`, `since`, `until`, `as_of`)",
    "/api/v1/events/{index}": "One event with its leaf and groups",
    "/api/v1/sessions/{id}": "One session with its steps",
    "/api/v1/identities/{id}": "One identity",
    "/api/v1/touched": "Everything one `identity` or agent `run` touched, `by` statements, rows or tables",
    "/api/v1/relations/{datasource}/{relation}/rows/{key}": "One row's life",
    "/api/v1/relations/{datasource}/{relation}/holders": "Who held which right at a time (`at`)",
    "/api/v1/findings/{number}": "One finding with evidence, triage and delivery",
    "/api/v1/gateway/held": "Held statements in scope, newest first (`state`)",
    "/api/v1/reports": "Reports in scope, newest first (`limit`, `format`)",
    "/api/v1/reports/kinds": "Kinds of report with their tests, and why some are not available in scope (`environment`)",
    "/api/v1/reports/calendar": "What was due of the schedules of reports and became of it, newest first (`limit`, `format`)",
    "/api/v1/reports/{id}/exceptions": "What was said of a report's deviations, and concluded of its tests, so far",
    "/api/v1/sign-offs": "Every sign-off asked for of reports in scope: who, until when, what they did (`limit`, `format`)",
    "/api/v1/proof/inclusion": "Inclusion proof for `index` in the tree of `size`",
    "/api/v1/proof/consistency": "Consistency proof `from` one size `to` another",
    "/checkpoint": "The newest signed checkpoint with its cosignatures (`witnessed=1`: the newest that has one)",
    "/tile/{tile}": "256 hashes of one level (C2SP tlog-tiles)",
    "/tile/entries/{tile}": "The records under 256 leaf hashes",
    "/log/key": "The checkpoint key",
    "/api/v1/gateway/keys": "The public keys of the tokens for gateways (JWK set)",
    "/healthz": "The process answers",
    "/readyz": "The store can accept, answer and sign",
    "/metrics": "Prometheus metrics",
}


def _query(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": "string"}}


FILTERS = [
    _query("q", "Search text"),
    _query("since", "Event time from: RFC 3339, a date, or 24h, 7d …"),
    _query("until", "Event time until (exclusive)"),
    _query("environment", "One environment"),
    _query("limit", "1 to 1000, default 50"),
    _query("cursor", "`next` of the answer before, or `previous` for the page before it"),
    _query("count", "exact: count above 10,000 to the end"),
    _query("format", "json, csv, ndjson or parquet; events also ocsf"),
]


def _path(summary: str, path: str) -> dict[str, Any]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    given = [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in names]
    return {"get": {"summary": summary, "parameters": given, "responses": {"200": {"description": "OK"}, **ERRORS}}}


ERRORS = {
    "default": {
        "description": "Refused",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
}


COSIGNATURE = {
    "summary": "A witness's signature line over the checkpoint of `size`",
    "parameters": [_query("size", "The checkpoint's size")],
    "requestBody": {"content": {"text/plain": {"schema": {"type": "string"}}}},
    "responses": {"200": {"description": "It is kept"}, **ERRORS},
}


def _object(members: str) -> dict[str, Any]:
    """The JSON Schema of an object; members as "name:type …"."""
    properties = {name: {"type": kind} for name, kind in (member.split(":") for member in members.split())}
    return {"type": "object", "properties": properties}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


TOKEN = {
    "summary": "A source's own token, for senders that only know OAuth 2.0 client credentials",
    "requestBody": {
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": _object("grant_type:string client_id:string client_secret:string")
            }
        }
    },
    "responses": {
        "200": {
            "description": "The token that was sent",
            **_json(_object("access_token:string token_type:string expires_in:integer")),
        },
        **ERRORS,
    },
}
PLACE = "database:string datasource:string environment:string host:string port:integer user:string lines:object"
CONNECT = {
    "summary": "A short-lived token for a database behind a gateway, for you or an agent that works for you",
    "requestBody": _json(_object("database:string minutes:integer purpose:string ticket:string agent:object")),
    "responses": {
        "200": {
            "description": "The token, once, and lines for usual clients; it is in the log",
            **_json(_object(f"token:string expires_at:string {PLACE}")),
        },
        **ERRORS,
    },
}


GUARDRAILS = {
    "summary": "Other guardrails hold from now on (security, admin)",
    "requestBody": _json(_object("text:string reason:string")),
    "responses": {
        "201": {
            "description": "The version that holds",
            **_json(_object("version:integer digest:string by:string reason:string at:string")),
        },
        **ERRORS,
    },
}
TRIAGE = {
    "summary": "Say something of a finding: act owner, note, verdict (true, false-alarm, accepted) or reopen",
    "parameters": [{"name": "number", "in": "path", "required": True, "schema": {"type": "integer"}}],
    "requestBody": _json(_object("act:string value:string note:string")),
    "responses": {"200": {"description": "The finding's state, verdict and owner now"}, **ERRORS},
}
HELD = {
    "summary": "Decide about a held statement: approve, reject, break-glass, or review what broke glass",
    "parameters": [{"name": "request_id", "in": "path", "required": True, "schema": {"type": "string"}}],
    "requestBody": _json(_object("decision:string reason:string digest:string minutes:integer row_cap:integer")),
    "responses": {"200": {"description": "The held statement as it is now"}, **ERRORS},
}
REPORT = [{"name": "report_id", "in": "path", "required": True, "schema": {"type": "integer"}}]
REPORT_NOW = {"200": {"description": "The report's id, number, status and override"}, **ERRORS}
ASK = {
    "summary": "Ask for a report: kind, from (included) and to (not included), and what narrows it",
    "requestBody": _json(
        _object(
            "kind:string from:string to:string environment:string datasources:array q:string draft:boolean "
            "engagement:string sample:string"
        )
    ),
    "responses": {
        "202": {"description": "It is queued", **_json(_object("id:integer number:string status:string"))},
        **ERRORS,
    },
}
OVERRIDE = {
    "summary": "Ask that a blocked report be issued all the same, with a reason, or grant it (compliance, admin; two people)",
    "parameters": REPORT,
    "requestBody": _json(_object("act:string reason:string")),
    "responses": REPORT_NOW,
}
SUPPLEMENT = {
    "summary": "Make a supplement of a final report: what came late and falls into its period",
    "parameters": REPORT,
    "responses": REPORT_NOW,
}
EXCHANGED = (
    "rules:object tags:array tags_state:string keys:object keys_state:string kills:array decisions:array refused:array"
)
EXCHANGE = {
    "summary": "What a gateway holds, and what it is told (token of a source of format gateway)",
    "requestBody": _json(
        _object(
            "gateway:string version:string databases:array sessions:array held:array asked:array done:array rules:object"
        )
    ),
    "responses": {"200": {"description": "What it is told", **_json(_object(EXCHANGED))}, **ERRORS},
}


def _reads() -> dict[str, Any]:
    """The paths that answer GET."""
    ok = {"responses": {"200": {"description": "OK"}, **ERRORS}}
    lists = {f"/api/v1/{name}": {"get": {"summary": f"List {name}", "parameters": FILTERS, **ok}} for name in LISTS}
    return lists | {path: _path(summary, path) for path, summary in WHOLE.items()}


def document(components: dict[str, Any]) -> dict[str, Any]:
    """The whole document. `components` are the JSON Schemas of the event model."""
    paths: dict[str, Any] = {
        "/api/v1/ingest/{format}": {
            "post": {
                "summary": "Send one batch of items",
                "parameters": [{"name": "format", "in": "path", "required": True, "schema": {"type": "string"}}],
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {"type": "array", "items": {"$ref": "#/components/schemas/Event"}}
                        }
                    }
                },
                "responses": {"200": {"description": "Every item is durably answered for"}, **ERRORS},
            }
        },
        "/api/v1/heartbeat": {
            "post": {"summary": "The source lives", "responses": {"200": {"description": "OK"}, **ERRORS}}
        },
        "/api/v1/token": {"post": TOKEN},
        "/api/v1/cosignature": {"post": COSIGNATURE},
        "/api/v1/connect": {"post": CONNECT},
        "/api/v1/guardrails": {
            **_path("The guardrails that hold, and all versions", "/api/v1/guardrails"),
            "post": GUARDRAILS,
        },
        "/api/v1/gateway/exchange": {"post": EXCHANGE},
        "/api/v1/findings/{number}/triage": {"post": TRIAGE},
        "/api/v1/gateway/held/{request_id}/decision": {"post": HELD},
        "/api/v1/reports/{report_id}/override": {"post": OVERRIDE},
        "/api/v1/reports/{report_id}/supplement": {"post": SUPPLEMENT},
    }
    paths |= _reads()
    paths["/api/v1/reports"]["post"] = ASK
    error = {
        "type": "object",
        "required": ["code", "message", "fields"],
        "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "fields": {"type": "object"}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Touchstone", "version": "0.1.0"},
        "components": {
            "schemas": {**components, "Error": error},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
        "paths": paths,
    }
