"""What the program learns of reports when it starts."""

from django.apps import AppConfig


class ReportsConfig(AppConfig):
    name = "reports"

    def ready(self) -> None:
        """Reports keep copies of values: an erasure reaches them too. The keeper sends those that are final."""
        from lineage import due, keeper, reach
        from reports import deliveries, forgetting, review_views
        from reports import due as reports_due

        if forgetting.PLACE not in reach.places:
            reach.places.append(forgetting.PLACE)
        for asker in (reports_due.due, review_views.due):
            if asker not in due.askers:
                due.askers.append(asker)
        if deliveries.round_of not in keeper.more:
            keeper.more.append(deliveries.round_of)
