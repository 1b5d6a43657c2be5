"""Addresses of the JSON API, below /api/v1/."""

from django.urls import path

from lineage import (
    api,
    client_credentials,
    exchange,
    findings_api,
    guardrails_api,
    held_api,
    intake_api,
    people_api,
    queries,
)
from lineage.views import export

urlpatterns = [
    path("ingest/<str:format_name>", intake_api.ingest_batch),
    path("heartbeat", api.heartbeat),
    path("token", client_credentials.token),
    path("events", api.listed(queries.events)),
    path("events/<int:index>", api.event),
    path("touches", api.listed(queries.touches)),
    path("sessions", api.listed(queries.sessions)),
    path("sessions/<path:key>", api.session),
    path("identities", api.listed(queries.identities)),
    path("identities/<path:identity_id>", api.identity),
    path("touched", people_api.touched),
    path("datasources", api.datasources),
    path("relations", api.listed(queries.relations)),
    path("relations/<str:datasource>/<str:relation>/holders", api.holders),
    path("relations/<str:datasource>/<str:relation>/rows/<path:key>", api.row),
    path("export", export),
    path("approvals", api.listed(queries.approvals)),
    path("findings", findings_api.listing),
    path("findings/<int:number>", findings_api.one),
    path("findings/<int:number>/triage", findings_api.said),
    path("guardrails", guardrails_api.guardrails),
    path("proof/inclusion", api.inclusion),
    path("proof/consistency", api.consistency),
    path("cosignature", api.cosignature),
    path("connect", api.connect),
    path("gateway/keys", api.gateway_keys),
    path("gateway/exchange", exchange.exchange),
    path("gateway/held", held_api.listing),
    path("gateway/held/<str:request_id>/decision", held_api.decision),
]
