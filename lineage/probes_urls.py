"""Addresses that machines ask: probes, checkpoint, key, schema."""

from django.urls import path

from lineage import probes

urlpatterns = [
    path("healthz", probes.healthz),
    path("readyz", probes.readyz),
    path("metrics", probes.metrics),
    path("checkpoint", probes.checkpoint),
    path("tile/entries/<path:name>", probes.entries),
    path("tile/<path:name>", probes.tile),
    path("log/key", probes.log_key),
    path("api/schema", probes.schema),
]
