"""What a segment keeps that was derived of its records: facts (docs/joining.md), who was heard when, and which version made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lineage import engine, facts, heard, projections, rowgroups


def write_facts(path: Path, events: Sequence[Path] = (), told: Sequence[Path] = ()) -> None:
    """Writes, durably, what these files of events and of facts say that others are joined with."""
    with rowgroups.Writer(path, facts.SCHEMA) as file:
        for part in engine.facts_among(events, told):
            file.add(part)


def write_heard(path: Path, events: Path) -> None:
    """Writes, durably, which sources these records were heard of, and when (docs/coverage.md)."""
    with rowgroups.Writer(path, heard.SCHEMA) as file:
        for part in engine.heard_among(events):
            file.add(part)


def has_facts(files: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the segment has facts of the present version."""
    return files.get("facts", {}).get("projection") == facts.VERSION


def has_heard(files: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the segment has who was heard, of the present version."""
    return files.get("heard", {}).get("projection") == heard.VERSION


def say_versions(files: dict[str, dict[str, Any]]) -> None:
    """Which code made what is derived: of another version it is not compared, and of facts and `heard` not used."""
    for name in ("events", "touches"):
        files[name]["projection"] = projections.VERSION
    files["facts"]["projection"] = facts.VERSION
    files["heard"]["projection"] = heard.VERSION
