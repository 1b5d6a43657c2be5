"""Where each address leads."""

from django.urls import include, path

from reports.views import listing

urlpatterns = [
    path("api/v1/", include("lineage.api_urls")),
    path("api/v1/reports", listing),
    path("", include("lineage.probes_urls")),
    path("reports/", include("reports.urls")),
    path("", include("lineage.urls")),
]

handler400 = "lineage.views.bad_request"
handler403 = "lineage.views.forbidden"
handler404 = "lineage.views.not_found"
handler500 = "lineage.views.server_error"
