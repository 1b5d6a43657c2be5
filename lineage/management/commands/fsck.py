"""`manage.py fsck`: derives everything again and compares."""

import ctypes
import os
import signal
from typing import Any

from django.core.management.base import CommandParser

from lineage import fsck, health, keeper
from lineage.management.commands._told import Told

PR_SET_PDEATHSIG = 1


class Command(Told):
    help = "Derives tree and segments again from the stored leaves. Exit 0 only if all agrees."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--repair-hashes", action="store_true", help="write the file of leaf hashes again first")
        parser.add_argument("--gently", action="store_true", help="at low priority, and ending with the caller")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["gently"]:
            os.nice(19)
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if options["repair_hashes"]:
            with keeper.lock():
                self.stdout.write(f"The file of leaf hashes holds {fsck.repair_hashes()} hashes, as signed.")
        faults = 0
        for fault in fsck.check():
            faults += 1
            self.stdout.write(fault)
        if faults:
            health.tell_disagreements()
            self.stdout.write(
                f"{faults} fault{'' if faults == 1 else 's'}. Keep everything as it is and call the security owner."
            )
            raise SystemExit(1)
        self.stdout.write("All agrees: records, batches, tree, checkpoints, segments.")
