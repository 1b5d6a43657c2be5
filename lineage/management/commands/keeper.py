"""`manage.py keeper`: signs checkpoints and seals, for ever."""

from typing import Any

from django.core.management.base import BaseCommand

from lineage import keeper


class Command(BaseCommand):
    help = "Signs checkpoints and seals segments until stopped."

    def handle(self, *args: Any, **options: Any) -> None:
        keeper.run()
