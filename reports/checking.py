"""Checks a file that somebody brought, in a child process with limits: `python -m lineage.verify`, as an auditor runs it.

The file is nobody's yet. It lies in a folder of its own while the child reads it, and is gone afterwards.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from lineage import errors
from lineage.verify.verdicts import NO_MEMORY, Verdict

ROOT = Path(__file__).resolve().parent.parent
BYTES_MOST = 200 * 1024**2
POLICY_BYTES_MOST = 256 * 1024
SECONDS_MOST = 120
MEMORY_MOST_BYTES = 4 * 1024**3
AT_ONCE = 2
_places = threading.BoundedSemaphore(AT_ONCE)


def verdict(chunks: Iterable[bytes], policy: str) -> dict[str, Any]:
    """What the verifier says of a file under a policy: `exit`, `sentence`, `checks`.

    Raises CheckStopped when the child takes too long or too much memory, StoreUnavailable while others are checked.
    """
    if not _places.acquire(blocking=False):
        raise errors.StoreUnavailable(
            "Other files are being checked now. Try again in a moment, or check it on your machine."
        )
    try:
        with tempfile.TemporaryDirectory(prefix="check-") as folder:
            file, trusted = Path(folder, "evidence"), Path(folder, "policy")
            with file.open("wb") as out:
                out.writelines(chunks)
            trusted.write_text(policy, encoding="utf-8")
            return _answer(_run(folder, file, trusted))
    finally:
        _places.release()


def _run(folder: str, file: Path, policy: Path) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            [sys.executable, "-m", "lineage.verify", str(file), "--policy", str(policy), "--json"],
            cwd=ROOT,
            env={"PATH": os.environ.get("PATH", ""), "HOME": folder, "TZ": "UTC", "LC_ALL": "C.UTF-8"},
            preexec_fn=_limit,
            timeout=SECONDS_MOST,
            capture_output=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise errors.CheckStopped from error


def _answer(child: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    try:
        told: dict[str, Any] = msgspec.json.decode(child.stdout)
    except msgspec.DecodeError as error:
        raise errors.CheckStopped from error
    if told["sentence"] == Verdict.unreadable(NO_MEMORY).sentence:
        raise errors.CheckStopped
    return told


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MOST_BYTES, MEMORY_MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS_MOST, SECONDS_MOST))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # It writes nothing; what makes it try is stopped.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
