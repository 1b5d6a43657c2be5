"""`manage.py steward`: merges, makes extracts, judges and checks, for ever."""

from typing import Any

from django.core.management.base import BaseCommand

from lineage import steward


class Command(BaseCommand):
    help = "Merges, makes extracts, judges and checks until stopped, and gives way to everything else meanwhile."

    def handle(self, *args: Any, **options: Any) -> None:
        steward.run()
