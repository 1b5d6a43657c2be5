"""The SQL of the privileged-access test over small tables: what is privileged, what deviates, and the conclusion's words."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from lineage import engine, errors
from lineage.queries import facts
from reports import controls, outcomes, standing
from reports.evidence import Request
from reports.outcomes import Outcome
from tests.reports import made
from tests.reports.made import access, change, decision, owner, role, write
from tests.reports.made import made as evidence_of


def result(tmp_path: Path, population: list[dict[str, Any]], **more: Any) -> Outcome:
    """The outcome of the one test of its kind."""
    (found,) = outcomes.evaluate(evidence_of(tmp_path / "inputs", population, **more)).outcomes
    return found


def items(tmp_path: Path, population: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    return result(tmp_path, population, **more).answer.first(10_000)


@pytest.mark.parametrize(
    ("fields", "reasons"),
    [
        ({"class": "ddl", "op": "ddl"}, ["ddl"]),
        ({"class": "privilege", "op": "privilege"}, ["privilege"]),
        ({"class": "export", "op": "export"}, ["export"]),
        ({"class": "procedural", "op": "procedural", "command": "DO"}, ["procedural"]),
        ({"class": "procedural", "op": "other", "command": "SET ROLE"}, ["procedural"]),
        ({"class": "procedural", "op": "other", "command": "BEGIN"}, None),
        ({"class": "write", "op": "truncate", "command": "TRUNCATE"}, ["truncate"]),
        ({"class": "write", "op": "update"}, None),
        ({"class": "write", "op": "update", "who_type": "human"}, ["direct write"]),
        ({"class": "write", "op": "update", "who_type": "agent"}, ["direct write"]),
        ({"class": "write", "op": "update", "agent_id": "bot"}, ["direct write"]),
        ({"class": "read", "op": "read", "who_type": "human"}, None),
    ],
)
def test_what_counts_as_privileged_by_what_was_done(
    tmp_path: Path, fields: dict[str, Any], reasons: list[str] | None
) -> None:
    acts = items(tmp_path, [access(1, **fields)])
    assert [act["reasons"] for act in acts] == ([reasons] if reasons else [])


@pytest.mark.parametrize("attribute", facts.ATTRIBUTES)
def test_any_act_by_a_login_with_a_strong_attribute_is_privileged(tmp_path: Path, attribute: str) -> None:
    acts = items(tmp_path, [access(1), access(2, db_user="root")], roles=[role("orders_api"), role("root", attribute)])
    assert [(act["db_user"], act["reasons"]) for act in acts] == [("root", [attribute])]


def test_attributes_count_only_while_they_were_in_force_and_in_their_database(tmp_path: Path) -> None:
    change_at = made.START + dt.timedelta(seconds=5)
    roles = [
        role("orders_api", "superuser", to_at=change_at),
        role("orders_api", from_at=change_at),
        role("orders_api", "superuser", datasource="elsewhere"),
    ]
    acts = items(tmp_path, [access(4), access(5), access(6)], roles=roles)
    assert [act["first_index"] for act in acts] == [4]


def test_an_act_on_an_owned_table_is_privileged_and_on_another_is_not(tmp_path: Path) -> None:
    population = [access(1), access(2, relations=["public.orders"])]
    acts = items(tmp_path, population, owners=[owner("public.customers", "orders_api")])
    assert [(act["first_index"], act["reasons"]) for act in acts] == [(1, ["owner"])]


def test_a_bulk_update_is_one_act_with_the_rows_that_were_captured(tmp_path: Path) -> None:
    population = [write(1, transaction_id="T", rows_affected=5000), *(change(2 + n, "T") for n in range(5000))]
    found = outcomes.evaluate(evidence_of(tmp_path / "inputs", population))
    acts = found.outcomes[0].answer.first(10)
    assert [(a["records"], a["rows_reported"], a["rows_captured"]) for a in acts] == [(1, 5000, 5000)]
    assert (found.counts["population"], found.counts["statements"], found.counts["row_changes"]) == (5001, 1, 5000)


def test_captured_changes_without_a_statement_are_one_act_a_transaction(tmp_path: Path) -> None:
    population = [change(1, "T"), change(2, "T"), change(3, "U")]
    acts = items(tmp_path, population)
    assert [(act["item"], act["records"]) for act in acts] == [("transaction T", 2), ("transaction U", 1)]


def test_the_lines_of_one_statement_are_one_act(tmp_path: Path) -> None:
    population = [write(1, correlation_id="c"), write(2, correlation_id="c", relations=["public.orders"])]
    (act,) = items(tmp_path, population)
    assert (act["records"], act["relations"]) == (2, ["public.customers", "public.orders"])


LATER = made.START + dt.timedelta(hours=1)


@pytest.mark.parametrize(
    ("fields", "decisions", "deviations"),
    [
        ({}, [], ["no ticket"]),
        ({"ticket": "T"}, [], ["no approval"]),
        ({"ticket": "T"}, [decision(1, "T")], []),
        ({"ticket": "T"}, [decision(1, "U")], ["no approval"]),
        ({"ticket": "T"}, [decision(1, "T", environment="test")], ["no approval"]),
        ({"ticket": "T"}, [decision(1, "T", "requested", approvers=[])], ["approval pending"]),
        ({"ticket": "T"}, [decision(1, "T"), decision(2, "T", "rejected")], ["approval rejected"]),
        ({"ticket": "T"}, [decision(1, "T"), decision(2, "T", "revoked")], ["approval revoked"]),
        ({"ticket": "T"}, [decision(1, "T", approvers=["DANA@shop.example"])], ["self-approved"]),
        ({"ticket": "T", "on_behalf_of": "eve@shop.example"}, [decision(1, "T")], ["self-approved"]),
        ({"ticket": "T"}, [decision(1, "T", requested_by="eve@shop.example")], ["self-approved"]),
        ({"ticket": "T"}, [decision(1, "T", decided_at=LATER)], ["approved late"]),
        ({"ticket": "T"}, [decision(1, "T", expires_at=made.START)], ["approval expired"]),
        (
            {"ticket": "T"},
            [decision(1, "T", decided_at=LATER, approvers=["dana@shop.example"])],
            ["self-approved", "approved late"],
        ),
        ({"ticket": "T", "attribution": "db_login"}, [decision(1, "T")], ["person not known"]),
        ({"ticket": "T", "flags": ["suspected_forgery"]}, [decision(1, "T")], ["person not known"]),
        ({"verdict": "blocked"}, [], []),
        ({"verdict": "error"}, [], []),
        ({"verdict": "pending", "ticket": "T"}, [decision(1, "T", decided_at=LATER)], []),
        ({"verdict": "allowed", "outcome": "rolled_back"}, [], ["no ticket"]),
    ],
)
def test_each_deviation_is_found_and_nothing_else(
    tmp_path: Path, fields: dict[str, Any], decisions: list[dict[str, Any]], deviations: list[str]
) -> None:
    acts = items(tmp_path, [write(10, **fields)], decisions=decisions)
    assert [act["deviations"] for act in acts] == [deviations]


def test_an_act_that_waited_and_was_let_through_is_tested_once_it_ran(tmp_path: Path) -> None:
    told = [write(1, correlation_id="c", verdict="pending"), write(2, correlation_id="c", verdict="approved")]
    held = write(3, correlation_id="d", verdict="pending")
    found = result(tmp_path, [*told, held])
    assert [(a["records"], a["verdict"], a["deviations"]) for a in found.answer.first(10)] == [
        (2, "approved", ["no ticket"]),
        (1, "pending", []),
    ]
    assert found.excluded == 1


@pytest.mark.parametrize("test", controls.tests().values(), ids=lambda test: test.id)
def test_every_word_for_a_deviation_stands_once_in_the_head_and_in_the_sql(test: controls.Test) -> None:
    sql = "".join(file.sql.partition(controls.ENDS)[2] for file in [test, *controls.tables_of([test])])
    told = [deviation for attribute in test.attributes for deviation in attribute.deviations]
    assert len(told) == len(set(told))
    assert not [
        word for word in told if f"'{word}'" not in sql and f"'{word.split()[0]} ' || approval_state" not in sql
    ]


def test_an_answer_that_the_head_does_not_tell_of_gives_no_report(tmp_path: Path) -> None:
    population = [write(1, ticket="T")]
    with pytest.raises(errors.ReportFailed, match="approval withdrawn"):
        result(tmp_path, population, decisions=[decision(1, "T", "withdrawn")])


@pytest.mark.parametrize("test", controls.tests().values(), ids=lambda test: test.id)
def test_the_answer_of_every_test_has_the_columns_that_the_documentation_says(
    tmp_path: Path, test: controls.Test
) -> None:
    kind = next(name for name, kind in controls.KINDS.items() if test.id in kind.tests)
    found = evidence_of(tmp_path / "inputs", [write(1)], request=Request(kind, made.START, made.END, "prod"))
    tables = found.tables | {t.id: engine.over(found.tables, t.sql) for t in controls.tables_of([test])}
    table = engine.over({name: tables[name] for name in test.tables}, test.sql)
    wanted = {"item", "first_index", "indexes", "occurred_at", "tested", "deviations"}
    assert wanted | {attribute.letter for attribute in test.attributes} <= set(table.column_names)
    assert {"who_id"} <= set(table.column_names) or {"subject", "detail"} <= set(table.column_names)


def test_every_kind_has_tests_and_every_test_a_kind_and_frameworks_name_no_other() -> None:
    of_kinds = {test for kind in controls.KINDS.values() for test in kind.tests}
    of_frameworks = {t for f in controls.frameworks().values() for control in f.controls for t in control.tests}
    assert of_kinds == set(controls.tests())
    assert of_frameworks <= of_kinds
    assert len({kind.letters for kind in controls.KINDS.values()}) == len(controls.KINDS)


@pytest.mark.parametrize(
    ("population", "more", "conclusion"),
    [
        ([write(1, ticket="T")], {"decisions": [decision(1, "T")]}, outcomes.OPERATED),
        ([write(1)], {}, outcomes.DEVIATED),
        ([access(1)], {}, outcomes.NOT_OCCURRED),
        ([write(1, verdict="blocked")], {}, outcomes.NOT_OCCURRED),
        ([], {}, outcomes.NOT_OCCURRED),
        ([], {"hearing": []}, outcomes.NOT_TESTED),
        ([write(1)], {"hearing": [made.heard("log", "statements")]}, outcomes.NOT_TESTED),
    ],
)
def test_the_conclusion_is_one_of_four_phrases(
    tmp_path: Path, population: list[dict[str, Any]], more: dict[str, Any], conclusion: str
) -> None:
    assert result(tmp_path, population, **more).conclusion == conclusion


def test_a_report_is_final_only_when_every_source_was_heard_after_the_end(tmp_path: Path) -> None:
    after = made.END + dt.timedelta(minutes=1)

    def reasons(*sources: dict[str, Any], now: dt.datetime = after) -> list[str]:
        return standing.unfinished(evidence_of(tmp_path / "inputs", [], sources=list(sources)), now)

    assert reasons(made.source()) == []
    assert reasons(made.source(), now=made.END - dt.timedelta(seconds=1)) == [
        "The period is open until 2026-11-20 12:00:00 UTC."
    ]
    assert "no heartbeat" in reasons(made.source(watermark_at=None))[0]
    assert "last heard" in reasons(made.source(watermark_at="2026-11-20T11:59:59+00:00"))[0]
    assert reasons(made.source(watermark_at=None, revoked_at="2026-11-20T12:00:00+00:00")) == []
    assert reasons(made.source(watermark_at=None, created_at="2026-11-20T12:00:00+00:00")) == []
    assert reasons() == ["No source is connected in this scope."]


def test_missing_numbers_and_rows_that_were_never_captured_contradict(tmp_path: Path) -> None:
    found = evidence_of(tmp_path / "inputs", [], sources=[made.source(missing=2)])
    assert standing.contradictions(found) == ["2 numbered records of source log are missing."]
    found.completeness["sources"] = []
    found.completeness["reconciliation"]["reported_more"] = 1
    assert len(standing.contradictions(found)) == 1
