"""From a leaf and its disclosed groups to the flat rows that questions are asked of. Pure, and derived: rebuilt at will.

`tables` gives both projections of any number of records: `EVENTS`, one row each, and `TOUCHES`, one row for each relation ×
key. What the source reported goes first; what the statement parser adds is marked `parsed`. Joins across events are in
`lineage.joins`.
"""

from __future__ import annotations

from lineage.projections.events import tables
from lineage.projections.schema import EVENTS, TEXTS, TIME, TOUCHES

__all__ = ["EVENTS", "TEXTS", "TIME", "TOUCHES", "VERSION", "tables"]

VERSION = "4"
"""Raise it with every change of what is derived; `fsck` compares only what the same version made."""
