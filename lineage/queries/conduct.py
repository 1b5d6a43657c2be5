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
from lineage.events import shifted
from lineage.queries.ask import ACCESSES, Window, one, scoped
from lineage.queries.facts import memberships
from lineage.queries.people import bare, latest_states
from lineage.queries.subjects import REAL, Subject, few, theirs

PRIVILEGES = {
    "read": "SELECT", "export": "SELECT", "insert": "INSERT", "import": "INSERT", "update": "UPDATE", "delete": "DELETE",
    "truncate": "TRUNCATE",
}  # fmt: skip
"""The right that an operation uses. Rights without an operation that a record shows (REFERENCES, TRIGGER) are not judged."""
OBSERVED = frozenset(PRIVILEGES.values())
EVERYBODY = "public"

JUDGED = dt.timedelta(days=7)
BASE = dt.timedelta(days=90)
USUAL_DAYS = 5
USUAL_SHARE = 10
TIMES_ROWS = 10
ROWS_BASE = 5
ITEMS_MOST = 20
RUNS = (
    "agent_run as run, any_value(agent_name) as agent, any_value(on_behalf_of) as on_behalf_of, count(*) as records, "
    "min(occurred_at) as first_at, max(occurred_at) as last_at"
)
NEEDED = (
    "index, event_id, kind, op, occurred_at, environment, datasource, who_id, on_behalf_of, agent_name, agent_run, db_user, verdict, "
    "emitted, flags, session, correlation_id, relations, rows_returned, rows_affected"
)
DONE = "coalesce(verdict, 'allowed') not in ('blocked', 'error', 'pending')"


def conduct(viewer: Viewer, identity_id: str, window: Window = Window()) -> dict[str, Any]:
    """`rights` (docs/identities.md), `unusual`, `hours` (accesses by hour and verdict), and the `runs` of an agent. Raises NotFound."""
    subject = Subject(identity=identity_id)
    condition, values = theirs(viewer, subject, window)
    with Question() as question:
        with few(question, viewer, subject, _looked_at(window)) as some:
            _take(question, viewer, subject, window, some)
            used = _used(question, condition, values)
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
            "unusual": _unusual(question, viewer, subject, window, head["last_at"]),
            "hours": question.rows(f"{hours} {mine} and {ACCESSES} group by all order by 1", values),
            "runs": question.rows(runs, values),
        }


def _take(question: Question, viewer: Viewer, subject: Subject, window: Window, some: str) -> None:
    """Makes the table `deeds` of what the subject did in the window and before it: it is asked several times, and read once."""
    mine, own = subject.condition()
    scope, values = scoped(viewer, _looked_at(window))
    question.rows(
        f"create temp table deeds as select {NEEDED} from activity where {some} and {mine} and {scope}",  # noqa: S608
        [*own, *values],
    )


def _looked_at(window: Window) -> Window:
    """The window, with the time before it that its acts are held against."""
    since = shifted(window.since, -BASE) if window.since else None
    return Window(since, window.until, window.environment)


def _used(question: Question, condition: str, values: list[Any]) -> list[dict[str, Any]]:
    told = "touches" if question.is_narrowed else "raw_touches"
    return question.rows(
        "select datasource, relation, touch_op as op, count(distinct coalesce(correlation_id, event_id)) as count, "  # noqa: S608
        f"max(index) as index from (select * from deeds where {condition} and {DONE} and datasource is not null) "
        f"join (select index, relation, touch_op from {told} where relation is not null) using (index) "
        "group by all order by 1, 2, 3",
        values,
    )


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


# A statement counts once; the row changes of a session are its statements' own.
ACT = "coalesce(correlation_id, event_id)"
MINE = f"""
mine as (select {ACT} as act, min(index) as index, min(occurred_at) as acted_at, any_value(datasource) as datasource,
    list_distinct(flatten(list(relations))) as relations, max(greatest(rows_returned, rows_affected)) as rows,
    min(occurred_at) >= ? as judged
    from deeds where {{condition}} and {ACCESSES} and {DONE} and (kind = 'query' or session is null)
    and occurred_at >= ? and occurred_at < ? group by 1),
places as (select * exclude (relations), case when contains(relation, '.') then relation else 'public.' || relation end as relation
    from (select *, unnest(relations) as relation from mine))
"""  # noqa: S608 - our own conditions


def _unusual(
    question: Question, viewer: Viewer, subject: Subject, window: Window, last_at: dt.datetime
) -> dict[str, Any]:
    """Acts of the window (without a beginning: the seven days up to its last act) unlike those of the 90 days before it."""
    end = window.until or shifted(last_at, dt.timedelta(microseconds=1))
    start = window.since or shifted(end, -JUDGED)
    mine, own = subject.condition()
    scope, values = scoped(viewer, Window(environment=window.environment))
    base = f"with {MINE.format(condition=f'{mine} and {scope} and {REAL}')}"
    began = shifted(start, -BASE)
    given = [start, *own, *values, began, end]
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
