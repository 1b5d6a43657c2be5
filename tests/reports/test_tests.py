"""Each test of control over small tables: what it counts, each deviation that it must find, and that it finds nothing else."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lineage.queries import facts, registers, releases
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
    return [item["deviations"] for item in outcome.answer.first(100)]


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
    assert [item["reasons"] for item in outcome.answer.first(2)] == [["ddl"], ["privilege"]]


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
    assert [item["reasons"] for item in outcome.answer.first(10)] == ([who] if who else [])


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
    assert [(item["tested"], item["state"], item["deviations"]) for item in outcome.answer.first(10)] == answers


HELD = {"attribution": "gateway", "approval": '{"request_id": "R-9", "state": "approved"}'}


@pytest.mark.parametrize(
    ("decisions", "words"),
    [([decision(1, "R-9")], []), ([], ["no approval"]), ([decision(1, "R-9", "rejected")], ["approval rejected"])],
)
def test_what_a_gateway_let_run_after_a_decision_is_held_against_that_decision(
    tmp_path: Path, decisions: list[dict[str, Any]], words: list[str]
) -> None:
    population = [write(1, **HELD, ticket="OTHER")]
    assert deviations(found(tmp_path, "change-management", "direct-data-changes", population, decisions=decisions)) == [
        words
    ]


def tag(column: str = "email", relation: str = "public.customers", **more: Any) -> dict[str, Any]:
    span = {"from_at": facts.FIRST, "to_at": facts.LAST, "index": 1, "assumed": False}
    return (
        {"datasource": "orders", "relation": relation, "column": column, "classes": ["email"], "by": "eve"}
        | span
        | more
    )


def table(schema: pa.Schema, *rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema)


@pytest.mark.parametrize(
    ("act", "tags", "answers"),
    [
        (access(9), [tag()], [("clear", [])]),
        (access(9, columns=["id"]), [tag()], []),
        (access(9, columns=["email"], relations=["customers"]), [tag()], [("clear", [])]),
        (access(9, columns=["*"], masked_columns=["email"]), [tag()], [("masked", [])]),
        (access(9, masked_columns=["email"]), [tag(), tag("phone")], [("partly masked", [])]),
        (access(9), [tag(to_at=made.START)], []),
        (access(9), [tag(datasource="other")], []),
        (access(9, **{"class": "ddl", "op": "ddl"}), [tag()], []),
        (access(9, attribution="db_login"), [tag()], [("clear", ["person not known"])]),
        (write(9), [tag()], [("written", ["no reason given"])]),
        (write(9, purpose="a call of the customer"), [tag()], [("written", [])]),
        (access(9, **FOR_DANA), [tag()], [("clear", ["no reason given"])]),
        (access(9, **{"class": "export", "op": "export"}), [tag()], [("clear", ["no ticket"])]),
        (access(9, **{"class": "export", "op": "export", "ticket": "T"}), [tag()], [("clear", [])]),
        (access(9, verdict="blocked"), [tag()], [("clear", [])]),
    ],
)
def test_access_to_a_classified_column_deviates_without_a_reason_or_an_approved_export(
    tmp_path: Path, act: dict[str, Any], tags: list[dict[str, Any]], answers: list[tuple[str, list[str]]]
) -> None:
    more = {"tags": table(registers.TAGS, *tags)}
    outcome = found(tmp_path, "sensitive-data", "sensitive-data-access", [act], decisions=[decision(1, "T")], more=more)
    assert [(item["shown"], item["deviations"]) for item in outcome.answer.first(9)] == answers


SOON = made.START + dt.timedelta(seconds=60)
UNKNOWN = ["not registered", "nobody answers for it"]


def identity(login: str, person: str, kind: str = "service", **more: Any) -> dict[str, Any]:
    return {
        "datasource": "orders", "db_user": login, "person": person, "name": person, "email": "", "type": kind,
        "owner": "eve@shop.example", "from_at": facts.FIRST, "to_at": facts.LAST,
    } | more  # fmt: skip


@pytest.mark.parametrize(
    ("acts", "known", "answers"),
    [
        ([access(1)], [identity("orders_api", "orders-api")], [("service orders-api", [])]),
        ([access(1)], [identity("orders_api", "renamed")], [("service orders-api", [])]),
        ([access(1)], [], [("service orders-api", UNKNOWN)]),
        ([access(1)], [identity("orders_api", "orders-api", owner=None)], [("service orders-api", ["nobody answers for it"])]),
        ([access(1)], [identity("orders_api", "dana", "human")], [("service orders-api", UNKNOWN)]),
        (
            [access(1), access(2, **FOR_DANA)],
            [identity("orders_api", "orders-api"), identity("gate", "Report-Bot", "agent")],
            [("service orders-api", []), ("agent report-bot", [])],
        ),
        ([access(1, **FOR_DANA)], [identity("orders_api", "orders-api")], [("agent report-bot", UNKNOWN)]),
        ([access(1), access(600)], [identity("orders_api", "orders-api", to_at=SOON)], [("service orders-api", ["not registered"])]),
        ([access(1, verdict="blocked")], [], [("service orders-api", [])]),
        ([write(1)], [], []),
    ],
)  # fmt: skip
def test_a_non_human_identity_deviates_unregistered_or_with_nobody_who_answers_for_it(
    tmp_path: Path, acts: list[dict[str, Any]], known: list[dict[str, Any]], answers: list[tuple[str, list[str]]]
) -> None:
    more = {"identities": table(registers.IDENTITIES, *known)}
    outcome = found(tmp_path, "agents", "non-human-identities", acts, more=more)
    assert [(item["item"], item["deviations"]) for item in outcome.answer.first(9)] == answers


def right(login: str, through: str = "its own grant", **more: Any) -> dict[str, Any]:
    return {
        "datasource": "orders", "relation": "public.customers", "login": login, "rights": ["SELECT"], "through": [through],
        "from_at": made.START, "to_at": made.END, "index": 7, "assumed": False,
    } | more  # fmt: skip


def test_a_right_on_a_classified_table_deviates_of_nobody_and_of_everybody(tmp_path: Path) -> None:
    more = {
        "rights": table(registers.RIGHTS, right("orders_api"), right("ghost"), right("dana", "everybody")),
        "identities": table(
            registers.IDENTITIES, identity("orders_api", "orders-api"), identity("dana", "dana@shop.example", "human")
        ),
    }
    outcome = found(tmp_path, "sensitive-data", "sensitive-data-rights", [access(1)], more=more)
    assert [(item["login"], item["used"], item["deviations"]) for item in outcome.answer.first(9)] == [
        ("dana", "not used", ["open to everybody"]),
        ("ghost", "not used", ["login of nobody"]),
        ("orders_api", "used", []),
    ]


def released_row(index: int, **more: Any) -> dict[str, Any]:
    return {
        "environment": "prod", "datasource": "orders", "request_id": "R-9", "who_id": "dana@shop.example",
        "asked_by": "dana@shop.example", "statement": "delete from customers where id = $1", "index": index,
        "occurred_at": made.START, "asked_index": 3, "asked_at": made.START, "same_text": True,
    } | more  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([released_row(5)], [[]]),
        ([released_row(5, same_text=None)], [[]]),
        ([released_row(5, same_text=False)], [["another text ran"]]),
        ([released_row(5, asked_index=None, same_text=None)], [["what was asked for is not in the log"]]),
        ([released_row(5), released_row(6)], [[], ["the decision was used again"]]),
    ],
)
def test_what_ran_after_a_decision_deviates_when_it_is_another_text_or_runs_again(
    tmp_path: Path, rows: list[dict[str, Any]], words: list[list[str]]
) -> None:
    more = {"released": table(releases.RELEASED, *rows)}
    assert deviations(found(tmp_path, "approvals", "released-statements", [], more=more)) == words
