"""The store as a Django application."""

from __future__ import annotations

from django.apps import AppConfig


class LineageConfig(AppConfig):
    name = "lineage"

    def ready(self) -> None:
        from config import checks  # noqa: F401 - registers them
        from lineage import reach, saved, tickets
        from lineage.findings import forgetting

        for place in (saved.PLACE, tickets.PLACE, forgetting.PLACE):
            if place not in reach.places:
                reach.places.append(place)
