"""What a viewer's own seat did here: their recent reads, whatever their scope is."""

from __future__ import annotations

from typing import Any

from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries.ask import OWN

MOST = 25


def own_reads(viewer: Viewer) -> list[dict[str, Any]]:
    """The newest records of reads by this seat: index, occurred_at, subject (the address), answer, purpose (what was asked)."""
    with Question() as question:
        return question.rows(
            "select index, occurred_at, json_extract_string(decision, '$.subject') as subject, "  # noqa: S608 - our own names
            "json_extract_string(decision, '$.transition') as answer, purpose from raw_events "
            f"where source = '{OWN}' and decision_type = 'evidence_read' and json_extract_string(decision, '$.decided_by') = ? "
            f"order by index desc limit {MOST}",
            [viewer.email],
        )
