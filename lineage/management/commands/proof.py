"""`manage.py proof INDEX --out FILE`: a C2SP tlog-proof of one record."""

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from lineage import keeper, ledger, packs
from lineage.management.commands._told import Told, operator


class Command(Told):
    help = (
        "Writes the proof that one record is in the signed log, for `python -m lineage.verify`. It discloses no group."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("index", type=int)
        parser.add_argument("--size", type=int, help="of the checkpoint; by default the newest")
        parser.add_argument("--out", type=Path, required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        ledger.record_decision("evidence_read", decided_by=operator(), subject=f"proof {options['index']}")
        keeper.once()
        text = packs.single(options["index"], options["size"])
        options["out"].write_text(text)
        self.stdout.write(f"{options['out']}: record {options['index']}, {len(text):,} bytes")
