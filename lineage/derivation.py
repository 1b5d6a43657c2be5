"""What a segment keeps beside its records that was derived of them: which version made it, and the facts (docs/joining.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lineage import engine, facts, projections, rowgroups


def write_facts(path: Path, events: Sequence[Path] = (), told: Sequence[Path] = ()) -> None:
    """Writes, durably, what these files of events and of facts say that others are joined with."""
    with rowgroups.Writer(path, facts.SCHEMA) as file:
        for part in engine.facts_among(events, told):
            file.add(part)


def has_facts(files: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the segment has facts of the present version."""
    return files.get("facts", {}).get("projection") == facts.VERSION


def say_versions(files: dict[str, dict[str, Any]]) -> None:
    """Which code made what is derived: of another version it is not compared, and facts are not used."""
    for name in ("events", "touches"):
        files[name]["projection"] = projections.VERSION
    files["facts"]["projection"] = facts.VERSION
