"""The eleven statements that pattern-matching guardrails let through, or stop for a word in a string."""

from __future__ import annotations

import pytest

from tests.bypass.shop import AGENT, HUMAN, SERVICE, Gate

EVERYBODY = [HUMAN, SERVICE, AGENT]
BLOCKED = [
    ("DELETE FROM customers", "no-unconditional-change"),
    ("DELETE FROM customers -- where", "no-unconditional-change"),
    ("/*a*/ DELETE FROM customers", "no-unconditional-change"),
    ("BEGIN; DELETE FROM customers", "no-unconditional-change"),
    ("WITH x AS (DELETE FROM customers RETURNING 1) SELECT count(*) FROM x", "no-unconditional-change"),
    ("DROP TABLE customers", "no-drop"),
    ("TRUNCATE customers", "no-truncate"),
    ("DROP/**/TABLE customers", "no-drop"),
    ("DROP MATERIALIZED VIEW totals", "no-drop"),
    ("DROP ROLE bob", "no-drop"),
]
BLOCK = "DO $$ BEGIN EXECUTE 'dr' || 'op table customers'; END $$"


@pytest.mark.parametrize("who", EVERYBODY, ids=lambda who: who.actor_type)
@pytest.mark.parametrize(("sql", "rule"), BLOCKED)
def test_what_destroys_is_blocked_for_everybody_however_it_is_written(gate: Gate, sql, rule, who):
    decision = gate(sql, who)
    assert (decision.outcome, rule in dict(decision.matched)) == ("block", True)
    assert decision.sqlstate == "42501"
    assert decision.sentence.endswith(".")
    assert decision.hint


def test_a_block_that_builds_its_text_at_run_time_is_blocked_for_agents_and_needs_approval_from_people(gate: Gate):
    assert (gate(BLOCK, AGENT).outcome, gate(BLOCK, AGENT).rule) == ("block", "agents-nothing-opaque")
    assert (gate(BLOCK, HUMAN).outcome, gate(BLOCK, HUMAN).rule) == ("approve", "people-nothing-opaque")


HARMLESS = [
    "SELECT 'please drop table now'",
    "SELECT 1 AS delete",
    'SELECT "delete" FROM (SELECT 1 AS delete) AS "drop"',
    "WITH truncate AS (SELECT 1 AS n) SELECT n FROM truncate",
    "SELECT n FROM codes AS update WHERE n = 1",
    "SELECT $$delete from customers$$, E'drop\\ntable', U&'truncate' -- delete from customers",
]


@pytest.mark.parametrize("who", EVERYBODY, ids=lambda who: who.actor_type)
@pytest.mark.parametrize("sql", HARMLESS)
def test_words_in_strings_names_and_comments_stop_nobody(gate: Gate, sql, who):
    decision = gate(sql, who)
    assert decision.outcome == "allow", decision.sentence
