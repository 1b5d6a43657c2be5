"""One session whole: who it was and by whose leave, its statements in order with their changes, how it ran, what lies around it."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from lineage import errors
from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes
from lineage.extracts.looking import Lookup, Unable
from lineage.queries import candidates, heads, neighbours, standing
from lineage.queries.ask import Window, fetch, names, scoped, searched
from lineage.queries.covering import coverage
from lineage.queries.heads import SESSION_COLUMNS
from lineage.queries.people import bare

RECORDS_MOST = 20_000
CHANGES_MOST = 20
SLOWEST = 5
LIGHT = (
    "index", "event_id", "kind", "class", "op", "command", "occurred_at", "correlation_id", "transaction_id", "outcome", "relations",
    "verdict", "rows_returned", "rows_affected", "bytes_returned", "duration_us", "flags", "attribution", "attribution_index",
    "claimed", "who_id", "who_name", "who_type", "on_behalf_of", "agent_id", "agent_name", "agent_run", "purpose", "ticket",
    "approval_request", "masked",
)  # fmt: skip
_OF_HEAD = tuple(name for name in heads.NEEDED if name not in LIGHT)
UNREAL = frozenset({"claim", "canary"})
REAL = f"not list_has_any(flags, {sorted(UNREAL)})"
LAST = dt.datetime.max.replace(tzinfo=dt.UTC)


def session(
    viewer: Viewer, session_key: str, q: str = "", start: int = 0, limit: int | None = None, changes: int | None = None
) -> dict[str, Any]:
    """One session: its row, identity chain, and its steps in order, each statement with the row changes of its transaction.

    Changes are put under a statement only when it is the transaction's only write to that table; else they stand
    under the transaction as `unplaced`. `lines`: how many statements the server's log has a second record of. `steps` are
    those from place `start` on that hold a record matching `q`, at most `limit`, each with its first `changes` changes and
    `changes_count`; `places` has all of them without texts and images. Raises NotFound.
    """
    shown = slice(start, start + limit if limit else None)
    with Question() as question:
        records = candidates.told(question, lambda look: _LookedUp(question, look, viewer, session_key))
        found = _within(records or _Asked(question, viewer, session_key), question, viewer, q, shown, changes)
        around = _around(question, viewer, found["session"])
        told = coverage(question, viewer, Window())
        return found | {"around": around, "as_of": question.size, "coverage": told}


class _Asked:
    """The records of one session by SQL over the whole log."""

    def __init__(self, question: Question, viewer: Viewer, key: str) -> None:
        self.question, self.viewer, self.key = question, viewer, key
        self.scope = scoped(viewer, Window())

    def head(self) -> dict[str, Any] | None:
        scope, values = self.scope
        sql = f"select {SESSION_COLUMNS} from activity where session = ? and {scope} group by session"  # noqa: S608
        return next(iter(self.question.rows(sql, [self.key, *values])), None)

    def rows(self) -> list[dict[str, Any]]:
        """The real acts in order by time; asked after the head."""
        scope, values = self.scope
        return self.question.rows(
            f"select {', '.join(LIGHT)} from activity where session = ? and {scope} and {REAL} "  # noqa: S608
            f"order by occurred_at, index limit {RECORDS_MOST + 1}",
            [self.key, *values],
        )

    def met(self, q: str) -> set[int]:
        """Which of them a search finds."""
        condition, more = searched(self.viewer, q, Window(), "event")
        sql = f"select index from activity where session = ? and {condition}"  # noqa: S608
        return {row["index"] for row in self.question.rows(sql, [self.key, *more])}

    def leave(self, asked: list[str]) -> list[dict[str, Any]]:
        return standing.leave(self.question, self.scope, asked)


class _LookedUp(_Asked):
    """The same of what look-ups find. Raises Unable and Damaged when made."""

    def __init__(self, question: Question, look: Lookup, viewer: Viewer, key: str) -> None:
        super().__init__(question, viewer, key)
        self.look = look
        self.found = candidates.session(look, viewer, key)
        self.every = [row for row in self._read(self.found, (*LIGHT, *_OF_HEAD)) if row["session"] == key]
        cited = {row[name] for row in self.every for name in ("ticket", "approval_request")} - {None}
        decisions, in_scope = candidates.decisions(look, viewer, cited)
        self.decisions, self.in_scope = self._read(decisions, standing.NEEDED), set(in_scope.tolist())

    def _read(self, indexes: Indexes, columns: Iterable[str]) -> list[dict[str, Any]]:
        read = self.question.records(indexes, list(columns))
        if read is None:
            raise Unable
        return list(read.values())

    def head(self) -> dict[str, Any] | None:
        found = heads.head(self.every) if self.every else None
        for row in self.every:
            for name in _OF_HEAD:
                del row[name]
        return found

    def rows(self) -> list[dict[str, Any]]:
        real = [row for row in self.every if UNREAL.isdisjoint(row["flags"])]
        # What has no time comes last.
        real.sort(key=lambda row: (row["occurred_at"] or LAST, row["index"]))
        return real

    def met(self, q: str) -> set[int]:
        with self.question.narrowed(self.look, self.found):
            return super().met(q)

    def leave(self, asked: list[str]) -> list[dict[str, Any]]:
        return standing.leave_among(self.decisions, self.in_scope, asked)


def _within(
    records: _Asked, question: Question, viewer: Viewer, q: str, shown: slice, changes: int | None
) -> dict[str, Any]:
    """What the session's own records tell."""
    head = records.head()
    if head is None:
        raise errors.NotFound
    rows = records.rows()
    once = [row for row in rows[:RECORDS_MOST] if "seen_by_gateway" not in row["flags"]]
    places = _steps(once)
    if q:
        met = records.met(q)
        chosen = [step for step in places if met & {*step["records"], *(c["index"] for c in step["changes"])}]
    else:
        chosen = places
    return {
        "session": head | {"masked_types": _masked(once)},
        "chain": standing.chain(once, records.leave),
        "steps": _whole(question, viewer, chosen[shown], changes),
        "places": places,
        "found": len(chosen),
        "is_cut": len(rows) > RECORDS_MOST,
        "lines": len(_acts(rows)) - len(_acts(once)),
        "performance": performance([step for step in places if step["kind"] == "query"]),
    }


def _acts(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    return {row["correlation_id"] or row["event_id"] for row in rows}


def _masked(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many values of each type were masked, the most first."""
    counts: Counter[str] = Counter()
    for masked in (msgspec.json.decode(row["masked"]) for row in rows if row["masked"]):
        counts.update({kind["name"]: kind["count"] for kind in masked.get("types", ())})
    return [{"name": name, "count": count} for name, count in counts.most_common()]


def _steps(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Statements in order, one a correlation id, with the changes that can only be theirs; `records` are all of its indexes."""
    steps: dict[str, dict[str, Any]] = {}
    for row in (r for r in rows if r["kind"] != "change"):
        key = row["correlation_id"] or row["event_id"]
        if key in steps:
            steps[key]["relations"] = names([*steps[key]["relations"], *(row["relations"] or [])])
            steps[key]["records"].append(row["index"])
        else:
            steps[key] = row | {"relations": list(row["relations"] or []), "changes": [], "records": [row["index"]]}
    writers: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for step in (s for s in steps.values() if s["class"] == "write" and s["transaction_id"]):
        for relation in step["relations"]:
            writers.setdefault((step["transaction_id"], bare(relation)), []).append(step)
    unplaced = []
    for change in (r for r in rows if r["kind"] == "change"):
        owners = writers.get((change["transaction_id"], bare((change["relations"] or [""])[0])), [])
        if len(owners) == 1:
            owners[0]["changes"].append(change)
        else:
            unplaced.append(change | {"changes": [], "records": [change["index"]]})
    ordered = sorted([*steps.values(), *unplaced], key=lambda r: (r["occurred_at"], r["index"]))
    for place, step in enumerate(ordered, 1):
        step["place"] = place
    return ordered


def _whole(
    question: Question, viewer: Viewer, steps: Sequence[dict[str, Any]], most: int | None
) -> list[dict[str, Any]]:
    """The steps with texts and images, in one question."""
    indexes = [{"index": row["index"]} for step in steps for row in (step, *step["changes"][:most])]
    rows = {row["index"]: row for row in fetch(question, viewer, indexes)}
    return [
        rows[step["index"]]
        | {name: step[name] for name in ("relations", "place")}
        | {
            "changes": [rows[change["index"]] for change in step["changes"][:most]],
            "changes_count": len(step["changes"]),
        }
        for step in steps
    ]


def performance(statements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Durations (nearest rank), rows and bytes of a session's statements, each with how many of them it is known of."""
    timed = sorted((s for s in statements if s["duration_us"] is not None), key=lambda s: s["duration_us"])

    def at(share: float) -> int | None:
        return timed[max(0, -(-int(share * 100) * len(timed) // 100) - 1)]["duration_us"] if timed else None

    def summed(name: str) -> dict[str, Any]:
        known = [s[name] for s in statements if s[name] is not None]
        return {"sum": sum(known) if known else None, "known": len(known)}

    return {
        "statements": len(statements),
        "timed": len(timed),
        "p50_us": at(0.5),
        "p95_us": at(0.95),
        "most_us": at(1.0),
        "total_us": sum(s["duration_us"] for s in timed) if timed else None,
        "slowest": [
            {name: s[name] for name in ("index", "place", "command", "duration_us")} for s in timed[: -SLOWEST - 1 : -1]
        ],
        **{name: summed(name) for name in ("rows_returned", "rows_affected", "bytes_returned")},
    }


def _around(question: Question, viewer: Viewer, head: Mapping[str, Any]) -> dict[str, Any]:
    """The sessions before and after this one: of the same identity, and of the same database."""
    logins = question.snapshot.logins_about(head["who_id"])
    told = candidates.told(question, lambda look: neighbours.around(look, viewer, logins, head))
    if told is not None:
        return told
    scope, values = scoped(viewer, Window())
    here = "(started_at, session) {} (?, ?)"
    parts = ", ".join(
        f"arg_{most}(session, (started_at, session)) filter ({owner} and {here.format(sign)}) as {name}_{owner}"
        for name, most, sign in (("previous", "max", "<"), ("next", "min", ">"))
        for owner in ("own", "same")
    )
    place = [head["started_at"], head["session"]]
    found: dict[str, Any] = question.rows(
        f"select {parts} from (select session, min(occurred_at) as started_at, coalesce(bool_or(who_id = ?), false) as own, "  # noqa: S608
        f"coalesce(bool_or(datasource = ?), false) as same from activity where {scope} and session is not null "
        "and kind in ('session', 'query', 'change') and (who_id = ? or datasource = ?) group by session)",
        [*place * 4, head["who_id"], head["datasource"], *values, head["who_id"], head["datasource"]],
    )[0]
    return found
