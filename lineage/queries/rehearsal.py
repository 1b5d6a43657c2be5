"""Guardrails tried on what was recorded: what they would have said to the statements of a time (docs/guardrails.md).

Judged from the records alone, newest first, in bounded time and number. What a record does not hold cannot be known: the
catalog of then, the views and functions behind a text, estimates of rows.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from django.conf import settings

from lineage import statements
from lineage.access import Viewer
from lineage.engine import Question
from lineage.guardrails import Asked, Decision, Guardrails, Touch, decide
from lineage.queries import declared
from lineage.queries.ask import TWICE, Coverage, Total, Window, searched
from lineage.queries.covering import coverage
from lineage.statements import Effect, Part

TRIAL_MOST = 20_000
AT_ONCE = 500
EXAMPLES = 5
GRAVITY = {"allow": 0, "mask": 1, "limit": 2, "approve": 3, "block": 4}
RECORDED = {"blocked": "block", "approved": "approve", "pending": "approve", "masked": "mask"}
"""What a recorded verdict is called among outcomes; any other let the statement run."""
NEEDED = (
    "index, occurred_at, environment, datasource, database, who_id, who_name, who_type, who_email, roles, on_behalf_of, agent_name, "
    "db_user, purpose, ticket, verdict, op, command, relations, rows_returned, rows_affected, statement, statement_state, parameters"
)
SHOWN = ("index", "occurred_at", "environment", "datasource", "who_id", "who_name", "who_type", "on_behalf_of", "agent_name",
         "op", "command", "relations", "verdict")  # fmt: skip
STATEMENTS = f"kind = 'query' and emitted is null and not list_contains(flags, 'canary') and not {TWICE}"


class Line(msgspec.Struct):
    """How often a rule decided (no rule: nothing matched). `over`: of those with a cap, how many had more rows."""

    rule: str
    outcome: str
    count: int = 0
    over: int = 0


class Shift(msgspec.Struct):
    """Statements to which the answer would be another one, the first of them as examples."""

    before: str
    after: str
    count: int = 0
    examples: list[dict[str, Any]] = []

    @property
    def is_graver(self) -> bool:
        return GRAVITY[self.after] > GRAVITY[self.before]


class Trial(msgspec.Struct):
    """What the rules would have said. `judged` of `of` statements; `stopped` is "", "number" or "time".

    `from_current` compares with what `current` says to the same statement, `from_recorded` with what was recorded; both
    hold only what differs. `unknown` says what could not be known, each with how many statements it concerns.
    """

    version: int
    current: int
    judged: int
    of: Total
    stopped: str
    lines: list[Line]
    from_current: list[Shift]
    from_recorded: list[Shift]
    unknown: list[tuple[str, int]]
    as_of: int
    coverage: list[Coverage]


class _Tally:
    """What is counted while statements are judged."""

    def __init__(self) -> None:
        self.judged = 0
        self.lines: dict[tuple[str, str], Line] = {}
        self.shifts: dict[str, dict[tuple[str, str], Shift]] = {"current": {}, "recorded": {}}
        self.unknown: Counter[str] = Counter()

    def add(self, row: dict[str, Any], said: Decision, outcome: str, current: str) -> None:
        self.judged += 1
        line = self.lines.setdefault((said.rule, said.outcome), Line(said.rule, said.outcome))
        line.count += 1
        line.over += said.rows_over is not None and (_rows(row) or 0) > said.rows_over
        for name, before in (("current", current), ("recorded", RECORDED.get(row["verdict"] or "", "allow"))):
            if before == outcome:
                continue
            shift = self.shifts[name].setdefault((before, outcome), Shift(before, outcome, 0, []))
            shift.count += 1
            if len(shift.examples) < EXAMPLES:
                shift.examples.append(
                    {name: row[name] for name in SHOWN} | {"rule": said.rule, "sentence": said.sentence}
                )

    def sorted_shifts(self, name: str) -> list[Shift]:
        return sorted(self.shifts[name].values(), key=lambda s: (not s.is_graver, -GRAVITY[s.after], -s.count))


def dry_run(
    viewer: Viewer,
    rules: Guardrails,
    current: Guardrails,
    q: str = "",
    window: Window = Window(),
    most: int = TRIAL_MOST,
) -> Trial:
    """What `rules` would have said to the statements in scope, against `current` and against what was recorded.

    Stops after `most` statements, or half of the time that a question may take. Raises QueryInvalid and QueryTooLong.
    """
    condition, values = searched(viewer, q, window, "event")
    until, tally = time.monotonic() + settings.QUERY_SECONDS / 2, _Tally()
    known, stopped = declared.catalogs(viewer), ""
    with Question() as question:
        counted = question.rows(
            f"select count(distinct coalesce(correlation_id, event_id)) filter (statement is not null) as n, "  # noqa: S608
            f"count(*) filter (statement is null) as without from activity where {condition} and {STATEMENTS}",
            values,
        )[0]
        chosen = question.rows(
            f"select min(index) as index, list_distinct(flatten(list(relations))) as relations from activity "  # noqa: S608
            f"where {condition} and {STATEMENTS} and statement is not null group by coalesce(correlation_id, event_id) "
            f"order by index desc limit {int(most)}",
            values,
        )
        tally.unknown["hold no text of their statement and are not judged"] = counted["without"]
        for row in _read(question, chosen):
            if time.monotonic() > until:
                stopped = "time"
                break
            asked = _asked(row, known, tally.unknown)
            said = decide(rules, asked)
            tally.add(row, said, _effective(said, row), _effective(decide(current, asked), row))
        stopped = stopped or ("number" if tally.judged < counted["n"] else "")
        return Trial(
            rules.version, current.version, tally.judged, Total(counted["n"], True), stopped,
            sorted(tally.lines.values(), key=lambda line: (-GRAVITY[line.outcome], -line.count)),
            tally.sorted_shifts("current"), tally.sorted_shifts("recorded"),
            [(sentence, count) for sentence, count in tally.unknown.most_common() if count],
            question.size, coverage(question, viewer, window),
        )  # fmt: skip


def _read(question: Question, chosen: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The statements, a few at a time: only the chosen indexes are held whole."""
    for start in range(0, len(chosen), AT_ONCE):
        some = chosen[start : start + AT_ONCE]
        indexes = ", ".join(str(int(row["index"])) for row in some)
        rows = question.rows(f"select {NEEDED} from activity where index in ({indexes})")  # noqa: S608 - integers
        found = {row["index"]: row for row in rows}
        for row in some:
            yield found[row["index"]] | {"relations": row["relations"]}


def _rows(row: dict[str, Any]) -> int | None:
    known = [row[name] for name in ("rows_returned", "rows_affected") if row[name] is not None]
    return max(known, default=None)


def _effective(said: Decision, row: dict[str, Any]) -> str:
    """The outcome for this statement: a limit that the recorded rows keep is none."""
    rows = _rows(row)
    is_kept = said.outcome == "limit" and rows is not None and said.rows_over is not None and rows <= said.rows_over
    return "mask" if is_kept and said.mask else "allow" if is_kept else said.outcome


def _asked(row: dict[str, Any], known: declared.Catalogs, unknown: Counter[str]) -> Asked:
    """The statement as the rules are asked about it, from what the record holds."""
    cut = row["statement_state"] == "truncated"
    given = tuple(one.get("value") for one in msgspec.json.decode(row["parameters"] or "[]"))
    parts = () if cut else statements.analyse_each(row["statement"], given)
    effects = [effect for part in parts for effect in part.statement.effects if effect.verb]
    opaque = cut or any(part.statement.opaque for part in parts)
    reasons = (
        ["the record holds only its beginning"] if cut else [p.statement.reason for p in parts if p.statement.reason]
    )
    touches = tuple(_touch(effect, row, known) for effect in effects)
    unknown["were cut in the record and count as not understood"] += cut
    unknown["come from an actor of unknown kind, whom no condition `who` matches"] += row["who_type"] == "unknown"
    unknown["name a table whose schema cannot be told"] += any(t.relation and not t.schema for t in touches)
    unknown["are of a database whose columns no gateway has declared: no class is known"] += not known.knows(
        row["datasource"]
    )
    return Asked(
        actor_id=row["who_id"] or "", actor_type=row["who_type"], actor_email=row["who_email"], roles=tuple(row["roles"] or ()),
        on_behalf_of=row["on_behalf_of"], environment=row["environment"] or "", datasource=row["datasource"] or "",
        database=row["database"] or "", account=row["db_user"] or "", purpose=row["purpose"], ticket=row["ticket"],
        commands=_commands(parts) or ((row["command"],) if row["command"] else ()),
        touches=touches, opaque=opaque, reason="; ".join(reasons) or None,
        weakens=tuple(phrase for part in parts for phrase in part.statement.weakens),
    )  # fmt: skip


def _commands(parts: Sequence[Part]) -> tuple[str, ...]:
    """Tags, finer names and calls, as the gateway names them to the rules."""
    named = [(part.tag, *part.commands, *(f"CALL {name}" for name in part.statement.calls)) for part in parts]
    return tuple(dict.fromkeys(name for names in named for name in names if name))


def _touch(effect: Effect, row: dict[str, Any], known: declared.Catalogs) -> Touch:
    """One effect with the schema that the source reported, or the only one in the declared catalog that has such a table."""
    schema, certainty = effect.schema, "exact"
    if schema is None and effect.relation:
        reported = {
            name.rpartition(".")[0] for name in row["relations"] or () if name.rpartition(".")[2] == effect.relation
        }
        found = {name for name in reported if name} or known.schemas(row["datasource"], effect.relation)
        schema = next(iter(found)) if len(found) == 1 else None
        certainty = "exact" if reported == found and schema else "assumed"
    columns = (*effect.columns, *effect.written, *effect.possible)
    return Touch(
        effect.verb, row["database"] or "", schema, effect.relation, None, effect.columns, effect.written,
        len(effect.keys) if effect.keys is not None else None, certainty,  # type: ignore[arg-type]
        known.classes(row["datasource"], schema, effect.relation, columns), effect.unconditional,
    )  # fmt: skip
