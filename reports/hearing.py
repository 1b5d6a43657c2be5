"""What of a period a test could rest on: what its needs were heard of, and the hours that could not be tested.

Works on frozen evidence alone: `completeness["hearing"]`, as `lineage.queries` answered it.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from reports.controls import EITHER
from reports.evidence import Evidence

UNHEARD = ("silent", "gap")
NOT_THERE = "It was not connected yet"
SAID_MOST = 12
Span = tuple[dt.datetime, dt.datetime]


@dataclasses.dataclass(frozen=True)
class Unheard:
    """A time in which a source that tells of a need was not heard."""

    need: str
    source: str
    from_at: dt.datetime
    to_at: dt.datetime
    cause: str


@dataclasses.dataclass(frozen=True)
class Limits:
    """What of a period could not be tested. `never`: needs of which nothing was heard in it; `first` is what items are made of."""

    first: str = ""
    never: tuple[str, ...] = ()
    unheard: tuple[Unheard, ...] = ()
    quiet: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        """Whether a need was not heard at all."""
        return bool(self.never)

    @property
    def in_first(self) -> bool:
        """Whether items may be missing: what they are made of was not heard for part of the period."""
        return any(one.need == self.first for one in self.unheard)

    def sentences(self, most: int = SAID_MOST) -> list[str]:
        """The limits in words, at most so many spans."""
        said = [
            f"No source was heard that tells of {need}: what rests on them could not be tested." for need in self.never
        ]
        said += [
            f"Could not be tested from {_at(one.from_at)} to {_at(one.to_at)} UTC ({lasted(one.to_at - one.from_at)}): "
            f"source {one.source}, which tells of {one.need}, was not heard. {one.cause}."
            for one in self.unheard[:most]
        ]
        if len(self.unheard) > most:
            said.append(f"{len(self.unheard) - most:,} more such times are in completeness.json.")
        said += [
            f"Source {name} sends no heartbeat: where it told nothing, quiet cannot be told from silence." for name in self.quiet
        ]  # fmt: skip
        return said


ALL_HEARD = Limits()


def limits(needs: Sequence[str], evidence: Evidence) -> Limits:
    """What of these needs was not heard within the period of the evidence."""
    hearing = evidence.completeness.get("hearing")
    if not needs or hearing is None:
        return ALL_HEARD
    period = (evidence.request.since, evidence.request.until)
    never: list[str] = []
    unheard: list[Unheard] = []
    quiet: set[str] = set()
    for need in needs:
        telling = [one for one in hearing if set(need.split(EITHER)) & set(one["tells"])]
        quiet |= {one["name"] for one in telling if not one["beats"]}
        groups = _groups(telling, period)
        if not any(_seconds([period]) > _seconds(missing) for missing, _ in groups):
            never.append(need)
        elif EITHER not in need or all(missing for missing, _ in groups):
            unheard += [one for missing, members in groups for one in _named(need, missing, members, period)]
    unheard.sort(key=lambda one: (one.from_at, one.source))
    return Limits(needs[0], tuple(never), tuple(unheard), tuple(sorted(quiet)))


Entries = list[dict[str, Any]]


def _groups(telling: Iterable[dict[str, Any]], period: Span) -> list[tuple[list[Span], Entries]]:
    """Sources that stand in for each other (one database, one format), with the times in which none of them was heard.

    Those that were revoked before the period are no longer asked of.
    """
    members: dict[tuple[str, ...], Entries] = defaultdict(list)
    for one in telling:
        if not one["revoked_at"] or moment(one["revoked_at"]) > period[0]:
            members[one["environment"], one["datasource"] or "", one["format"]].append(one)
    found = []
    for group in members.values():
        missing = [period]
        for one in group:
            missing = _both(missing, joined(span for span, _ in _missing(one, period)))
        found.append((missing, group))
    return found


def _missing(source: dict[str, Any], period: Span) -> list[tuple[Span, str]]:
    """The times of the period in which one source was not heard, each with its cause."""
    times = [
        ((moment(one["from_at"]), moment(one["to_at"]) if one["to_at"] else period[1]), one["cause"])
        for one in source["outages"]
        if one["lasting"] and one["state"] in UNHEARD
    ]
    times.append(((period[0], moment(source["from_at"])), NOT_THERE))
    clipped = [((max(begin, period[0]), min(end, period[1])), cause) for (begin, end), cause in times]
    return [(span, cause) for span, cause in clipped if span[0] < span[1]]


def _named(need: str, missing: list[Span], members: Entries, period: Span) -> list[Unheard]:
    """The times in which a group was not heard, each by the source that was there last and its cause."""
    found = []
    for begin, end in missing:
        causes = [
            (one["name"], cause)
            for one in members
            for span, cause in _missing(one, period)
            if _meet(span, (begin, end))
        ]
        name, cause = causes[-1]
        found.append(Unheard(need, name, begin, end, cause.rstrip(".")))
    return found


def _meet(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _both(one: Iterable[Span], other: Sequence[Span]) -> list[Span]:
    """The times that lie in both."""
    return [(max(a[0], b[0]), min(a[1], b[1])) for a in one for b in other if _meet(a, b)]


def joined(spans: Iterable[Span]) -> list[Span]:
    """The same times without overlaps, in order."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def _seconds(spans: Iterable[Span]) -> float:
    return sum((end - begin).total_seconds() for begin, end in spans)


def moment(value: str | dt.datetime) -> dt.datetime:
    return value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(value)


def _at(value: dt.datetime) -> str:
    return f"{value.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}"


def lasted(span: dt.timedelta) -> str:
    """A length of time such as `2 d 3 h`, `30 min`, `40 s`: its two largest units."""
    seconds = round(span.total_seconds())
    parts: list[str] = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= size and len(parts) < 2:
            parts.append(f"{seconds // size} {unit}")
            seconds %= size
    return " ".join(parts) or "0 s"
