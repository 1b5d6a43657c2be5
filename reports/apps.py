"""What the program learns of reports when it starts."""

from django.apps import AppConfig


class ReportsConfig(AppConfig):
    name = "reports"

    def ready(self) -> None:
        """Reports keep copies of values: an erasure reaches them too. The keeper sends those that are final."""
        from lineage import due, keeper, reach
        from reports import deliveries, forgetting
        from reports import due as reports_due

        if forgetting.PLACE not in reach.places:
            reach.places.append(forgetting.PLACE)
        if reports_due.due not in due.askers:
            due.askers.append(reports_due.due)
        if deliveries.round_of not in keeper.more:
            keeper.more.append(deliveries.round_of)
