"""The public test vectors, read from the folder that TOUCHSTONE_VECTORS names."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(os.environ.get("TOUCHSTONE_VECTORS", Path(__file__).resolve().parent.parent / "../shared/vectors"))


def path(name: str) -> Path:
    """The vector file or folder; without it the test is skipped, and fails where CI is set."""
    found = FOLDER / name
    if not found.exists():
        reason = f"public test vectors are absent: {found} (set TOUCHSTONE_VECTORS)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def load(name: str) -> Any:
    """The parsed JSON of one vector file."""
    return json.loads(path(name).read_bytes())
