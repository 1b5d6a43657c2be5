"""Who held which right on a table at a time, from the database's catalogs: by grant, by membership, as owner or superuser."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from lineage import errors
from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries.people import latest_states

PUBLIC = ("public", "PUBLIC", "")
READS, WRITES = ("SELECT",), ("INSERT", "UPDATE", "DELETE", "TRUNCATE")


def holders(viewer: Viewer, datasource: str, relation: str, at: dt.datetime | None = None) -> dict[str, Any]:
    """Who held which right on a table at a time, from the newest state snapshot at or before it.

    `grants` as the catalog has them; `people`: every login that could act, with its rights and through what.
    """
    if viewer.datasources and datasource not in viewer.datasources:
        raise errors.NotFound
    with Question() as question:
        return {
            "datasource": datasource, "relation": relation, "at": at,
            **held(question, viewer, datasource, relation, at), "as_of": question.size,
        }  # fmt: skip


def held(question: Question, viewer: Viewer, datasource: str, relation: str, at: dt.datetime | None) -> dict[str, Any]:
    """`grants`, `people`, and `snapshot` (time and record that they are from; None without one)."""
    schema, _, name = relation.rpartition(".")
    schema = schema or "public"
    for snapshot in latest_states(question, viewer, at):
        if snapshot["datasource"] == datasource:
            state, place = snapshot["state"], {"as_of": snapshot["occurred_at"], "index": snapshot["index"]}
            grants = [
                {**grant, **place}
                for grant in state.get("grants", ())
                if grant.get("relation") == name and grant.get("schema") == schema
            ]
            owner = next(
                (k.get("owner") for k in state.get("keys", ()) if (k["schema"], k["relation"]) == (schema, name)), None
            )
            return {"grants": grants, "people": people(state, grants, owner), "snapshot": place, "owner": owner}
    return {"grants": [], "people": [], "snapshot": None, "owner": None}


def people(state: Mapping[str, Any], grants: Iterable[Mapping[str, Any]], owner: str | None) -> list[dict[str, Any]]:
    """Every login with a right on the table: `rights` (with the column, where it is only for one) and `through` which roles.

    A role acts as the roles that it is a member of, and as theirs (without regard to NOINHERIT: it may SET ROLE).
    """
    roles: dict[str, Mapping[str, Any]] = {role["name"]: role for role in state.get("roles", ())}
    member_of: dict[str, set[str]] = {name: set(role.get("member_of", ())) for name, role in roles.items()}
    for grant in state.get("grants", ()):
        if grant.get("role"):
            member_of.setdefault(grant["grantee"], set()).add(grant["role"])
    given = list(grants)
    # A catalog that lists no roles names its holders all the same.
    roles |= {g["grantee"]: {} for g in given if g["grantee"] not in roles and g["grantee"] not in PUBLIC}
    found = []
    for name, role in roles.items():
        if role.get("login") is False:
            continue
        acts_as = _all_of(name, member_of)
        rights, through = _rights(name, acts_as, given, owner)
        if role.get("superuser"):
            rights, through = {"everything": None}, {"superuser": None}
        if rights:
            found.append({"login": name, "rights": list(rights), "through": list(through)})
    return sorted(found, key=lambda one: one["login"])


def _all_of(name: str, member_of: Mapping[str, set[str]]) -> set[str]:
    seen, ahead = {name}, [name]
    while ahead:
        for role in member_of.get(ahead.pop(), set()) - seen:
            seen.add(role)
            ahead.append(role)
    return seen


def _rights(
    name: str, acts_as: set[str], grants: Iterable[Mapping[str, Any]], owner: str | None
) -> tuple[dict[str, None], dict[str, None]]:
    rights: dict[str, None] = {}
    through: dict[str, None] = {}
    if owner in acts_as:
        rights["everything"], through["owner" if owner == name else f"owner {owner}"] = None, None
    for grant in grants:
        grantee = grant["grantee"]
        if grantee not in acts_as and grantee not in PUBLIC:
            continue
        column = f" ({grant['column']})" if grant.get("column") else ""
        rights[f"{grant.get('privilege')}{column}"] = None
        through[
            "its own grant" if grantee == name else "everybody" if grantee in PUBLIC else f"member of {grantee}"
        ] = None
    return rights, through
