"""What the program learns of reports when it starts."""

from django.apps import AppConfig


class ReportsConfig(AppConfig):
    name = "reports"

    def ready(self) -> None:
        """Reports keep copies of values: an erasure reaches them too."""
        from lineage import due, reach
        from reports import due as reports_due
        from reports import forgetting

        if forgetting.PLACE not in reach.places:
            reach.places.append(forgetting.PLACE)
        if reports_due.due not in due.askers:
            due.askers.append(reports_due.due)
