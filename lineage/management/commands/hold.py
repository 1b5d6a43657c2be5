"""`manage.py hold`: not available yet."""

from typing import Any

from django.core.management.base import CommandParser

from lineage import errors
from lineage.management.commands._told import Told


class Command(Told):
    help = "Not available yet."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("words", nargs="*")

    def handle(self, *args: Any, **options: Any) -> None:
        raise errors.NotAvailableYet("`hold` is not available yet. Everything is kept.")
