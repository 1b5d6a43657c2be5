"""Figures for pages, each with the table that says the same: Plotly dicts, the session strip and the heat grid. Pure.

Colours are names that the page's script resolves from the stylesheet's tokens, so that light and dark come from one place.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lineage.events import shifted

Row = Mapping[str, Any]

ACTOR_WORDS = {"human": "people", "service": "services", "agent": "agents", "system": "system", "unknown": "unknown"}
VERDICT_WORDS = {name: name for name in ("allowed", "masked", "approved", "pending", "blocked", "error", "unknown")}
ACCESS_WORDS = {
    "read": "read",
    "wrote": "written (statement)",
    "changed": "changed (row image)",
    "ddl": "schema changed",
}
STRIP_WIDTH, STRIP_HEIGHT = 1_000, 56
HEAT_LEVELS = 5
HEAT_WEEKS_MOST = 104
LEAST_BARS = 24


@dataclasses.dataclass(frozen=True)
class Chart:
    """A figure for the page's script, its name, and the same numbers as a table."""

    id: str
    label: str
    figure: dict[str, Any]
    head: list[str]
    rows: list[list[Any]]

    @property
    def figure_id(self) -> str:
        return f"figure-{self.id}"


def hour_step(hours: Sequence[dt.datetime]) -> dt.timedelta:
    """Bars of an hour up to four days, of a day beyond."""
    return dt.timedelta(days=1) if hours and max(hours) - min(hours) > dt.timedelta(days=4) else dt.timedelta(hours=1)


def _binned(rows: Iterable[Row], series: str, step: dt.timedelta) -> dict[str, dict[dt.datetime, int]]:
    sums: dict[str, dict[dt.datetime, int]] = {}
    for row in rows:
        at = row["hour"].replace(hour=0) if step.days else row["hour"]
        bins = sums.setdefault(row[series] or "unknown", {})
        bins[at] = bins.get(at, 0) + row["count"]
    return sums


def _stacked(
    id_: str, label: str, sums: dict[str, dict[dt.datetime, int]], names: Mapping[str, str], step: dt.timedelta
) -> Chart:
    times = sorted({at for bins in sums.values() for at in bins})
    kinds = [k for k in names if k in sums] + sorted(set(sums) - set(names))
    data = [
        {
            "type": "bar", "name": names.get(kind, kind), "marker": {"color": f"token:{kind}"},
            "x": [at.isoformat() for at in times], "y": [sums[kind].get(at, 0) for at in times],
            "width": step.total_seconds() * 950, "offset": 0,
            "hovertemplate": "%{y:,} %{fullData.name}<extra></extra>",
        }
        for kind in kinds
    ]  # fmt: skip
    most = max(sum(bins.get(at, 0) for bins in sums.values()) for at in times)
    # A few bars stay bars, and small counts get whole-numbered ticks.
    first = min(times[0], shifted(times[-1], step - step * LEAST_BARS))
    layout = {
        "barmode": "stack",
        "xaxis": {"type": "date", "range": [first.isoformat(), shifted(times[-1], step).isoformat()]},
        "yaxis": {"rangemode": "tozero", "tickformat": ",d"} | ({"dtick": 1} if most < 6 else {}),
    }
    unit = "Day (UTC)" if step.days else "Hour (UTC)"
    form = "%Y-%m-%d" if step.days else "%Y-%m-%d %H:%M"
    table = [[f"{at:{form}}", *[sums[kind].get(at, 0) for kind in kinds]] for at in reversed(times)]
    return Chart(id_, label, {"data": data, "layout": layout}, [unit, *[names.get(k, k) for k in kinds]], table)


def activity(bars: Sequence[Row]) -> list[Chart]:
    """Accesses over time by kind of actor and by verdict, from `overview()["bars"]`; none without any."""
    if not bars:
        return []
    step = hour_step([row["hour"] for row in bars])
    by_actor, by_verdict = (_binned(bars, series, step) for series in ("actor_type", "verdict"))
    return [
        _stacked("activity", "Accesses over time by kind of actor", by_actor, ACTOR_WORDS, step),
        _stacked("verdicts", "Accesses over time by verdict", by_verdict, VERDICT_WORDS, step),
    ]


def table_activity(hours: Sequence[Row]) -> Chart | None:
    """Reads and writes of one table over time, from `relation()["hours"]`; None without any."""
    if not hours:
        return None
    step = hour_step([row["hour"] for row in hours])
    return _stacked("table-activity", "Reads and writes over time", _binned(hours, "access", step), ACCESS_WORDS, step)


TICKS_MOST = 400
GRAVITY = ("blocked", "error", "pending", "approved", "masked", "unknown", "allowed")


def identity_activity(hours: Sequence[Row]) -> Chart | None:
    """One identity's accesses over time by verdict, from `identity()["hours"]`; None without any."""
    if not hours:
        return None
    step = hour_step([row["hour"] for row in hours])
    return _stacked("verdicts", "Accesses over time by verdict", _binned(hours, "verdict", step), VERDICT_WORDS, step)


def strip(steps: Sequence[Row]) -> dict[str, Any]:
    """The session in time: a tick a statement, placed by time, coloured by verdict, as high as its rows (log scale).

    Beyond 400 statements those that fall on one place share a tick: of the gravest verdict and the most rows.
    """
    whole = {"ticks": [], "width": STRIP_WIDTH, "height": STRIP_HEIGHT, "statements": len(steps)}
    if not steps:
        return whole
    first, last = steps[0]["occurred_at"], max(s["occurred_at"] for s in steps)
    span = max((last - first).total_seconds(), 0.001)
    grain = 1 if len(steps) <= TICKS_MOST else STRIP_WIDTH / TICKS_MOST
    ticks: dict[Any, dict[str, Any]] = {}
    for place, step in enumerate(steps, 1):
        x = 6 + (step["occurred_at"] - first).total_seconds() / span * (STRIP_WIDTH - 12)
        rows = step["rows_affected"] or step["rows_returned"] or len(step["changes"]) or 0
        verdict = step["verdict"] if step["verdict"] in GRAVITY else "unknown"
        tick = {
            "index": step["index"], "verdict": verdict, "rows": rows, "x": round(x, 1), "at": step["occurred_at"], "count": 1,
            "label": step["command"] or step["op"] or step["kind"], "place": place,
        }  # fmt: skip
        here = place if len(steps) <= TICKS_MOST else int(x / grain)
        there = ticks.setdefault(here, tick)
        if there is not tick:
            graver = min(there, tick, key=lambda t: GRAVITY.index(str(t["verdict"])))
            ticks[here] = {**graver, "rows": max(there["rows"], rows), "count": there["count"] + 1}
    for tick in ticks.values():
        height = min(STRIP_HEIGHT - 8, 10 + 6 * len(str(tick["rows"])) * bool(tick["rows"]))
        tick |= {"height": height, "y": STRIP_HEIGHT - height}
    return whole | {"ticks": list(ticks.values()), "first": first, "last": last}


def heat(weeks: Sequence[Row], most: int) -> dict[str, Any]:
    """Tables × weeks with a level of 0 to 5 a cell (by share of the busiest cell) and the number itself.

    Weeks without an access stand too, unless the whole is longer than two years, as it is with one wrong clock. Of more than `most`
    tables those stand that were used most often; `of` says how many there are.
    """
    columns = sorted({row["week"] for row in weeks})
    if columns:
        span = (columns[-1] - columns[0]).days // 7
        if span < HEAT_WEEKS_MOST:
            columns = [columns[0] + dt.timedelta(weeks=n) for n in range(span + 1)]
    shown, of = busiest([row for row in weeks if row["relation"]], most, "relation")
    relations = sorted({row["relation"] for row in shown})
    counts: dict[tuple[str, dt.datetime], int] = {}
    for row in weeks:
        counts[row["relation"], row["week"]] = counts.get((row["relation"], row["week"]), 0) + row["count"]
    top = max(counts.values(), default=1)
    cells = [
        {
            "relation": relation,
            "weeks": [
                {"week": week, "count": n, "level": -(-n * HEAT_LEVELS // top)}
                for week in columns
                for n in (counts.get((relation, week), 0),)
            ],
        }
        for relation in relations
    ]
    return {"weeks": columns, "rows": cells, "of": of}


def busiest(rows: Sequence[Row], most: int, *names: str) -> tuple[list[Row], int]:
    """The rows of those tables (`names`: by these members) that have the greatest counts, in their order; and of how many tables."""
    key = operator.itemgetter(*names)
    times: Counter[Any] = Counter()
    for row in rows:
        times[key(row)] += row["count"]
    chosen = {name for name, _ in times.most_common(most)}
    return [row for row in rows if key(row) in chosen], len(times)
