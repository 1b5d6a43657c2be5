"""`manage.py connect DATABASE`: a token for a database behind a gateway, as a ready line."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from lineage import connecting, connection_lines
from lineage.management.commands._told import Told, add_person, person

ABOUT_AGENT = {"as_agent": "id", "agent_name": "name", "agent_version": "version", "run": "run_id", "model": "model"}


class Command(Told):
    help = "Prints one ready psql line, with a short-lived token, for a database behind a gateway (docs/connect.md)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("database", help="its name as the page Connect lists it")
        add_person(parser)
        parser.add_argument("--minutes", type=int, default=connecting.MINUTES, help="how long it lets in")
        parser.add_argument("--purpose", default="", help="why; an agent that writes must say it")
        parser.add_argument("--ticket", default="")
        parser.add_argument("--as-agent", default="", metavar="ID", help="the agent that will use it for you")
        parser.add_argument("--agent-name", default="")
        parser.add_argument("--agent-version", default="")
        parser.add_argument("--run", default="", help="the agent's run")
        parser.add_argument("--model", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        viewer = person(options, "grant")
        wanted: dict[str, Any] = {name: options[name] for name in ("database", "minutes", "purpose", "ticket")}
        agent = {name: options[option] for option, name in ABOUT_AGENT.items() if options[option]}
        if agent:
            wanted["agent"] = agent
        issued = connecting.issue(viewer, wanted)
        lines = connection_lines.lines(issued.place.host, issued.place.port, issued.place.name, issued.user)
        self.stdout.write(connection_lines.for_shell(issued.token, lines["psql"]))
