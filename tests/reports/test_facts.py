"""Role attributes and owners in force: spans from snapshots and differences, owners through memberships."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from lineage.queries import facts

AT = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)


def state(index: int, hour: int, **body: Any) -> dict[str, Any]:
    return {
        "index": index,
        "datasource": "orders",
        "occurred_at": AT + dt.timedelta(hours=hour),
        "state": json.dumps(body),
    }


def in_force(rows: list[dict[str, Any]], hour: float) -> list[dict[str, Any]]:
    at = AT + dt.timedelta(hours=hour)
    return [row for row in rows if row["from_at"] <= at < row["to_at"]]


def test_a_role_holds_an_attribute_from_the_state_that_says_so_until_the_next() -> None:
    plain, strong = {"name": "dana"}, {"name": "dana", "superuser": True, "createrole": True}
    states = [state(1, 1, roles=[plain]), state(2, 2, roles=[strong]), state(3, 3, roles=[])]
    roles, _ = facts._spans(states)
    assert [(r["attributes"], r["assumed"], r["index"]) for r in in_force(roles, 0)] == [([], True, 1)]
    assert [(r["attributes"], r["assumed"], r["index"]) for r in in_force(roles, 1)] == [([], False, 1)]
    assert [r["attributes"] for r in in_force(roles, 2.5)] == [["superuser", "createrole"]]
    assert in_force(roles, 3) == []


def test_a_difference_changes_what_it_names_and_leaves_the_rest() -> None:
    states = [
        state(1, 1, roles=[{"name": "a", "superuser": True}, {"name": "b"}]),
        state(2, 2, mode="difference", roles=[{"name": "b", "bypassrls": True}]),
    ]
    roles, _ = facts._spans(states)
    assert {r["role"]: r["attributes"] for r in in_force(roles, 2)} == {"a": ["superuser"], "b": ["bypassrls"]}


def test_members_of_an_owning_role_are_owners_also_through_other_roles() -> None:
    roles = [
        {"name": "owners"},
        {"name": "leads", "member_of": ["owners"]},
        {"name": "dana", "member_of": ["leads"]},
        {"name": "lee", "member_of": ["readers"]},
        {"name": "loop", "member_of": ["loop"]},
    ]
    keys = [{"schema": "public", "relation": "customers", "owner": "owners"}, {"schema": "public", "relation": "x"}]
    _, owners = facts._spans([state(1, 1, roles=roles, keys=keys)])
    found = {(o["relation"], o["role"], o["owner"]) for o in in_force(owners, 1)}
    assert found == {("public.customers", role, "owners") for role in ("owners", "leads", "dana")}
