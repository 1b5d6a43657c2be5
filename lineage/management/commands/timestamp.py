"""`manage.py timestamp`: asks the timestamp authorities now."""

from typing import Any

from lineage import authorities, errors
from lineage.events import format_time
from lineage.management.commands._told import Told


class Command(Told):
    help = "Asks each timestamp authority of TOUCHSTONE_TSA for a token over the newest checkpoint, now."

    def handle(self, *args: Any, **options: Any) -> None:
        configured = authorities.configured()
        if not configured:
            raise errors.SettingsInvalid("No timestamp authority is named. Set TOUCHSTONE_TSA=NAME=URL.")
        failed = []
        for name, url in configured.items():
            try:
                stamped = authorities.ask(name, url)
            except errors.TimestampInvalid as error:
                failed.append(f"{name}: {error.message}")
            else:
                self.stdout.write(f"{name}: {stamped.size} records at {format_time(stamped.stated_at)[:19]}Z")
        if failed:
            raise errors.TimestampInvalid(" ".join(failed))
