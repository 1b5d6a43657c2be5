"""`manage.py fsck`: derives everything again and compares."""

from typing import Any

from lineage import fsck
from lineage.management.commands._told import Told


class Command(Told):
    help = "Derives tree and segments again from the stored leaves. Exit 0 only if all agrees."

    def handle(self, *args: Any, **options: Any) -> None:
        faults = 0
        for fault in fsck.check():
            faults += 1
            self.stdout.write(fault)
        if faults:
            self.stdout.write(f"{faults} faults. Keep everything as it is and call the security owner.")
            raise SystemExit(1)
        self.stdout.write("All agrees: records, batches, tree, checkpoints, segments.")
