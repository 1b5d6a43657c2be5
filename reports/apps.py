"""What the program learns of reports when it starts."""

from django.apps import AppConfig


class ReportsConfig(AppConfig):
    name = "reports"

    def ready(self) -> None:
        """Reports keep copies of values: an erasure reaches them too."""
        from lineage import reach
        from reports import forgetting

        if forgetting.PLACE not in reach.places:
            reach.places.append(forgetting.PLACE)
