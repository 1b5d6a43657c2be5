"""Reports for the first page: those that are late or missing, being made or stuck, and the next ones that are scheduled."""

from __future__ import annotations

import datetime as dt

from django.urls import reverse
from django.utils import timezone

from lineage.access import Viewer
from lineage.due import Due
from reports import calendar, requests, schedules
from reports.controls import KINDS
from reports.models import Status

SHOWN_MOST = 5
LOOKED_BACK = dt.timedelta(days=31)
STUCK = (Status.BLOCKED, Status.FAILED)
WORKING = (Status.QUEUED, Status.RUNNING)


def due(viewer: Viewer) -> list[Due]:
    """What of reports waits for somebody or for its time, in the viewer's scope."""
    waiting = requests.visible(viewer).filter(status__in=[*STUCK, *WORKING])[:SHOWN_MOST]
    planned = requests.visible_schedules(viewer).filter(enabled=True, next_due_at__isnull=False).order_by("next_due_at")
    now = timezone.now()
    wanting = calendar.wanting(viewer, now - LOOKED_BACK, now) if requests.may_schedule(viewer) else []
    return [
        *(
            Due(f"{one.schedule.name}, {schedules.days_of(one.schedule, one.period_from, one.period_to)}",
                reverse("schedule", args=[one.schedule.pk]), str(one.state), one.due_at, True)
            for one in wanting[:SHOWN_MOST]
        ),
        *(
            Due(f"{one.number} {_title(one.kind)}", reverse("report", args=[one.pk]), Status(one.status).label.lower(),
                one.created_at, one.status in STUCK)
            for one in waiting
        ),
        *(
            Due(f"{one.name}: {_title(one.kind)}", reverse("schedule", args=[one.pk]), "due", one.next_due_at)
            for one in planned[:SHOWN_MOST]
        ),
    ]  # fmt: skip


def _title(kind: str) -> str:
    return KINDS[kind].title if kind in KINDS else kind
