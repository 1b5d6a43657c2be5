"""`manage.py pack QUERY --out FILE`: an evidence pack."""

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from lineage import keeper, ledger, packs, witnesses
from lineage.events import GROUPS
from lineage.management.commands._told import Told, viewer


class Command(Told):
    help = "Writes an evidence pack that `python -m lineage.verify` checks offline."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("query")
        parser.add_argument("--out", type=Path, required=True)
        parser.add_argument("--withhold", action="append", default=[], choices=GROUPS)
        parser.add_argument("--earlier", type=Path, help="a checkpoint note that the auditor holds")
        parser.add_argument(
            "--witnessed", action="store_true", help="under the newest checkpoint that a witness cosigned"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        who, out = viewer(), options["out"]
        ledger.record_decision("evidence_read", decided_by=who.email, subject="pack", purpose=options["query"][:1024])
        keeper.once()
        for name, reason in witnesses.show_all().items():
            self.stderr.write(f"not cosigned by {name}: {reason}")
        body = packs.collect(
            who,
            options["query"],
            withhold=options["withhold"],
            earlier=options["earlier"].read_text() if options["earlier"] else None,
            witnessed=options["witnessed"],
            beside=out.with_name(f"{out.name.removesuffix('.touchstone.zip').removesuffix('.zip')}.leaves.ndjson"),
        )
        out.write_bytes(body)
        self.stdout.write(f"{out}: {packs.told(body)}")
