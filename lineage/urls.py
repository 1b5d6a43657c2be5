"""The addresses of the pages; each is a deep link that another page, a report or a ticket may hold."""

from django.urls import path, register_converter
from django.urls.converters import StringConverter

from lineage import views


class NameConverter(StringConverter):
    """A database's or table's name as one part of an address, whatever it holds: a slash is written %2F once more."""

    def to_python(self, value: str) -> str:
        return value.replace("%2F", "/").replace("%25", "%")

    def to_url(self, value: str) -> str:
        return value.replace("%", "%25").replace("/", "%2F")


register_converter(NameConverter, "name")

urlpatterns = [
    path("", views.overview, name="overview"),
    path("overview/live/", views.overview_live, name="overview-live"),
    path("overview/first/", views.firsts, name="firsts"),
    path("search", views.search, name="search"),
    path("search/complete", views.complete, name="complete"),
    path("search/export", views.export, name="export"),
    path("search/quarter/", views.quarter, name="quarter"),
    path("search/saved/", views.saved_searches, name="saved"),
    path("search/saved/add/", views.saved_add, name="saved-add"),
    path("search/saved/<int:number>/", views.saved_change, name="saved-change"),
    path("search/saved/<int:number>/remove/", views.saved_remove, name="saved-remove"),
    path("search/saved/<int:number>/restore/", views.saved_restore, name="saved-restore"),
    path("sessions/", views.sessions, name="sessions"),
    path("sessions/live/", views.live, name="live"),
    path("sessions/live/rows/", views.live_rows, name="live-rows"),
    path("sessions/live/<int:number>/", views.live_session, name="live-session"),
    path("sessions/live/<int:number>/end/", views.live_kill, name="live-kill"),
    path("sessions/<path:key>/", views.session, name="session"),
    path("identities/", views.identities, name="identities"),
    path("logins/", views.logins, name="logins"),
    path("identities/<path:identity_id>/", views.identity, name="identity"),
    path("runs/<path:run>/", views.run, name="run"),
    path("touched/", views.touched, name="touched"),
    path("undo/", views.undo_page, name="undo"),
    path("undo/script.sql", views.undo_file, name="undo-file"),
    path("tables/", views.tables, name="tables"),
    path("tables/<name:datasource>/<name:relation>/rows/<path:key>/", views.row, name="row"),
    path("tables/<name:datasource>/<name:relation>/tags/", views.tags, name="tags"),
    path("tables/<name:datasource>/<path:relation>/", views.table, name="table"),
    path("lineage/record/<int:index>/", views.record_chain, name="record-chain"),
    path("lineage/ticket/<path:ticket>/", views.ticket_chain, name="ticket-chain"),
    path("lineage/session/<path:key>/", views.session_chain, name="session-chain"),
    path("lineage/row/<name:datasource>/<name:relation>/rows/<path:key>/", views.row_chain, name="row-chain"),
    path("events/<int:index>/", views.event, name="event"),
    path("databases/", views.databases, name="databases"),
    path("connect/", views.connect, name="connect"),
    path("findings/", views.findings, name="findings"),
    path("findings/rules/", views.finding_rules, name="finding-rules"),
    path("findings/receivers/", views.finding_receivers, name="finding-receivers"),
    path("findings/<int:number>/", views.finding, name="finding"),
    path("findings/<int:number>/triage/", views.finding_triage, name="finding-triage"),
    path("approvals/", views.approvals, name="approvals"),
    path("approvals/live/", views.approvals_live, name="approvals-live"),
    path("approvals/held/<str:request_id>/", views.held_statement, name="held"),
    path("approvals/held/<str:request_id>/decide/", views.held_decide, name="held-decide"),
    path("approvals/held/<str:request_id>/review/", views.held_review, name="held-review"),
    path("guardrails/", views.guardrails, name="guardrails"),
    path("guardrails/try/", views.guardrails_try, name="guardrails-try"),
    path("guardrails/set/", views.guardrails_set, name="guardrails-set"),
    path("guardrails/<int:number>/", views.guardrail_version, name="guardrail-version"),
    path("integrity/", views.integrity, name="integrity"),
    path("integrity/seal/", views.seal, name="seal"),
    path("integrity/checkpoints/", views.checkpoints, name="checkpoints"),
    path("integrity/checkpoints/<int:size>/", views.checkpoint, name="checkpoint"),
    path("integrity/gaps/", views.gaps, name="gaps"),
    path("integrity/quarantine/", views.quarantined, name="quarantine"),
    path("integrity/quarantine/<int:number>/", views.quarantined_item, name="quarantine-item"),
    path("integrity/quarantine/<int:number>/bytes", views.quarantined_bytes, name="quarantine-bytes"),
    path("integrity/quarantine/<int:number>/retry/", views.quarantine_retry, name="quarantine-retry"),
    path("integrity/checks/", views.recheck_ask, name="recheck-ask"),
    path("integrity/checks/<int:number>/", views.recheck, name="recheck"),
    path("integrity/checks/<int:number>/live/", views.recheck_live, name="recheck-live"),
    path("integrity/checks/<int:number>/cancel/", views.recheck_cancel, name="recheck-cancel"),
    path("integrity/pack/", views.pack, name="pack"),
    path("integrity/erasures/", views.forgetting, name="forgetting"),
    path("integrity/erasures/ask/", views.erasure_ask, name="erasure-ask"),
    path("integrity/erasures/<int:number>/", views.erasure, name="erasure"),
    path("integrity/erasures/<int:number>/decide/", views.erasure_decide, name="erasure-decide"),
    path("integrity/holds/add/", views.hold_add, name="hold-add"),
    path("integrity/holds/<int:number>/release/", views.hold_release, name="hold-release"),
    path("preferences/", views.preferences, name="preferences"),
    path("access/", views.seats_page, name="access"),
    path("access/seats/<int:number>/", views.seat_page, name="access-seat"),
    path("access/tokens/", views.tokens_page, name="access-tokens"),
    path("access/tokens/<int:number>/revoke/", views.token_revoke, name="token-revoke"),
    path("access/sources/", views.sources_page, name="access-sources"),
    path("account/", views.account, name="account"),
    path("accounts/login/", views.sign_in, name="login"),
    path("accounts/openid/", views.openid_start, name="openid"),
    path("accounts/openid/callback/", views.openid_callback, name="openid-callback"),
    path("accounts/logout/", views.sign_out, name="logout"),
]
