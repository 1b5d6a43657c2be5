"""What hangs together with a record, a ticket, a session or a row: acts of its transactions, and decisions on what they cite."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from lineage import errors
from lineage.access import Viewer
from lineage.engine import Question
from lineage.extracts import Indexes
from lineage.extracts.blocks import KEY, RELATION, TOUCHED, Content
from lineage.extracts.layers import Term
from lineage.extracts.looking import Lookup, Unable, Wanted, by_time
from lineage.extracts.postings import NOTHING, among
from lineage.extracts.terms import ACCESS
from lineage.queries import candidates, sought
from lineage.queries.ask import ACCESSES, Window, scoped
from lineage.queries.covering import coverage
from lineage.queries.people import bare
from lineage.queries.places import spellings

ACTS_MOST = 2_000
ACCESSED = TOUCHED.index("access")
Start = Literal["record", "ticket", "session", "row"]

COLUMNS = (
    "index event_id kind class op command occurred_at environment datasource source source_format who_id who_name who_type "
    "on_behalf_of agent_name agent_run db_user attribution attribution_index claimed purpose ticket session transaction_id "
    "outcome verdict relations rows_affected rows_returned statement redacted statement_state correlation_id flags key "
    "approval_request"
).split()
DECISIONS = (
    "index, occurred_at, source, flags, ticket, approval_request, decision_type, decided_by, who_id, approval, purpose"
)


SEEDS = ("index", "kind", "environment", "datasource", "session", "transaction_id", "ticket", "approval_request")
READ_MOST = 20_000
"""Of more records the whole log is asked."""
Row = dict[str, Any]
Find = Callable[[Lookup], Indexes]
Transaction = tuple[Any, Any, Any]
"""Environment, database and id."""


class Meant(NamedTuple):
    """A condition on records, in SQL with its values and in Python; look-ups find them all, beside others, within the scope."""

    sql: str
    values: list[Any]
    holds: Callable[[Row], bool]
    find: Find | None


class Seed(NamedTuple):
    """What is asked for. For a row also which changes are its own, and its table."""

    meant: Meant
    narrow: tuple[set[int], str] | None = None


def chain(viewer: Viewer, start: Start, *of: str) -> dict[str, Any]:
    """Acts (`acts`, oldest first, at most 2,000 of `total`), the keys that statements name (`keys`), and `decisions` on what
    they cite. `of` is an index, a ticket or request, a session key, or database, table and row key. Raises NotFound.
    """
    with Question() as question:
        seed = _seed(question, viewer, start, of)
        seeds = _read(question, viewer, seed.meant, SEEDS)
        # What a transaction did hangs together; a session and a ticket are whole by themselves.
        acts, total = _acts(question, viewer, seeds)
        acts = [act for act in acts if seed.narrow is None or _of_row(act, *seed.narrow)]
        decided = [row for row in seeds if row["kind"] == "decision"]
        cited = _cited(acts, start, of)
        cited |= {name for row in decided for name in (row["ticket"], row["approval_request"]) if name}
        if not acts and not decided:
            raise errors.NotFound
        return {
            "acts": [_shown(act, viewer) for act in acts],
            "total": total,
            "keys": _keys(question, [act["index"] for act in acts if act["kind"] == "query"]),
            "decisions": _decisions(question, viewer, sorted(cited)),
            "cited": sorted(cited),
            "as_of": question.size,
            "coverage": coverage(question, viewer, Window()),
        }


def _read(question: Question, viewer: Viewer, meant: Meant, columns: Sequence[str]) -> list[Row]:
    """These columns of the records in scope that are meant."""
    found = candidates.told(question, meant.find) if meant.find is not None else None
    if found is not None and len(found) <= READ_MOST:
        told = question.records(found, columns)
        if told is not None:
            return [row for row in told.values() if meant.holds(row)]
    scope, values = scoped(viewer, Window())
    sql = f"select {', '.join(columns)} from activity where {scope} and {meant.sql} order by index"  # noqa: S608 - our own words
    return question.rows(sql, [*values, *meant.values])


def _by(viewer: Viewer, terms: Sequence[Term]) -> Find:
    """The records in scope that have one of these terms."""
    asked = candidates.wanted(viewer, Window())
    return lambda look: look.newest(terms, asked, candidates.ALL) if asked else NOTHING


def _acts(question: Question, viewer: Viewer, seeds: Sequence[Row]) -> tuple[list[Row], int]:
    """The first accesses among these records and those in scope of their transactions, and how many there are."""
    transactions = {one for one in map(_transaction, seeds) if None not in one}
    indexes = {row["index"] for row in seeds}
    found = candidates.told(question, lambda look: _accesses(look, viewer, indexes, transactions))
    told = question.records(found[: ACTS_MOST + 1], COLUMNS) if found is not None else None
    # Else two terms have one hash.
    if told is None or any(
        row["index"] not in indexes and _transaction(row) not in transactions for row in told.values()
    ):
        return _acts_of_all(question, viewer, indexes, transactions)
    return list(told.values())[:ACTS_MOST], len(found) if found is not None else 0


def _transaction(row: Row) -> Transaction:
    return row["environment"], row["datasource"], row["transaction_id"]


def _accesses(look: Lookup, viewer: Viewer, indexes: set[int], transactions: set[Transaction]) -> Indexes:
    """Those of these records, and of these transactions, that are accesses in scope."""
    asked = candidates.wanted(viewer, Window(), ACCESS)
    if asked is None:
        return NOTHING
    found = [_kept(look, np.array(sorted(indexes), np.int64), asked)]
    for environment in {one[0] for one in transactions}:
        there = msgspec.structs.replace(asked, environments=frozenset({environment}))
        terms = [by_time("acted", *one[1:]) for one in sorted(transactions) if one[0] == environment]
        found.append(look.newest(terms, there, candidates.ALL))
    return np.unique(np.concatenate(found))


def _kept(look: Lookup, indexes: Indexes, asked: Wanted) -> Indexes:
    """Those of these records that are asked for."""
    found = [NOTHING]
    for layer in look.layers:
        there = layer.directory(indexes[~among(indexes, layer.hidden)])
        found.append(there.indexes[asked.mask(layer, look.size)(there)])
    return np.unique(np.concatenate(found))


def _acts_of_all(
    question: Question, viewer: Viewer, indexes: set[int], transactions: set[Transaction]
) -> tuple[list[Row], int]:
    """The same of the whole log."""
    if transactions:
        scope, values = scoped(viewer, Window())
        rows = question.rows(
            f"select index, environment, datasource, transaction_id from activity where {scope} and transaction_id in (select unnest(?))",  # noqa: S608
            [*values, sorted({one[2] for one in transactions})],
        )
        indexes = indexes | {row["index"] for row in rows if _transaction(row) in transactions}
    where, of = f"from activity where index in (select unnest(?)) and {ACCESSES}", [sorted(indexes)]
    acts = question.rows(f"select {', '.join(COLUMNS)} {where} order by index limit {ACTS_MOST + 1}", of)
    if len(acts) <= ACTS_MOST:
        return acts, len(acts)
    return acts[:ACTS_MOST], question.rows(f"select count(*) as n {where}", of)[0]["n"]


def _seed(question: Question, viewer: Viewer, start: Start, of: tuple[str, ...]) -> Seed:
    """Raises NotFound where it is of something else than an access, a decision, or a change of a row."""
    if start == "ticket":
        return _of_ticket(viewer, of[0])
    if start == "session":
        find = _by(viewer, [by_time("session", of[0])])
        return Seed(Meant("session = ?", [of[0]], lambda row: row["session"] == of[0], find))
    if start == "record":
        return _of_record(question, viewer, int(of[0]))
    datasource, relation, key = of
    own = _changes(question, viewer, datasource, spellings(relation), key)
    if not own:
        raise errors.NotFound("No change of this row is in your scope. Its page says who could have read it.")
    return Seed(_these(sorted(own)), (own, relation))


def _these(indexes: list[int]) -> Meant:
    some = np.array(indexes, np.int64)
    return Meant("index in (select unnest(?))", [indexes], lambda _: True, lambda _: some)


def _of_record(question: Question, viewer: Viewer, index: int) -> Seed:
    asked = candidates.wanted(viewer, Window())
    some = np.array([index] if index < question.size else [], np.int64)
    one = _these(some.tolist())._replace(find=lambda look: _kept(look, some, asked) if asked else NOTHING)
    found = _read(question, viewer, one, ("kind", "ticket", "approval_request", "correlation_id", "source", "index"))
    if not found or found[0]["kind"] not in ("query", "change", "decision"):
        raise errors.NotFound("There is no access and no decision of this number in your scope, so it has no lineage.")
    cited = found[0]["approval_request"] or found[0]["ticket"]
    if found[0]["kind"] == "decision" and cited:
        return _of_ticket(viewer, cited)
    source, call = found[0]["source"], found[0]["correlation_id"]
    if call is None:
        return Seed(one)
    # pgAudit writes a line for each table of one statement.
    condition = "(index = ? or (source = ? and correlation_id = ?))"
    return Seed(Meant(condition, [index, source, call], lambda _: True, None))


def _changes(question: Question, viewer: Viewer, datasource: str, relations: list[str], key: str) -> set[int]:
    """The newest changes of a row in scope, at most 2,000."""
    find = _by(viewer, [by_time("row", datasource, name, "changed", key) for name in relations])

    def is_own(content: Content, database: int) -> bool:
        row, touches = content
        own = ((touch[n] for n in (RELATION, KEY, ACCESSED)) for touch in touches)
        return row[database] == datasource and any(
            relation in relations and named == key and access == "changed" for relation, named, access in own
        )

    def tell(look: Lookup) -> set[int]:
        newest = np.unique(find(look))[-ACTS_MOST:]
        contents = look.contents(newest)
        if len(contents) < len(newest) or not all(is_own(one, look.columns.index("datasource")) for one in contents):
            raise Unable
        return set(newest.tolist())

    told = candidates.told(question, tell)
    if told is not None:
        return told
    scope, values = scoped(viewer, Window())
    rows = question.rows(
        "select distinct index from touches where datasource = ? and list_contains(?, relation) and access = 'changed' "  # noqa: S608
        f"and key = ? and {scope} order by index desc limit {ACTS_MOST}",
        [datasource, relations, key, *values],
    )
    return {row["index"] for row in rows}


def _of_ticket(viewer: Viewer, cited: str) -> Seed:
    find = _by(viewer, [by_time(kind, cited) for kind in ("cited", "leave")])
    return Seed(
        Meant(
            "(ticket = ? or approval_request = ?)", [cited, cited],
            lambda row: cited in (row["ticket"], row["approval_request"]), find,
        )
    )  # fmt: skip


def _of_row(act: dict[str, Any], indexes: set[int], relation: str) -> bool:
    """For one row: its own changes, and the writing statements of their transactions on its table."""
    if act["kind"] == "change":
        return act["index"] in indexes
    return act["class"] == "write" and bare(relation) in {bare(name) for name in act["relations"] or ()}


def _cited(acts: list[dict[str, Any]], start: Start, of: tuple[str, ...]) -> set[str]:
    found = {name for act in acts for name in (act["ticket"], act["approval_request"]) if name}
    return found | ({of[0]} if start == "ticket" and acts else set())


def _shown(act: dict[str, Any], viewer: Viewer) -> dict[str, Any]:
    redacted = act.pop("redacted")
    return act if viewer.sees_values else act | {"statement": redacted}


NAMED = ("relation", "key", "access", "provenance")


def _keys(question: Question, indexes: list[int]) -> list[dict[str, Any]]:
    """The rows that statements themselves name: by condition (parsed) or because the gateway saw them (reported)."""
    if not indexes:
        return []
    told = candidates.told(question, lambda look: _named(look, indexes))
    if told is not None:
        return told
    return question.rows(
        f"select distinct index, {', '.join(NAMED)} from raw_touches where key is not null and relation is not null "  # noqa: S608
        f"and index in ({', '.join(map(str, indexes))}) order by all limit {ACTS_MOST}"
    )


def _named(look: Lookup, indexes: list[int]) -> list[dict[str, Any]]:
    """The same of cards."""
    place, members = look.columns.index("index"), [TOUCHED.index(name) for name in NAMED]
    contents = look.contents(np.array(indexes, np.int64))
    if len(contents) < len(set(indexes)):
        raise Unable
    found = {(row[place], *(touch[member] for member in members)) for row, touches in contents for touch in touches}
    # What is not known comes last.
    some = sorted((one for one in found if None not in one[:3]), key=lambda one: [(each is None, each) for each in one])
    return [dict(zip(("index", *NAMED), one, strict=True)) for one in some[:ACTS_MOST]]


def _decisions(question: Question, viewer: Viewer, cited: list[str]) -> list[dict[str, Any]]:
    """Decisions on tickets and requests that acts in scope cite. Who names no database is put in scope by what cites it."""
    found = candidates.told(question, lambda look: candidates.decisions(look, viewer, cited)[0]) if cited else NOTHING
    if found is not None and not len(found):
        return []
    scope, values = scoped(viewer, Window())
    with sought.among(question, found) if found is not None else contextlib.nullcontext("true") as few:
        rows = question.rows(
            f"select {DECISIONS} from activity where {few} and kind = 'decision' "  # noqa: S608 - our own words
            "and (list_contains(?, ticket) or list_contains(?, approval_request)) "
            f"and not list_contains(flags, 'unauthorised_assertion') and (({scope}) or datasource is null) "
            "order by occurred_at, index limit 200",
            [cited, cited, *values],
        )
    return [row | {"approval": msgspec.json.decode(row["approval"]) if row["approval"] else {}} for row in rows]
