"""Collectors run where nothing of the store is installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.enforcement.processes import BASE

pytestmark = pytest.mark.slow

MODULES = ("pglog", "pgwal", "pgstate", "check", "context")


@pytest.mark.parametrize("name", MODULES)
def test_a_collector_imports_nothing_of_the_store_and_does_without_zstandard(name: str) -> None:
    program = f"""
import sys
sys.modules["zstandard"] = None
import enforcement.{name}
loaded = {{module.split(".")[0] for module in sys.modules}}
assert not loaded & {{"django", "lineage", "reports", "config", "duckdb", "sqlalchemy", "orjson"}}, loaded
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=BASE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", MODULES[:4])
def test_help_is_the_documentation_and_needs_no_settings(name: str) -> None:
    command = [sys.executable, "-m", f"enforcement.{name}", "--help"]
    done = subprocess.run(command, cwd=BASE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert f"python -m enforcement.{name}" in done.stdout


@pytest.mark.parametrize("name", MODULES[:4])
def test_a_missing_setting_is_said_in_one_sentence(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("empty")
    arguments = (
        [] if name == "check" else ["--spool", str(folder / "spool"), *([str(folder)] if name == "pglog" else [])]
    )
    command = [sys.executable, "-m", f"enforcement.{name}", *arguments]
    done = subprocess.run(command, cwd=BASE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("Give ")
