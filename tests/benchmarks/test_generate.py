"""The made history that speed is measured on: always the same, whole after a kill, refused where it has no room."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks import _history, _peers, _questions, generate
from benchmarks._history import Plan
from benchmarks._questions import Drawn
from lineage import commitment, ledger, queries, segments, tree
from lineage.access import Viewer
from lineage.events import Event

PLAN = Plan(2_600, chunk=1_000)
FULL = Plan(400, shape="full", chunk=400)
AUDITOR = Viewer("alice@audit.example", "auditor")


def told(leaf: bytes, groups: dict[str, bytes | None]) -> tuple[Any, dict[str, bytes | None]]:
    """What a record says, but for what salts make of it."""
    members = msgspec.json.decode(leaf)
    return members | {"groups": sorted(members["groups"])}, groups


def meant(plan: Plan) -> list[Any]:
    salts = commitment.new_salts()
    return [told(*commitment.commit(event, salts)) for _, events in _history.all_of(plan) for event in events]


def test_the_same_plan_gives_the_same_history_and_another_seed_another() -> None:
    first, again = [list(_history.all_of(FULL)) for _ in range(2)]
    assert first == again
    assert first != list(_history.all_of(Plan(400, shape="full", chunk=400, seed=8)))


@pytest.mark.parametrize("plan", [PLAN, FULL], ids=["lean", "full"])
def test_a_history_has_as_many_records_as_were_asked_for_with_denials_changes_and_all_three_sources(plan: Plan) -> None:
    made = list(_history.all_of(plan))
    events = [event for _, each in made for event in each]
    assert len(events) == plan.events == len({event.event_id for event in events})
    assert {source for source, each in made if each} == set(_history.SOURCES)
    assert 0.005 < Counter(event.verdict for event in events)["blocked"] / plan.events < 0.04
    texts = [event.statement.text or "" for event in events if event.statement]
    if plan.shape == "full":
        assert 40 < min(map(len, texts)) < 200 < 2_000 < max(map(len, texts)) < 4_500
        assert max(len(event.after) for event in events) > 20


def test_a_history_that_was_cut_off_is_whole_once_it_was_resumed_and_every_change_has_its_person(store: str) -> None:
    # Between two sources of the second chunk.
    cut_off = generate.appended(PLAN)
    for _ in range(4):
        next(cut_off)
    cut_off.close()
    stages = generate.Stages()
    generate.tidy(stages, lambda: True)
    assert 0 < segments.sealed_to() < PLAN.events
    for _ in generate.appended(PLAN):
        pass
    generate.tidy(stages, lambda: True)
    assert tree.head() == segments.sealed_to() == PLAN.events
    assert sorted(stages.cpu) == ["checkpoint", "extract", "merge", "seal"]
    assert [told(r.leaf, r.groups) for r in segments.records(range(PLAN.events))] == meant(PLAN)
    assert list(generate.appended(PLAN)) == []
    population = queries.population(AUDITOR, PLAN.until.replace(year=2025), PLAN.until)
    strengths = Counter(
        row["attribution"] for batch in population for row in batch.to_pylist() if row["kind"] == "change"
    )
    assert set(strengths) == {"gateway", "db_login"}


def test_a_folder_takes_one_history_and_only_where_it_has_room(tmp_path: Path) -> None:
    generate.agree(tmp_path, PLAN)
    generate.agree(tmp_path, PLAN)
    with pytest.raises(generate.NotPossible, match="holds the history"):
        generate.agree(tmp_path, Plan(2_601, chunk=1_000))
    (tmp_path / "other").mkdir()
    with pytest.raises(generate.NotPossible, match=r"need .* GiB more"):
        generate.agree(tmp_path / "other", Plan(10**15))
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "mine").touch()
    with pytest.raises(generate.NotPossible, match="something else"):
        generate.agree(tmp_path / "third", PLAN)
    with pytest.raises(generate.NotPossible, match="no made history"):
        generate.planned(tmp_path / "third")
    assert generate.room(PLAN, taken_bytes=10**9) < generate.room(PLAN)


@pytest.mark.parametrize("plan", [PLAN, FULL], ids=["lean", "full"])
def test_what_lookups_count_is_what_the_history_holds(plan: Plan, store: str, tmp_path: Path) -> None:
    for _ in generate.appended(plan):
        pass
    generate.tidy(generate.Stages(), lambda: True)
    lookups, truth = _questions.ours(), Truth(plan)
    for drawn in _questions.draw(plan, 3):
        counted = {name: lookups[name](drawn) for name in truth.counts(drawn)}
        assert counted == truth.counts(drawn)
        assert min(counted.values()) > 0
    if plan.shape == "lean":
        peers_are_loaded_anew_when_sources_told_more(plan.events, tmp_path)


def peers_are_loaded_anew_when_sources_told_more(size: int, folder: Path) -> None:
    assert _peers.export(folder) == size
    ledger.record_decision("evidence_read", decided_by=AUDITOR.email, subject="/search")
    assert _peers.export(folder) == size, "what the store says of itself is in no lookup"
    (folder / "peers/exported.json").write_text(str(size - 1))
    assert _peers.export(folder) == size + 1


class Truth:
    """What a history holds, read off its events without the store."""

    def __init__(self, plan: Plan) -> None:
        self.events = [event for _, each in _history.all_of(plan) for event in each]
        self.by = {
            (e.datasource, e.transaction.id): e.actor for e in self.events if e.kind == "query" and e.transaction
        }
        self.sessions = {
            (e.datasource, e.transaction.id): e.session_id or e.db_session_id
            for e in self.events if e.kind == "query" and e.transaction
        }  # fmt: skip

    def _transaction(self, event: Event) -> tuple[str | None, str | None]:
        return event.datasource, event.transaction.id if event.transaction else None

    def _who(self, event: Event) -> str | None:
        actor = event.actor or self.by.get(self._transaction(event))
        return (actor.id or actor.db_user) if actor else None

    def _session(self, event: Event) -> str:
        session = event.session_id or event.db_session_id or self.sessions[self._transaction(event)]
        return f"{event.datasource}~{session}"

    def _reads(self, event: Event, drawn: Drawn) -> bool:
        """Whether its text reads this row by its key."""
        text = event.statement.text or "" if event.statement else ""
        name = re.escape(drawn.relation)
        met = re.match(rf"select .* from {name} where id = (\$?)(\d+)( and .*)?$", text)
        if met is None or event.datasource != drawn.datasource or event.verdict == "blocked":
            return False
        return (event.parameters[int(met[2]) - 1].value if met[1] else met[2]) == drawn.key

    def _changes(self, event: Event, drawn: Drawn) -> bool:
        here = event.kind == "change" and event.datasource == drawn.datasource and event.key[0].value == drawn.key
        return here and f"public.{event.resources[0].relation}" == drawn.relation

    def counts(self, drawn: Drawn) -> dict[str, int]:
        def within(event: Event, days: int) -> bool:
            at = dt.datetime.fromisoformat(event.occurred_at or "")
            return drawn.until - dt.timedelta(days=days) <= at < drawn.until

        accesses = [e for e in self.events if e.kind in ("query", "change")]
        return {
            "row history": sum(self._changes(e, drawn) or self._reads(e, drawn) for e in accesses),
            "identity, last 50": sum(self._who(e) == drawn.identity for e in accesses),
            "session timeline": sum(self._session(e) == drawn.session for e in self.events),
            "text, a month": sum(
                drawn.text in (e.statement.text or "") for e in accesses if e.statement and within(e, 30)
            ),
            "dashboard, 90 days": sum(e.kind == "query" and within(e, 90) for e in accesses),
        }
