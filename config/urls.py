"""Where each address leads."""

from django.urls import include, path

from reports import acts, asking, exception_views, kind_views, review_views, schedule_views

urlpatterns = [
    path("api/v1/", include("lineage.api_urls")),
    path("api/v1/reports", asking.reports),
    path("api/v1/sign-offs", review_views.listing),
    path("api/v1/reports/kinds", kind_views.listing),
    path("api/v1/reports/calendar", schedule_views.occurrences),
    path("api/v1/reports/<int:report_id>/override", acts.override_by_token),
    path("api/v1/reports/<int:report_id>/supplement", acts.supplement_by_token),
    path("api/v1/reports/<int:report_id>/exceptions", exception_views.listing),
    path("", include("lineage.probes_urls")),
    path("reports/", include("reports.urls")),
    path("", include("lineage.urls")),
]

handler400 = "lineage.views.bad_request"
handler403 = "lineage.views.forbidden"
handler404 = "lineage.views.not_found"
handler500 = "lineage.views.server_error"
