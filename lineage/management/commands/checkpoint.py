"""`manage.py checkpoint [--show] [--drop] [--first-use]`: signs now, and gives the checkpoint to those outside who shall hold it."""

from typing import Any

from django.core.management.base import CommandParser

from lineage import checkpoints, drops, errors, keeper, witnesses
from lineage.management.commands._told import Told


class Command(Told):
    help = "Signs a checkpoint over everything in the log, now."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--show", action="store_true", help="show it to the witnesses that have an address")
        parser.add_argument("--first-use", action="store_true", help="begin a log over records that nobody ever signed")
        parser.add_argument("--drop", action="store_true", help="write it into the drop folder, mail it")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["first_use"]:
            with keeper.lock():
                checkpoints.begin(over_records=True)
        self.stdout.write(f"signed: {keeper.once()} records")
        if options["show"]:
            self._show()
        if options["drop"]:
            for line in drops.drop():
                self.stdout.write(f"dropped: {line}")

    def _show(self) -> None:
        asked = [each.name for each in witnesses.configured() if each.url]
        if not asked:
            raise errors.SettingsInvalid("No witness with an address is named. See TOUCHSTONE_WITNESS_POLICY.")
        reasons = witnesses.show_all()
        for name in asked:
            if name not in reasons:
                self.stdout.write(f"cosigned: {name}")
        if reasons:
            raise errors.StoreUnavailable(" ".join(f"{name}: {reason}" for name, reason in reasons.items()))
