"""When reports were due and what became of each: done, done late, due, late, missing or planned, in the viewer's scope."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import itertools
from collections.abc import Iterable, Sequence

from lineage.access import Viewer
from reports import periods, requests, schedules, standing
from reports.models import Cadence, Occurrence, Report, Schedule, Status

SHOWN_MOST = 800
AHEAD = 3
"""How many periods to come are shown of each schedule."""


class State(enum.StrEnum):
    DONE = "done"
    DONE_LATE = "done late"
    DUE = "due"
    LATE = "late"
    MISSING = "missing"
    PLANNED = "planned"


WANTING = (State.LATE, State.MISSING)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One period of a schedule: how it stands, since when, and why it is not done. `number` where it has a row."""

    schedule: Schedule
    period_from: dt.datetime
    period_to: dt.datetime
    due_at: dt.datetime
    state: State
    why: str = ""
    report: Report | None = None
    number: int | None = None


@dataclasses.dataclass(frozen=True)
class Line:
    """A schedule and its periods, oldest first."""

    schedule: Schedule
    words: str
    cells: Sequence[Cell]


def visible(viewer: Viewer) -> list[Schedule]:
    """The schedules whose reports the viewer may see, by name."""
    return list(Schedule.objects.filter(requests.place(viewer)).order_by("name")) if viewer.sees_values else []


def lines(viewer: Viewer, since: dt.datetime, until: dt.datetime, now: dt.datetime) -> list[Line]:
    """What was due of each schedule from `since` to `until`, and the next periods: those that the viewer's times hold."""
    plans = visible(viewer)
    known = _known(plans, since, until)
    found = []
    for plan in plans:
        cells = [_told(plan, row, now) for row in known.get(plan.pk, [])]
        cells += [
            cell for cell in coming(plan, now) if since <= cell.due_at and (cell.due_at < until or _is_next(cell))
        ]
        found.append(Line(plan, schedules.words_of(plan), [cell for cell in cells if _within(viewer, cell)]))
    return found


def of(schedule: Schedule, now: dt.datetime, most: int) -> list[Cell]:
    """The periods of one schedule, newest first: those to come, and the last that were due."""
    rows = Occurrence.objects.filter(schedule=schedule).select_related("report").order_by("-period_to")[:most]
    return [*coming(schedule, now)[::-1], *(_told(schedule, row, now) for row in rows)]


def coming(schedule: Schedule, now: dt.datetime) -> list[Cell]:
    """Periods that have no row yet: those that a paused or stopped schedule left out, and the next to come."""
    if schedule.next_due_at is None or schedule.period_from is None or schedule.period_to is None:
        return []
    if schedule.cadence == Cadence.ONCE:
        return [_unmade(schedule, schedule.period_from, schedule.period_to, schedule.next_due_at, now)]
    ahead: Iterable[periods.Period] = periods.since(schedules.rhythm_of(schedule), schedule.period_from)
    behind, ahead = _split(ahead, now)
    if schedule.enabled:
        behind += itertools.islice(ahead, AHEAD)
    return [_unmade(schedule, start, end, end, now) for start, end in behind]


def _split(every: Iterable[periods.Period], now: dt.datetime) -> tuple[list[periods.Period], Iterable[periods.Period]]:
    """Those that have ended, and all that follow."""
    behind: list[periods.Period] = []
    walk = iter(every)
    for one in walk:
        if one[1] > now or len(behind) >= SHOWN_MOST:
            return behind, itertools.chain([one], walk)
        behind.append(one)
    return behind, walk


def counted(found: Sequence[Line]) -> dict[State, int]:
    """How many cells there are of each state."""
    states = [cell.state for line in found for cell in line.cells]
    return {state: states.count(state) for state in State}


def wanting(viewer: Viewer, since: dt.datetime, now: dt.datetime) -> list[Cell]:
    """What is late or missing since then, newest first."""
    found = [cell for line in lines(viewer, since, now, now) for cell in line.cells if cell.state in WANTING]
    return sorted(found, key=lambda cell: cell.due_at, reverse=True)


def _known(plans: Sequence[Schedule], since: dt.datetime, until: dt.datetime) -> dict[int, list[Occurrence]]:
    rows = Occurrence.objects.filter(schedule__in=plans, due_at__gte=since, due_at__lt=until)
    found: dict[int, list[Occurrence]] = {}
    for row in (
        rows.select_related("report")
        .prefetch_related("report__sign_offs")
        .order_by("-due_at")[: SHOWN_MOST * max(len(plans), 1)]
    ):
        found.setdefault(row.schedule_id, []).insert(0, row)
    return found


def _told(schedule: Schedule, row: Occurrence, now: dt.datetime) -> Cell:
    state, why, report = _state(schedule, row, now)
    return Cell(schedule, row.period_from, row.period_to, row.due_at, state, why, report, row.pk)


def _state(schedule: Schedule, row: Occurrence, now: dt.datetime) -> tuple[State, str, Report | None]:
    late_at = row.due_at + dt.timedelta(days=schedule.late_days)
    if row.report is None:
        return State.MISSING, row.skipped or "No report was made.", None
    report = _standing_for(row.report)
    if standing.may_be_delivered(report):
        done_at = final_at(report)
        return (State.DONE if done_at <= late_at else State.DONE_LATE), "", report
    words = Status(report.status).label
    why = f"{words}: {report.reasons[0]}" if report.reasons else f"{words}."
    if now < late_at:
        return State.DUE, why, report
    return (State.MISSING if report.status == Status.FAILED else State.LATE), why, report


def _standing_for(report: Report) -> Report:
    """The report that stands for the period: the one that was made for it, or the final one that replaced it since."""
    if standing.may_be_delivered(report):
        return report
    later = report
    while following := later.successors.order_by("-pk").first():
        later = following
    return later if standing.may_be_delivered(later) else report


def final_at(report: Report) -> dt.datetime:
    """When it became final: when it was issued, or signed by the last who was asked to."""
    signed = [step.acted_at for step in report.sign_offs.all() if step.acted_at]
    return max([report.issued_at or report.created_at, *signed])


def _unmade(schedule: Schedule, start: dt.datetime, end: dt.datetime, due_at: dt.datetime, now: dt.datetime) -> Cell:
    """A period without a row: to come, or left out by a schedule that is paused or a worker that is down."""
    if due_at > now:
        return Cell(schedule, start, end, due_at, State.PLANNED, "" if schedule.enabled else "The schedule is paused.")
    if not schedule.enabled:
        return Cell(schedule, start, end, due_at, State.MISSING, "The schedule is paused.")
    is_late = now >= due_at + dt.timedelta(days=schedule.late_days)
    return Cell(schedule, start, end, due_at, State.LATE if is_late else State.DUE, "No worker has begun it.")


def _is_next(cell: Cell) -> bool:
    return cell.state == State.PLANNED


def _within(viewer: Viewer, cell: Cell) -> bool:
    begins = viewer.from_at is None or cell.period_from >= viewer.from_at
    return begins and (viewer.until_at is None or cell.period_to <= viewer.until_at)
