"""Loaded before Django's settings (`-p tests.environment`): the tests' own data folder and nothing of the caller's."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

for name in [n for n in os.environ if n.startswith("TOUCHSTONE_") and n != "TOUCHSTONE_VECTORS"]:
    del os.environ[name]
# Root's database server runs as a user of its own, who must reach this folder (and nothing in it).
DATA = Path(tempfile.mkdtemp(prefix="touchstone-tests-"))
DATA.chmod(0o711)
atexit.register(shutil.rmtree, DATA, ignore_errors=True)
os.environ["TOUCHSTONE_DATA"] = str(DATA)
os.environ["TOUCHSTONE_DB_ROLE"] = "owner"
