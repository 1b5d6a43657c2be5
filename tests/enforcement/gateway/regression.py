"""PostgreSQL's own regression SQL, from Debian's source package: fetched once, kept outside the checkout, never part of it."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "touchstone"


def folder() -> Path:
    """The folder `src/test/regress` of PostgreSQL 15: `sql/`, `data/`. Skips the test where it cannot be had."""
    CACHE.mkdir(parents=True, exist_ok=True)
    found = CACHE / "regress"
    with (CACHE / "regress.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            _fetch(found)
    return found


def _fetch(target: Path) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("needs PostgreSQL's regression SQL, which Debian's source package postgresql-15 holds")
    work = CACHE / "source"
    shutil.rmtree(work, ignore_errors=True)
    (work / "lists" / "partial").mkdir(parents=True)
    sources = work / "own.sources"
    sources.write_text(f"Types: deb-src\nURIs: {MIRROR}\nSuites: bookworm\nComponents: main\nSigned-By: {KEYRING}\n")
    options = [f"Dir::Etc::sourcelist={sources}", "Dir::Etc::sourceparts=/dev/null", f"Dir::State::lists={work}/lists",
               "APT::Sandbox::User=root"]  # fmt: skip
    words = [word for option in options for word in ("-o", option)]
    for command in (["update"], ["source", "--download-only", "postgresql-15"]):
        done = subprocess.run(
            ["apt-get", "-qq", *words, *command], cwd=work, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"PostgreSQL's regression SQL cannot be fetched: {done.stderr[-300:]}")
    (archive,) = work.glob("postgresql-15_*.orig.tar.*")
    with tarfile.open(archive) as tar:
        wanted = [
            m for m in tar.getmembers() if "/src/test/regress/sql/" in m.name or "/src/test/regress/data/" in m.name
        ]
        tar.extractall(work, members=wanted, filter="data")
    (made,) = work.glob("postgresql-*/src/test/regress")
    made.rename(target)
    shutil.rmtree(work)
