"""What is due that other packages know of; each registers its question when the program starts."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable

from lineage.access import Viewer


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """One thing that is due or waits: what it is, where it is shown, since or until when, and whether it needs somebody."""

    label: str
    address: str
    state: str
    at: dt.datetime | None
    is_stuck: bool = False


FAR = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)
askers: list[Callable[[Viewer], list[Due]]] = []


def listed(viewer: Viewer) -> list[Due]:
    """Everything that is due in the viewer's scope: what is stuck first, then by time."""
    found = [due for asker in askers for due in asker(viewer)]
    return sorted(found, key=lambda due: (not due.is_stuck, due.at is None, due.at or FAR))
