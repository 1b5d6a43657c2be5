"""`manage.py alarm`: which alarms stand, and ending one after it was looked into."""

from typing import Any

from django.core.management.base import CommandParser

from lineage import alarms
from lineage.management.commands._told import Told, operator


class Command(Told):
    help = "alarm list · alarm clear ID --reason TEXT: the alarms that stand; ending one, which becomes a record."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="number, code, since when, what")
        clear = actions.add_parser("clear", help="ends an alarm; who and why are recorded in the log")
        clear.add_argument("id", type=int)
        clear.add_argument("--reason", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "clear":
            alarms.clear_by(options["id"], operator(), options["reason"])
            return
        for each in alarms.standing():
            self.stdout.write(f"{each['id']}  {each['code']}  {each['at']:%Y-%m-%d %H:%M:%S} UTC  {each['message']}")
