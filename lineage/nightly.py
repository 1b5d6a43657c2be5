"""`fsck` on a schedule: a process of its own beside the keeper, and an alarm when it finds a fault."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

from django.conf import settings

from lineage import alarms

log = logging.getLogger("touchstone.keeper")


def check_when_due() -> None:
    """Runs `fsck` when the last whole run is longer ago than TOUCHSTONE_FSCK_HOURS; a fault becomes `fsck-failed`."""
    if not settings.FSCK_HOURS or not _is_due(_marker()):
        return
    done = subprocess.run(
        [sys.executable, str(settings.BASE_DIR / "manage.py"), "fsck", "--gently"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=settings.BASE_DIR,
        env={**os.environ, "TOUCHSTONE_DATA": str(settings.DATA_DIR)},
    )  # fmt: skip
    if done.returncode == 0:
        _marker().touch()
    elif done.stdout:
        alarms.sound("fsck-failed", done.stdout.splitlines()[0])
        _marker().touch()
    else:
        log.warning("fsck did not come to an end (%s); it is tried again", done.returncode)


def _marker() -> Path:
    """Its time is that of the last run. A new store is looked at after the first period."""
    marker = Path(settings.DATA_DIR) / "log" / "fsck"
    if not marker.exists():
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    return marker


def _is_due(marker: Path) -> bool:
    return time.time() - marker.stat().st_mtime >= settings.FSCK_HOURS * 3600
