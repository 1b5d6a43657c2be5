"""Each test of control over small tables: what it counts, each deviation that it must find, and that it finds nothing else."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from reports import outcomes
from reports.evidence import Request
from reports.outcomes import Outcome
from tests.reports import made
from tests.reports.made import access, change, decision, write

AGENT = {"who_type": "agent", "who_id": "report-bot", "agent_id": "report-bot", "agent_name": "report-bot"}
FOR_DANA = AGENT | {"on_behalf_of": "dana@shop.example"}
LATER = made.START + dt.timedelta(hours=1)


def found(tmp_path: Path, kind: str, test: str, population: list[dict[str, Any]], **more: Any) -> Outcome:
    request = Request(kind, made.START, made.END, "prod")
    results = outcomes.evaluate(made.made(tmp_path / "inputs", population, request=request, **more)).outcomes
    return next(one for one in results if one.test.id == test)


def deviations(outcome: Outcome) -> list[list[str]]:
    return [item["deviations"] for item in outcome.first(100)]


APPROVALS: list[tuple[dict[str, Any], list[dict[str, Any]], list[str]]] = [
    ({"ticket": "T"}, [decision(1, "T")], []),
    ({}, [], ["no ticket"]),
    ({"ticket": "T"}, [], ["no approval"]),
    ({"ticket": "T"}, [decision(1, "T", approvers=["dana@shop.example"])], ["self-approved"]),
    ({"ticket": "T"}, [decision(1, "T", decided_at=LATER)], ["approved late"]),
    ({"ticket": "T"}, [decision(1, "T", expires_at=made.START)], ["approval expired"]),
    ({"ticket": "T"}, [decision(1, "T", "requested", approvers=[])], ["approval pending"]),
    ({"ticket": "T", "attribution": "none"}, [decision(1, "T")], ["person not known"]),
]


@pytest.mark.parametrize(("fields", "decisions", "words"), APPROVALS)
def test_a_change_of_schema_or_rights_deviates_as_its_approval_says(
    tmp_path: Path, fields: dict[str, Any], decisions: list[dict[str, Any]], words: list[str]
) -> None:
    population = [
        write(1, **({"class": "ddl", "op": "ddl"} | fields)),
        write(2, **({"class": "privilege", "op": "privilege"} | fields)),
        access(3),
        write(4),
        write(5, **{"class": "ddl", "op": "ddl", "verdict": "blocked"}),
    ]
    outcome = found(tmp_path, "change-management", "schema-and-rights-changes", population, decisions=decisions)
    assert deviations(outcome) == [words, words, []]
    assert (outcome.items, outcome.tested, outcome.excluded) == (3, 2, 1)
    assert [item["reasons"] for item in outcome.first(2)] == [["ddl"], ["privilege"]]


@pytest.mark.parametrize(("fields", "decisions", "words"), APPROVALS)
def test_a_direct_change_of_data_deviates_as_its_approval_says(
    tmp_path: Path, fields: dict[str, Any], decisions: list[dict[str, Any]], words: list[str]
) -> None:
    outcome = found(
        tmp_path, "change-management", "direct-data-changes", [write(1, **fields), access(2)], decisions=decisions
    )
    assert deviations(outcome) == [words]


@pytest.mark.parametrize(
    ("population", "who"),
    [
        ([write(1)], ["human"]),
        ([write(1, **FOR_DANA)], ["agent"]),
        ([write(1, who_type="service", agent_id="bot")], ["agent"]),
        ([change(1, "T", who_id=None, who_type=None, attribution="none")], ["unknown"]),
        ([write(1, who_type="service", attribution="db_login")], ["unknown"]),
        ([write(1, who_type="service")], None),
        ([write(1, **{"class": "read", "op": "read"})], None),
    ],
)
def test_only_what_a_known_service_does_is_no_direct_change(
    tmp_path: Path, population: list[dict[str, Any]], who: list[str] | None
) -> None:
    outcome = found(tmp_path, "change-management", "direct-data-changes", population)
    assert [item["reasons"] for item in outcome.first(10)] == ([who] if who else [])


@pytest.mark.parametrize(
    ("fields", "decisions", "words"),
    [
        (FOR_DANA, [], []),
        (AGENT, [], ["no person behind it"]),
        (FOR_DANA | {"class": "write", "op": "update"}, [], ["no ticket"]),
        (FOR_DANA | {"class": "export", "op": "export"}, [], ["no ticket"]),
        (FOR_DANA | {"class": "procedural", "op": "procedural", "command": "DO"}, [], ["no ticket"]),
        (FOR_DANA | {"class": "procedural", "op": "other", "command": "BEGIN"}, [], []),
        (FOR_DANA | {"class": "write", "op": "update", "ticket": "T"}, [decision(1, "T")], []),
        (
            FOR_DANA | {"class": "write", "op": "update", "ticket": "T"},
            [decision(1, "T", approvers=["dana@shop.example"])],
            ["self-approved"],
        ),
        (AGENT | {"attribution": "db_login"}, [], ["no person behind it", "person not known"]),
        (AGENT | {"verdict": "blocked"}, [], []),
    ],
)
def test_an_act_of_an_agent_deviates_without_a_person_and_a_change_without_approval(
    tmp_path: Path, fields: dict[str, Any], decisions: list[dict[str, Any]], words: list[str]
) -> None:
    population = [access(1, **fields), access(2), write(3)]
    assert deviations(found(tmp_path, "agents", "agent-acts", population, decisions=decisions)) == [words]


@pytest.mark.parametrize(
    ("population", "decisions", "answers"),
    [
        ([write(9, ticket="T")], [decision(1, "T")], [(True, "approved", [])]),
        ([write(9, ticket="T")], [], [(True, "none", ["never asked for"])]),
        ([write(9)], [], []),
        ([], [decision(1, "T")], [(False, "approved", [])]),
        ([write(9, ticket="T", verdict="blocked")], [decision(1, "T")], [(False, "approved", [])]),
        ([write(9, ticket="T")], [decision(1, "T", "requested")], [(True, "requested", ["not decided"])]),
        (
            [write(9, ticket="T")],
            [decision(1, "T"), decision(2, "T", "rejected")],
            [(True, "rejected", ["used though rejected"])],
        ),
        (
            [write(9, ticket="T")],
            [decision(1, "T", requested_by="EVE@shop.example")],
            [(True, "approved", ["approved by who asked"])],
        ),
        (
            [write(9, "eve@shop.example", ticket="T")],
            [decision(1, "T")],
            [(True, "approved", ["approved by who acted"])],
        ),
        (
            [access(9, **AGENT, on_behalf_of="eve@shop.example", ticket="T")],
            [decision(1, "T")],
            [(True, "approved", ["approved by who acted"])],
        ),
        (
            [write(9, ticket="T")],
            [decision(1, "T", decided_at=LATER)],
            [(True, "approved", ["used before it was approved"])],
        ),
        (
            [write(9, ticket="T"), write(600, ticket="T")],
            [decision(1, "T", expires_at=made.START + dt.timedelta(seconds=60))],
            [(True, "approved", ["used after it ended"])],
        ),
        (
            [write(9, ticket="T")],
            [decision(1, "T", environment="test")],
            [(False, "approved", []), (True, "none", ["never asked for"])],
        ),
    ],
)
def test_a_ticket_deviates_as_it_was_asked_for_decided_and_used(
    tmp_path: Path,
    population: list[dict[str, Any]],
    decisions: list[dict[str, Any]],
    answers: list[tuple[bool, str, list[str]]],
) -> None:
    outcome = found(tmp_path, "approvals", "approvals", population, decisions=decisions)
    assert [(item["tested"], item["state"], item["deviations"]) for item in outcome.first(10)] == answers
