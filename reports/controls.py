"""Runs a control's test over frozen evidence and says what came out, in counts and in fixed words."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from lineage import engine
from reports.evidence import Evidence

FOLDER = Path(__file__).resolve().parent / "tests_of_controls"

OPERATED = "operated without deviation"
DEVIATED = "deviations noted"
NOT_OCCURRED = "did not occur"
NOT_TESTED = "could not be tested"

Act = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of report: its title, its question, the control references it serves, and its test's file."""

    id: str
    title: str
    question: str
    references: tuple[tuple[str, str], ...]
    test: str


KINDS = {
    "privileged-access": Kind(
        "privileged-access",
        "Privileged access",
        "Was every privileged act done by a known person, and approved by somebody else before it was done?",
        (
            ("SOC 2", "CC6.1, CC6.3, CC7.2"),
            ("PCI DSS 4.0", "7.2, 8.6.1, 10.2.1.2"),
            ("ISO/IEC 27001:2022", "A.5.3, A.8.2, A.8.15"),
        ),
        "privileged_access.sql",
    )
}


@dataclasses.dataclass(frozen=True)
class Attribute:
    """One thing that is checked of each act: which acts it applies to, and the deviations that count against it."""

    letter: str
    title: str
    deviations: tuple[str, ...]
    applies: Callable[[Act], bool]


def _approved(act: Act) -> bool:
    return bool(act["took_effect"] and act["approval_state"] == "approved")


ATTRIBUTES = (
    Attribute("A", "The person who acted is known", ("person not known",), lambda a: bool(a["took_effect"])),
    Attribute(
        "B",
        "An approval for its ticket is in the signed log",
        ("no ticket", "no approval", "approval rejected", "approval lapsed", "approval revoked", "approval pending"),
        lambda a: bool(a["took_effect"]),
    ),
    Attribute("C", "Somebody else approved it", ("self-approved",), _approved),
    Attribute("D", "It was approved before it was done", ("approved late",), _approved),
    Attribute("E", "The approval was still valid", ("approval expired",), _approved),
)


@dataclasses.dataclass(frozen=True)
class Tested:
    """The count line of one attribute."""

    letter: str
    title: str
    tested: int
    deviations: int
    conclusion: str


@dataclasses.dataclass(frozen=True)
class Result:
    """What the test found: every act in order, counts, and the conclusion in one of four fixed phrases."""

    acts: list[Act]
    table: pa.Table
    attributes: list[Tested]
    conclusion: str
    counts: dict[str, int]
    by_reason: list[tuple[str, int]]
    by_person: list[dict[str, Any]]
    sql: str
    sql_sha256: str

    @property
    def deviating(self) -> list[Act]:
        return [act for act in self.acts if act["deviations"]]


def test_sql(kind: str) -> str:
    return (FOLDER / KINDS[kind].test).read_text(encoding="utf-8")


def evaluate(evidence: Evidence) -> Result:
    """Runs the kind's SQL over the frozen tables, exactly as a reader can run it over the attached files."""
    sql = test_sql(evidence.request.kind)
    table = engine.over(evidence.tables, sql)
    acts: list[Act] = table.to_pylist()
    testable = any(source["events"] for source in evidence.completeness["sources"])
    population = evidence.tables["population"]
    kinds = Counter(population["kind"].to_pylist())
    deviating = [act for act in acts if act["deviations"]]
    effective = [act for act in acts if act["took_effect"]]
    return Result(
        acts=acts,
        table=table,
        attributes=[_tested(a, acts, testable) for a in ATTRIBUTES],
        conclusion=conclude(len(effective), len(deviating), testable),
        counts={
            "population": population.num_rows,
            "statements": kinds["query"],
            "row_changes": kinds["change"],
            "privileged_acts": len(acts),
            "tested": len(effective),
            "without_effect": len(acts) - len(effective),
            "deviations": sum(len(act["deviations"]) for act in deviating),
            "acts_with_deviations": len(deviating),
            "people": len({_person(act) for act in acts}),
        },
        by_reason=_reasons(acts),
        by_person=_people(acts),
        sql=sql,
        sql_sha256=hashlib.sha256(sql.encode()).hexdigest(),
    )


def conclude(tested: int, deviations: int, testable: bool) -> str:
    """One of the four phrases; a period from which nothing was received could not be tested."""
    if not testable:
        return NOT_TESTED
    if tested == 0:
        return NOT_OCCURRED
    return DEVIATED if deviations else OPERATED


def _tested(attribute: Attribute, acts: Iterable[Act], testable: bool) -> Tested:
    applicable = [act for act in acts if attribute.applies(act)]
    failed = sum(1 for act in applicable if set(act["deviations"]) & set(attribute.deviations))
    conclusion = conclude(len(applicable), failed, testable)
    return Tested(attribute.letter, attribute.title, len(applicable), failed, conclusion)


def _person(act: Act) -> str:
    return str(act["who_id"] or act["db_user"] or "unknown")


def _reasons(acts: Iterable[Act]) -> list[tuple[str, int]]:
    counted = Counter(reason for act in acts for reason in act["reasons"])
    return sorted(counted.items(), key=lambda item: (-item[1], item[0]))


def _people(acts: Iterable[Act]) -> list[dict[str, Any]]:
    """One line a person (or login, where no person is known), busiest first."""
    groups: dict[str, list[Act]] = {}
    for act in acts:
        groups.setdefault(_person(act), []).append(act)
    lines = [
        {
            "id": person,
            "name": own[0]["who_name"],
            "type": own[0]["who_type"],
            "behalf": sorted({a["on_behalf_of"] for a in own if a["on_behalf_of"]}),
            "logins": sorted({a["db_user"] for a in own if a["db_user"]}),
            "attribution": sorted({a["attribution"] for a in own if a["attribution"]}),
            "reasons": sorted({r for a in own for r in a["reasons"]}),
            "acts": len(own),
            "deviating": sum(1 for a in own if a["deviations"]),
        }
        for person, own in groups.items()
    ]
    return sorted(lines, key=lambda line: (-line["acts"], line["id"]))


def unfinished(evidence: Evidence, now: dt.datetime) -> list[str]:
    """Why the report cannot be final yet: the period is open, or a source was not heard after its end."""
    reasons = []
    until = evidence.request.until
    if now < until:
        reasons.append(f"The period is open until {until:%Y-%m-%d %H:%M:%S} UTC.")
    if not evidence.completeness["sources"]:
        reasons.append("No source is connected in this scope.")
    for source in evidence.completeness["sources"]:
        if _moment(source["created_at"]) >= until:
            continue
        heard = max((m for m in (source["watermark_at"], source["revoked_at"]) if m), default=None, key=_moment)
        if heard is None:
            reasons.append(f"Source {source['name']} sends no heartbeat: nothing says that it has told everything.")
        elif _moment(heard) < until:
            reasons.append(f"Source {source['name']} was last heard at {_moment(heard):%Y-%m-%d %H:%M:%S} UTC.")
    return reasons


def contradictions(evidence: Evidence) -> list[str]:
    """What does not reconcile: numbered records that are missing, rows reported but never captured."""
    reasons = []
    for source in evidence.completeness["sources"]:
        if source["missing"]:
            reasons.append(f"{source['missing']:,} numbered records of source {source['name']} are missing.")
    more = evidence.completeness["reconciliation"].get("reported_more") or 0
    if more:
        reasons.append(f"In {more:,} transactions the statements report more rows than were captured as changes.")
    return reasons


def _moment(value: str | dt.datetime) -> dt.datetime:
    return value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(value)
