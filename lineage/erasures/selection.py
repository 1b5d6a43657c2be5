"""What an erasure takes: which groups of which records, and the texts by which other places are searched."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from urllib.parse import unquote_plus

import msgspec
import pyarrow as pa

from lineage import commitment, errors, holds, rights, search, segments
from lineage.access import Viewer, is_open, viewer_of
from lineage.engine import Question
from lineage.erasures import covering
from lineage.events import GROUPS, Erased, Group, HeaderCount
from lineage.models import User
from lineage.queries import Window
from lineage.queries.ask import OWN, scoped

Taken = Mapping[int, tuple[Group, ...]]
VALUE_TERMS: dict[str, Group] = {
    "": "statement", "key": "statement", "text": "statement", "before": "statement", "after": "statement",
    "error": "statement", "actor": "actor", "for": "actor", "db_user": "actor", "ip": "actor", "ticket": "action",
    "purpose": "action",
}  # fmt: skip
"""Search fields whose value is a value of a record, with a group that holds it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What to take. Relative times in the query count from `at`; `received_before` is for what expires."""

    groups: tuple[Group, ...]
    query: str
    at: dt.datetime
    texts: tuple[str, ...] = ()
    since: dt.datetime | None = None
    until: dt.datetime | None = None
    received_before: dt.datetime | None = None
    quarantine: tuple[int, ...] = ()


def with_statement(groups: Iterable[str]) -> tuple[Group, ...]:
    """The groups in their order, and `statement` with them: it holds the unsalted hash of the item as received."""
    wanted = {*groups, "statement"}
    return tuple(group for group in GROUPS if group in wanted)


def select(viewer: Viewer, wanted: Wanted, as_of: int | None = None) -> tuple[Taken, int]:
    """Groups by record index, and the log size they are of.

    The records that match within the viewer's scope, those that hold one of the texts, and the store's own records of
    reads and findings that name one.
    """
    condition, values = _condition(viewer, wanted)
    scope, scope_values = _scope(viewer)
    with Question(as_of=as_of) as question:
        found = {row["index"] for row in question.rows(f"select index from activity where {condition}", values)}  # noqa: S608
        holding = sorted(set(segments.holding(wanted.texts, wanted.groups)) - found)
        question.cursor.register("holding", pa.table({"index": pa.array(holding, pa.int64())}))
        sql = f"select index from activity join holding using (index) where {scope}"  # noqa: S608
        found |= {row["index"] for row in question.rows(sql, scope_values)}
        taken: dict[int, tuple[Group, ...]] = dict.fromkeys(sorted(found), wanted.groups)
        taken.update(_own(question, sought(wanted)))
        return dict(sorted(taken.items())), question.size


def counts(taken: Taken) -> list[HeaderCount]:
    """How many records by source and class."""
    with Question(joined=False) as question:
        question.cursor.register("taken", pa.table({"index": pa.array(list(taken), pa.int64())}))
        counted = question.rows(
            "select source as source_id, class, count(*) as count from raw_events join taken using (index) "
            "group by all order by all"
        )
    return [HeaderCount(count=c["count"], source_id=c["source_id"], class_=c["class"]) for c in counted]


def unexpired(taken: Taken) -> Taken:
    """Of what expires, the part that is not held and has not gone before."""
    kept = set().union(*holds.among(taken).values())
    done = covering.erased_by(list(taken))
    return {
        index: groups
        for index, groups in taken.items()
        if index not in kept and any((index, group) not in done for group in groups)
    }


def _scope(viewer: Viewer) -> tuple[str, list[object]]:
    condition, values = scoped(viewer, Window())
    return f"{condition} and source <> '{OWN}'", values


def _condition(viewer: Viewer, wanted: Wanted) -> tuple[str, list[object]]:
    scope, values = scoped(viewer, Window(wanted.since, wanted.until))
    matching, more = search.to_sql(search.parse(wanted.query), "event", wanted.at)
    condition = f"{scope} and source <> '{OWN}' and ({matching})"
    if wanted.received_before:
        return f"{condition} and received_at < ?", [*values, *more, wanted.received_before]
    if not (wanted.query or wanted.since or wanted.until):
        # Only texts or quarantined items are named.
        return "false", []
    return condition, [*values, *more]


def sought(wanted: Wanted) -> tuple[str, ...]:
    """The values that the query names and the texts given: what must not stand in reads, quarantine and reports."""
    query = search.parse(wanted.query)
    named = [
        term.value
        for term in _positive(query.root)
        if term.value and VALUE_TERMS.get(term.name) in wanted.groups and not wanted.received_before
    ]
    return tuple(dict.fromkeys([*named, *wanted.texts]))


def _positive(node: search.Node | None) -> list[search.Term]:
    if node is None or isinstance(node, search.Not):
        return []
    if isinstance(node, search.Term):
        return [node]
    return [term for part in node.parts for term in _positive(part)]


def pattern(text: str) -> re.Pattern[str]:
    """Finds the text where it is not a part of a longer word."""
    before, after = (r"(?<!\w)" if text[0].isalnum() else ""), (r"(?!\w)" if text[-1].isalnum() else "")
    return re.compile(f"{before}{re.escape(text)}{after}", re.IGNORECASE)


def names_one(texts: Collection[str], *places: str | None) -> bool:
    """Whether one of the texts stands in one of the places, as it is or as an address writes it."""
    read = [form for place in places if place for form in (place, unquote_plus(place))]
    return any(pattern(text).search(form) for text in texts for form in read)


def _own(question: Question, texts: Sequence[str]) -> dict[int, tuple[Group, ...]]:
    """The store's own records that name one of the texts, and the groups in which they do: reads, what was set, what was found."""
    if not texts:
        return {}
    rows = question.rows(
        "select index, purpose, decision_subject, custody, statement, "  # noqa: S608 - our own name
        f"json_extract_string(decision, '$.transition') as transition from raw_events where source = '{OWN}' "
        "and (decision_type = 'evidence_read' and (purpose is not null or contains(decision_subject, '/')) "
        "or decision_type = 'configuration' or kind = 'custody' and custody_type not in ('heartbeat', 'count_commitment'))"
    )
    found: dict[int, tuple[Group, ...]] = {}
    for row in rows:
        places: dict[Group, Iterable[str]] = {
            "actor": [row["decision_subject"] or "", row["transition"] or ""],
            "action": [row["purpose"] or "", row["custody"] or "", *strings(row["custody"])],
            "statement": [row["statement"] or "", *strings(row["statement"])],
        }
        groups = tuple(group for group, words in places.items() if names_one(texts, *words))
        if groups:
            found[row["index"]] = groups
    return found


def strings(text: str | None) -> Iterator[str]:
    """The strings of a JSON text as they were before it was written; none of a text that is no JSON."""
    with contextlib.suppress(msgspec.DecodeError):
        waiting = [msgspec.json.decode(text or "null")]
        while waiting:
            one = waiting.pop()
            if isinstance(one, str):
                yield one
            elif isinstance(one, (list, dict)):
                waiting.extend([*one.values(), *one] if isinstance(one, dict) else one)


def spans(taken: Taken) -> list[Erased]:
    """The same as the longest spans of neighbours with the same groups."""
    found: list[Erased] = []
    for index in sorted(taken):
        last = found[-1] if found else None
        if last and last.last == index - 1 and last.groups == taken[index]:
            found[-1] = Erased(first=last.first, last=index, groups=last.groups)
        else:
            found.append(Erased(first=index, last=index, groups=taken[index]))
    return found


def digest(taken: Taken) -> bytes:
    """SHA-256 over the canonical JSON of the spans, each `[first, last, [group, …]]`."""
    return hashlib.sha256(commitment.canonical([[s.first, s.last, list(s.groups)] for s in spans(taken)])).digest()


def asker(email: str) -> Viewer:
    """Who asked, with today's scope. Raises AccessDenied when that person may no longer ask."""
    user = User.objects.filter(email__iexact=email, is_active=True).first()
    if user is None or not is_open(user) or not rights.may(viewer_of(user)):
        raise errors.AccessDenied(f"{email} may no longer ask for this.")
    return viewer_of(user)
