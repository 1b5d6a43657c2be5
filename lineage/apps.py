"""The store as a Django application."""

from __future__ import annotations

from django.apps import AppConfig


class LineageConfig(AppConfig):
    name = "lineage"

    def ready(self) -> None:
        from lineage import reach, saved

        if saved.PLACE not in reach.places:
            reach.places.append(saved.PLACE)
