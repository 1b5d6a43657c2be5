"""The sizes and habits that keep the code readable, held by the machine. Tests may be long: many are tables of cases."""

from __future__ import annotations

import ast
import gc
from pathlib import Path

import pytest

BASE = Path(__file__).resolve().parent.parent
PACKAGES = ("config", "lineage", "reports", "enforcement", "demo", "benchmarks", "tests")
FILES = [p for package in PACKAGES for p in sorted((BASE / package).rglob("*.py")) if "migrations" not in p.parts]
FORBIDDEN_NAMES = {"utils", "helpers", "common", "core", "base", "manager", "data", "info"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> list[Function]:
    return [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, Function)]


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_left_to_collect() -> None:
    """What other tests left is collected here: told of inside `ast.parse` it fails that, in this version of Python."""
    gc.collect()


@pytest.mark.parametrize("path", [p for p in FILES if "tests" not in p.parts], ids=lambda p: str(p.relative_to(BASE)))
def test_a_module_has_at_most_400_lines_and_its_functions_at_most_50(path: Path) -> None:
    # A verifier that is handed over by itself is one file (docs/decisions/008-two-more-verifiers.md).
    assert len(path.read_text().splitlines()) <= 400 or path.parent == BASE / "lineage/verify/release"
    too_long = [f.name for f in functions(path) if (f.end_lineno or 0) - f.lineno + 1 > 50]
    assert not too_long


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [str(p) for p in FILES if p.stem in FORBIDDEN_NAMES]


def test_every_test_is_named_by_a_sentence() -> None:
    named = [(p.name, f.name) for p in FILES if p.name.startswith("test_") for f in functions(p)]
    tests = [(file, name) for file, name in named if name.startswith("test_")]
    assert tests
    assert not [(file, name) for file, name in tests if len(name.split("_")) < 4]


def test_every_module_begins_by_saying_what_it_is_for() -> None:
    assert not [str(p) for p in FILES if p.read_text().strip() and not ast.get_docstring(ast.parse(p.read_text()))]
