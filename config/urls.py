"""Where each address leads."""

from django.urls import include, path

urlpatterns = [
    path("api/v1/", include("lineage.api_urls")),
    path("", include("lineage.probes_urls")),
    path("reports/", include("reports.urls")),
    path("", include("lineage.urls")),
]
