"""`manage.py verifier --out DIR`: the two verifiers that are one file each, with their hashes."""

import hashlib
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

import lineage.verify
from lineage.management.commands._told import Told

RELEASE = Path(lineage.verify.__file__).parent / "release"
NAMES = ("touchstone_verify.py", "verify.html")


class Command(Told):
    help = "Writes the verifiers that are one file each, and their SHA-256, for an auditor's day one (docs/verify.md)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--out", type=Path, required=True, help="a folder; it is made if it is not there")

    def handle(self, *args: Any, **options: Any) -> None:
        out: Path = options["out"]
        out.mkdir(parents=True, exist_ok=True)
        sums = ""
        for name in NAMES:
            data = (RELEASE / name).read_bytes()
            (out / name).write_bytes(data)
            sums += f"{hashlib.sha256(data).hexdigest()}  {name}\n"
        (out / "SHA256SUMS").write_text(sums)
        self.stdout.write(sums, ending="")
