"""The steward: what takes long and may come later than signing and sealing, in a process of its own that gives way to all others.

It merges, renews, makes extracts, judges by the rules and checks. Whatever it had begun when it is killed, the old or the new
state stands: what it left is swept by the keeper, and the next one does it again (docs/decisions/029).
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from django.conf import settings

from lineage import health, locks, nightly, rechecks, renewing, turns
from lineage.extracts import keeping
from lineage.findings import judging
from lineage.turns import Round

NICE = 10
NIGHTLY_PACE_SECONDS = 60.0
MERGE_PACE_SECONDS = 2.0
EXTRACT_PACE_SECONDS = 1.0


def rounds() -> list[Round]:
    """What the steward does: each apart, since each may take long."""
    return [
        Round("fsck", NIGHTLY_PACE_SECONDS, nightly.check_when_due, apart=True),
        Round("recheck", 1, rechecks.run_due, apart=True),
        Round("coverage", settings.COVERAGE_SECONDS, health.Watch(), apart=True),
        Round(locks.MERGE, MERGE_PACE_SECONDS, renewing.tend, apart=True),
        Round(locks.EXTRACT, EXTRACT_PACE_SECONDS, keeping.Keeping(), apart=True),
        Round("findings", 0, judging.Judging(), apart=True),
    ]


def run() -> None:
    """For ever. A lost database is waited for."""
    _give_way()
    turns.begin()
    turns.beside(rounds())
    threading.Event().wait()


def _give_way() -> None:
    """While somebody else has work, both cores are theirs."""
    os.nice(NICE)
    if os.getsid(0) == os.getpid():
        # Linux may share cores between sessions before it does within them: then this is what counts.
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(NICE))
