"""Reports for the first page: those that are being made or stuck, and the next ones that are scheduled."""

from __future__ import annotations

from django.urls import reverse

from lineage.access import Viewer
from lineage.due import Due
from reports import requests
from reports.controls import KINDS
from reports.models import Status

SHOWN_MOST = 5
STUCK = (Status.BLOCKED, Status.FAILED)
WORKING = (Status.QUEUED, Status.RUNNING)


def due(viewer: Viewer) -> list[Due]:
    """What of reports waits for somebody or for its time, in the viewer's scope."""
    waiting = requests.visible(viewer).filter(status__in=[*STUCK, *WORKING])[:SHOWN_MOST]
    planned = requests.visible_schedules(viewer).filter(enabled=True, next_due_at__isnull=False).order_by("next_due_at")
    return [
        *(
            Due(f"{one.number} {_title(one.kind)}", reverse("report", args=[one.pk]), Status(one.status).label.lower(),
                one.created_at, one.status in STUCK)
            for one in waiting
        ),
        *(Due(f"{one.name}: {_title(one.kind)}", reverse("reports"), "due", one.next_due_at) for one in planned[:SHOWN_MOST]),
    ]  # fmt: skip


def _title(kind: str) -> str:
    return KINDS[kind].title if kind in KINDS else kind
