"""How an identity behaves: rights that its logins hold against rights that were used, and acts unlike what it did before.

Statistics are plain: each item says its numbers and what they are measured against.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from lineage import errors
from lineage.access import Viewer
from lineage.engine import Question
from lineage.queries import doings
from lineage.queries.ask import ACCESSES, Window, one
from lineage.queries.facts import memberships
from lineage.queries.people import bare, latest_states
from lineage.queries.subjects import Subject, few, theirs

PRIVILEGES = {
    "read": "SELECT", "export": "SELECT", "insert": "INSERT", "import": "INSERT", "update": "UPDATE", "delete": "DELETE",
    "truncate": "TRUNCATE",
}  # fmt: skip
"""The right that an operation uses. Rights without an operation that a record shows (REFERENCES, TRIGGER) are not judged."""
OBSERVED = frozenset(PRIVILEGES.values())
EVERYBODY = "public"

USUAL_DAYS = 5
USUAL_SHARE = 10
TIMES_ROWS = 10
ROWS_BASE = 5
ITEMS_MOST = 20
RUNS = (
    "agent_run as run, any_value(agent_name) as agent, any_value(on_behalf_of) as on_behalf_of, count(*) as records, "
    "min(occurred_at) as first_at, max(occurred_at) as last_at"
)
# A statement counts once; a correlation id that is another record's event makes no one act of two.
ACT = "coalesce('call ' || correlation_id, 'event ' || event_id)"
NEEDED = (
    f"index, {ACT} as act, kind, occurred_at, datasource, verdict, agent_name, on_behalf_of, db_user, agent_run, relations, "
    f"greatest(rows_returned, rows_affected) as rows, coalesce({ACCESSES}, false) as is_access, session is null as is_alone"
)
DONE = "coalesce(verdict, 'allowed') not in ('blocked', 'error', 'pending')"


def conduct(viewer: Viewer, identity_id: str, window: Window = Window()) -> dict[str, Any]:
    """`rights` (docs/identities.md), `unusual`, `hours` (accesses by hour and verdict), and the `runs` of an agent. Raises NotFound."""
    with Question() as question:
        used = _take(question, viewer, identity_id, window)
        # What is before the window is there too.
        condition, values = _since(window)
        mine = f"from deeds where {condition}"
        head = one(
            question,
            "select count(*) as n, max(occurred_at) as last_at, "
            "list_sort(list_distinct(list(distinct datasource) filter (datasource is not null))) as places, "
            f"list_sort(list_distinct(list(distinct db_user) filter (db_user is not null))) as logins {mine}",
            values,
        )
        if not head["n"]:
            raise errors.NotFound
        hours = "select date_trunc('hour', occurred_at) as hour, verdict, count(*) as count"
        runs = f"select {RUNS} {mine} and agent_run is not null group by 1 order by max(index) desc limit 20"
        return {
            "rights": _rights(question, viewer, window, head, used),
            "unusual": _unusual(question, window, head["last_at"]),
            "hours": question.rows(f"{hours} {mine} and is_access group by all order by 1, 2", values),
            "runs": question.rows(runs, values),
        }


def _take(question: Question, viewer: Viewer, identity: str, window: Window) -> list[dict[str, Any]]:
    """Makes the table `deeds` of what somebody did in the window and before it; gives what was done to which table in the window."""
    found = doings.taken(question, viewer, identity, window)
    if found is not None:
        question.cursor.register("deeds", found.deeds)
        return found.used
    subject, before = Subject(identity=identity), doings.looked_at(window)
    condition, values = theirs(viewer, subject, before)
    with few(question, viewer, subject, before) as some:
        question.rows(f"create temp table deeds as select {NEEDED} from activity where {some} and {condition}", values)  # noqa: S608
        return _used(question, window)


def _used(question: Question, window: Window) -> list[dict[str, Any]]:
    told = "touches" if question.is_narrowed else "raw_touches"
    since, values = _since(window)
    return question.rows(
        "select datasource, relation, touch_op as op, count(distinct act) as count, max(index) as index "  # noqa: S608 - our own words
        f"from (select * from deeds where {since} and {DONE} and datasource is not null) "
        f"join (select index, relation, touch_op from {told} where relation is not null) using (index) "
        "group by all order by 1, 2, 3",
        values,
    )


def _since(window: Window) -> tuple[str, list[Any]]:
    """The condition on deeds that they do not lie before the window."""
    return ("occurred_at >= ?", [window.since]) if window.since else ("true", [])


def _rights(
    question: Question, viewer: Viewer, window: Window, head: Mapping[str, Any], used: list[dict[str, Any]]
) -> dict[str, Any]:
    """What the logins held at the window's end, beside what was done.

    `never_used`: rights held on a table, none of whose operations a record of the window shows. `without_grant`: what was done
    in a database whose catalog is known and gives none of the logins that right. `all_powerful`: logins that need no grant.
    """
    answer: dict[str, Any] = {"held": 0, "never_used": [], "without_grant": [], "all_powerful": [], "as_of": []}
    logins = set(head["logins"])
    known: set[str] = set()
    for snapshot in latest_states(question, viewer, window.until):
        state, place = snapshot["state"], snapshot["datasource"]
        roles = {role["name"]: role for role in state.get("roles", ())}
        here = sorted(logins & set(roles))
        if place not in head["places"] or not here:
            continue
        known.add(place)
        answer["as_of"].append(
            {"datasource": place, "at": snapshot["occurred_at"], "index": snapshot["index"], "logins": here}
        )
        reached = {name: {name, *memberships(name, roles)} for name in here}
        powerful = [name for name in here if roles[name].get("superuser")]
        answer["all_powerful"] += [{"datasource": place, "login": name} for name in powerful]
        held = _held(state, reached)
        done = [row for row in used if row["datasource"] == place]
        answer["held"] += sum(len(rights) for rights in held.values())
        answer["never_used"] += _never(place, held, done)
        if not powerful:
            answer["without_grant"] += _without(held, done)
    answer["unknown"] = sorted(set(head["places"]) - known)
    answer["is_known"] = bool(known)
    return answer


def _held(state: Mapping[str, Any], reached: Mapping[str, set[str]]) -> dict[str, dict[str, str]]:
    """By relation the rights that any login has, and through which role: itself, one it is a member of, or everybody."""
    everyone = {role for roles in reached.values() for role in roles} | {EVERYBODY}
    held: dict[str, dict[str, str]] = {}
    for grant in state.get("grants", ()):
        right = grant.get("privilege")
        if grant.get("relation") and right in OBSERVED and grant["grantee"] in everyone:
            via = grant["grantee"] if grant["grantee"] not in reached or len(reached) > 1 else "itself"
            relation = f"{grant['schema']}.{grant['relation']}"
            held.setdefault(relation, {}).setdefault(right, f"{via}, some columns" if grant.get("column") else via)
    return held


class _Pairs:
    """Tables with rights: by schema and name where both sides have a schema, else by name, as a parsed statement may have no more."""

    def __init__(self, pairs: Iterable[tuple[str, str | None]]) -> None:
        self.whole = set(pairs)
        self.bare = {(bare(relation), right) for relation, right in self.whole}
        self.unqualified = {pair for pair in self.whole if "." not in pair[0]}

    def holds(self, relation: str, right: str) -> bool:
        if "." not in relation:
            return (relation, right) in self.bare
        return (relation, right) in self.whole or (bare(relation), right) in self.unqualified


def _never(
    place: str, held: Mapping[str, Mapping[str, str]], done: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    used = _Pairs((row["relation"], PRIVILEGES.get(row["op"] or "")) for row in done)
    found = []
    for relation, rights in sorted(held.items()):
        left = {right: via for right, via in sorted(rights.items()) if not used.holds(relation, right)}
        if left:
            via = sorted(set(left.values()))
            whole = len(left) == len(rights)
            found.append({"datasource": place, "relation": relation, "rights": list(left), "via": via, "whole": whole})
    return found


def _without(held: Mapping[str, Mapping[str, str]], done: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    rights = _Pairs((relation, right) for relation, granted in held.items() for right in granted)
    return [
        dict(row) | {"right": PRIVILEGES[row["op"]]}
        for row in done
        if row["op"] in PRIVILEGES and not rights.holds(row["relation"], PRIVILEGES[row["op"]])
    ]


# The row changes of a session are its statements' own.
MINE = f"""
mine as (select act, min(index) as index, min(occurred_at) as acted_at, any_value(datasource) as datasource,
    list_distinct(flatten(list(relations))) as relations, max(rows) as rows, min(occurred_at) >= ? as judged
    from deeds where is_access and {DONE} and (kind = 'query' or is_alone)
    and occurred_at >= ? and occurred_at < ? group by 1),
places as (select * exclude (relations), case when contains(relation, '.') then relation else 'public.' || relation end as relation
    from (select *, unnest(relations) as relation from mine))
"""  # noqa: S608 - our own conditions


def _unusual(question: Question, window: Window, last_at: dt.datetime) -> dict[str, Any]:
    """Acts of the window (without a beginning: the seven days up to its last act) unlike those of the 90 days before it."""
    began, start, end = doings.measured(window, last_at)
    base, given = f"with {MINE}", [start, began, end]
    hours = question.rows(
        f"{base} select judged, date_trunc('hour', acted_at) as hour, count(*) as count, min(index) as index "  # noqa: S608 - our own words
        "from mine group by all order by 2",
        given,
    )
    before = [row for row in hours if not row["judged"]]
    days = {row["hour"].date() for row in before}
    return {
        "from_at": start, "to_at": end, "base_from": began, "base_acts": sum(row["count"] for row in before),
        "base_days": len(days), "judged_acts": sum(row["count"] for row in hours if row["judged"]),
        "first_tables": _first(question, base, given) if before else [],
        "usual_hours": usual_hours(before),
        "odd_hours": _odd(hours, usual_hours(before)),
        "many_rows": _many(question, base, given) if before else [],
        "thresholds": {"days": USUAL_DAYS, "share": USUAL_SHARE, "times": TIMES_ROWS, "acts": ROWS_BASE},
    }  # fmt: skip


def _first(question: Question, base: str, given: list[Any]) -> list[dict[str, Any]]:
    """Tables that it reached for the first time."""
    return question.rows(
        f"{base} select datasource, relation, min(acted_at) as acted_at, min(index) as index, count(distinct act) as count from places "  # noqa: S608
        f"group by datasource, relation having bool_and(judged) order by 3, 1, 2 limit {ITEMS_MOST}",
        given,
    )


def usual_hours(before: Iterable[Mapping[str, Any]]) -> list[int]:
    """Hours of the day (UTC) in which it acted on a tenth of its active days, and on two at least.

    Empty where it was active on fewer than five days: then nothing is usual yet.
    """
    seen: dict[int, set[dt.date]] = {}
    for row in before:
        seen.setdefault(row["hour"].hour, set()).add(row["hour"].date())
    days = {day for found in seen.values() for day in found}
    if len(days) < USUAL_DAYS:
        return []
    return sorted(hour for hour, found in seen.items() if len(found) >= max(2, len(days) / USUAL_SHARE))


def _odd(hours: Iterable[Mapping[str, Any]], usual: list[int]) -> list[dict[str, Any]]:
    odd = [dict(row) for row in hours if row["judged"] and row["hour"].hour not in usual]
    return odd[-ITEMS_MOST:] if usual else []


def _many(question: Question, base: str, given: list[Any]) -> list[dict[str, Any]]:
    """Statements that met ten times the rows that are usual (the median) for it on that table, of five statements at least."""
    return question.rows(
        f"""{base}, usual as (select datasource, relation, median(rows) as usual, count(*) as base from places
            where not judged and rows is not null group by all having count(*) >= {ROWS_BASE})
        select p.datasource, p.relation, p.acted_at, p.index, p.rows, u.usual, u.base from places p
        join usual u on u.datasource is not distinct from p.datasource and u.relation = p.relation
        where p.judged and p.rows >= {TIMES_ROWS} * greatest(u.usual, 1) order by p.rows desc limit {ITEMS_MOST}""",  # noqa: S608
        given,
    )
