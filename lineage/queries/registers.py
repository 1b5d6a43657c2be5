"""Registers that a test of control holds accesses against: classes of columns, whose logins, and rights held; each with its spans."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa
from django.db import connection

from lineage import tagging
from lineage.access import Viewer, databases_of
from lineage.engine import Question
from lineage.queries import holding
from lineage.queries.ask import OWN, Window, scoped
from lineage.queries.facts import FIRST, LAST, SPAN, TEXT
from lineage.queries.tags import tags

TAGS = pa.schema(
    [(n, TEXT) for n in ("datasource", "relation", "column")] + [("classes", pa.list_(TEXT)), ("by", TEXT), *SPAN]
)
IDENTITIES = pa.schema(
    [(n, TEXT) for n in ("datasource", "db_user", "person", "name", "email", "type", "owner")] + list(SPAN[:2])
)
RIGHTS = pa.schema(
    [(n, TEXT) for n in ("datasource", "relation", "login")]
    + [("rights", pa.list_(TEXT)), ("through", pa.list_(TEXT)), *SPAN]
)
SAID = f"""
select index, occurred_at, decided_by, datasource, decision_subject, statement from raw_events
where source = '{OWN}' and decision_type = 'configuration' and starts_with(decision_subject, 'tag ') and statement is not null
order by index"""  # noqa: S608 - our own word
SNAPSHOTS = """
select index, datasource, occurred_at, state from activity where kind = 'state' and state is not null
and not list_contains(flags, 'unauthorised_assertion') and coalesce(json_extract_string(state, '$.mode'), 'snapshot') = 'snapshot'
and {condition}
qualify occurred_at >= coalesce(max(occurred_at) filter (occurred_at <= ?) over (partition by datasource), occurred_at)
order by occurred_at, index"""
"""The catalogs as they were at the beginning of a period, and each time that they were told in it."""
HELD = """
select datasource, db_user, person_id as person, name, email, type, nullif(owner, '') as owner, as_of as from_at,
       coalesce(lead(as_of) over (partition by datasource, db_user order by as_of), %s) as to_at
from lineage_identity order by 1, 2, as_of"""
Rows = list[dict[str, Any]]


def classified(
    viewer: Viewer,
    since: dt.datetime,
    until: dt.datetime,
    datasources: list[str] | None = None,
    environment: str | None = None,
    as_of: int | None = None,
) -> dict[str, pa.Table]:
    """Arrow table `tags`: columns with classes, and from when to when each had them by whose word (`by` empty: a gateway found it).

    The first that was said of a column is taken to have held before too, marked `assumed`.
    """
    now = _within(tags(viewer), datasources)
    with Question(as_of=as_of, joined=False) as question:
        said = question.rows(SAID)
    rows = [row for row in _tag_spans(now, said) if row["classes"] and row["from_at"] < until and row["to_at"] > since]
    return {"tags": pa.Table.from_pylist(rows, schema=TAGS)}


def registered(
    viewer: Viewer,
    since: dt.datetime,
    until: dt.datetime,
    datasources: list[str] | None = None,
    environment: str | None = None,
    as_of: int | None = None,
) -> dict[str, pa.Table]:
    """Arrow table `identities`: whose login was whose in the period, and who answers for those that are no people."""
    with connection.cursor() as cursor:
        cursor.execute(HELD, [LAST])
        names = [column.name for column in cursor.description or ()]
        held = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    allowed = databases_of(viewer)
    rows = [
        row
        for row in _within(held, datasources)
        if viewer.reads_records and row["person"] and row["from_at"] < until and row["to_at"] > since
        and (allowed is None or row["datasource"] in allowed)
    ]  # fmt: skip
    return {"identities": pa.Table.from_pylist(rows, schema=IDENTITIES)}


def rights_held(
    viewer: Viewer,
    since: dt.datetime,
    until: dt.datetime,
    datasources: list[str] | None = None,
    environment: str | None = None,
    as_of: int | None = None,
) -> dict[str, pa.Table]:
    """Arrow table `rights`: which login could reach which classified table in the period, by which right and through what.

    A right that lasts beyond the period is cut to it.
    """
    tables = classified(viewer, since, until, datasources, environment, as_of)["tags"]
    wanted = sorted(set(zip(tables["datasource"].to_pylist(), tables["relation"].to_pylist(), strict=True)))
    condition, values = scoped(dataclasses.replace(viewer, from_at=None), Window(None, until, environment))
    with Question(as_of=as_of) as question:
        states = question.rows(SNAPSHOTS.format(condition=condition), [*values, since])
    rows = [
        row | {"from_at": max(row["from_at"], since), "to_at": min(row["to_at"], until)}
        for row in _right_spans(_within(states, datasources), wanted, since)
        if row["to_at"] > since
    ]
    return {"rights": pa.Table.from_pylist(rows, schema=RIGHTS)}


def _within(rows: Iterable[dict[str, Any]], datasources: list[str] | None) -> Rows:
    return [row for row in rows if not datasources or row["datasource"] in datasources]


def _tag_spans(now: Iterable[Mapping[str, Any]], said: Sequence[Mapping[str, Any]]) -> Rows:
    """The spans of each column's classes: from the records that changed them; without one from what is kept alone."""
    history: dict[tuple[str, str], Rows] = {}
    for row in said:
        history.setdefault((row["datasource"], row["decision_subject"]), []).append(dict(row))
    found: Rows = []
    for tag in now:
        place = {name: tag[name] for name in ("datasource", "relation", "column")}
        told = history.get((tag["datasource"], tagging.subject(tag["datasource"], tag["relation"], tag["column"])), [])
        if not told:
            kept = {"from_at": tag["at"] or FIRST, "to_at": LAST, "index": None, "assumed": tag["at"] is None}
            found.append(place | kept | {"classes": tag["classes"], "by": tag["by"]})
            continue
        changes = [msgspec.json.decode(row["statement"]) for row in told]
        first = {"from_at": FIRST, "to_at": told[0]["occurred_at"], "index": None, "assumed": True}
        # Before anything was said of a column its first classes stand; what somebody had said without a record stays that.
        old = changes[0]["old"]
        found.append(place | first | {"classes": (changes[0]["new"] or []) if old is None else old, "by": None})
        ends = [*(row["occurred_at"] for row in told[1:]), LAST]
        for row, change, end in zip(told, changes, ends, strict=True):
            span = {"from_at": row["occurred_at"], "to_at": end, "index": row["index"], "assumed": False}
            found.append(place | span | {"classes": change["new"] or [], "by": row["decided_by"]})
    return found


def _right_spans(states: Iterable[Mapping[str, Any]], wanted: Sequence[tuple[str, str]], since: dt.datetime) -> Rows:
    """One row for each login and table while its rights stay the same; the first state stands for the time before it too."""
    lasting: dict[tuple[str, str, str], dict[str, Any]] = {}
    found: Rows = []
    begun: set[str] = set()
    for state in states:
        datasource, at = state["datasource"], state["occurred_at"]
        held = _held(state, [relation for place, relation in wanted if place == datasource])
        assumed = datasource not in begun and at > since
        begun.add(datasource)
        for key in [key for key in lasting if key[0] == datasource]:
            if held.get(key[1:]) != (lasting[key]["rights"], lasting[key]["through"]):
                found.append(lasting.pop(key) | {"to_at": at})
        for (relation, login), (rights, through) in held.items():
            lasting.setdefault((datasource, relation, login), {
                "datasource": datasource, "relation": relation, "login": login, "rights": rights, "through": through,
                "from_at": FIRST if assumed else at, "to_at": LAST, "index": state["index"], "assumed": assumed,
            })  # fmt: skip
    found += lasting.values()
    return sorted(found, key=lambda row: (row["datasource"], row["relation"], row["login"], row["from_at"]))


def _held(state: Mapping[str, Any], relations: Iterable[str]) -> dict[tuple[str, str], tuple[list[str], list[str]]]:
    """By (table, login) the rights and through what, as one state of the catalogs has them."""
    body = msgspec.json.decode(state["state"])
    found = {}
    for relation in relations:
        schema, _, name = relation.rpartition(".")
        grants = [g for g in body.get("grants", ()) if (g.get("schema"), g.get("relation")) == (schema, name)]
        owner = next(
            (k.get("owner") for k in body.get("keys", ()) if (k["schema"], k["relation"]) == (schema, name)), None
        )
        for one in holding.people(body, grants, owner):
            found[relation, one["login"]] = (one["rights"], one["through"])
    return found
