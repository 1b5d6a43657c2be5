"""The addresses of the pages; each is a deep link that another page, a report or a ticket may hold."""

from django.urls import path

from lineage import views

urlpatterns = [
    path("", views.overview, name="overview"),
    path("overview/live/", views.overview_live, name="overview-live"),
    path("search", views.search, name="search"),
    path("sessions/", views.sessions, name="sessions"),
    path("sessions/<path:key>/", views.session, name="session"),
    path("identities/", views.identities, name="identities"),
    path("identities/<path:identity_id>/", views.identity, name="identity"),
    path("tables/", views.tables, name="tables"),
    path("tables/<str:datasource>/<str:relation>/rows/<path:key>/", views.row, name="row"),
    path("tables/<str:datasource>/<path:relation>/", views.table, name="table"),
    path("events/<int:index>/", views.event, name="event"),
    path("databases/", views.databases, name="databases"),
    path("connect/", views.connect, name="connect"),
    path("findings/", views.findings, name="findings"),
    path("approvals/", views.approvals, name="approvals"),
    path("guardrails/", views.guardrails, name="guardrails"),
    path("guardrails/try/", views.guardrails_try, name="guardrails-try"),
    path("guardrails/set/", views.guardrails_set, name="guardrails-set"),
    path("guardrails/<int:number>/", views.guardrail_version, name="guardrail-version"),
    path("integrity/", views.integrity, name="integrity"),
    path("integrity/seal/", views.seal, name="seal"),
    path("integrity/erasures/", views.forgetting, name="forgetting"),
    path("integrity/erasures/ask/", views.erasure_ask, name="erasure-ask"),
    path("integrity/erasures/<int:number>/", views.erasure, name="erasure"),
    path("integrity/erasures/<int:number>/decide/", views.erasure_decide, name="erasure-decide"),
    path("integrity/holds/add/", views.hold_add, name="hold-add"),
    path("integrity/holds/<int:number>/release/", views.hold_release, name="hold-release"),
    path("accounts/login/", views.sign_in, name="login"),
    path("accounts/logout/", views.sign_out, name="logout"),
]
