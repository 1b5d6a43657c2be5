"""A dry run judges what was recorded by the gateway's own code, in the reader's scope, and says what it cannot know."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
import pytest

from lineage import errors, ingest, ledger, queries
from lineage.access import Viewer
from lineage.events import Event
from lineage.guardrails import DEFAULT, Guardrails, load
from lineage.models import DeclaredCatalog, Gateway, GatewayDatabase, Source, Tag
from lineage.queries import Shift, Trial
from tests import story

pytestmark = pytest.mark.slow

ALL = Viewer(email="audit@example.test", role="auditor")
STRANGER = Viewer(email="x@other.test", role="auditor", datasources=("elsewhere",))
NOTHING = load("")
STRICT = load("""
[[rule]]
id = "no-unconditional"
outcome = "block"
verbs = ["delete", "update"]
unconditional = true
[[rule]]
id = "agents-ask"
outcome = "approve"
who = ["agent"]
verbs = ["update", "delete"]
[[rule]]
id = "few-addresses"
outcome = "limit"
verbs = ["read"]
classes = ["email"]
rows_over = 10
[[rule]]
id = "schema-qualified"
outcome = "mask"
classes = ["phone"]
[[rule]]
id = "no-other-schema"
outcome = "block"
relations = ["audit.*"]
""")


@pytest.fixture
def told(store: str) -> dict[str, int]:
    """Statements by name with their records."""
    at = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    desk, gate = story.source(), Source.objects.create(name="gate", format="gateway", environment="production")
    items: list[dict[str, Any]] = [
        story.query("wide", at, story.DANA, "DELETE FROM public.orders", "delete", verdict="blocked"),
        story.query("keyed", at, story.DANA, "DELETE FROM public.orders WHERE id = 1", "delete"),
        story.query("asked", at, story.BOT, "UPDATE public.orders SET note = NULL WHERE id = 1", "update",
                    on_behalf_of={"id": "dana@shop.example"}, verdict="approved"),
        story.query("few", at, story.DANA, "SELECT email FROM customers WHERE id = 1", "read", rows={"returned": 1}),
        story.query("many", at, story.DANA, "SELECT email FROM customers", "read", rows={"returned": 400}),
        story.query("phone", at, story.OMAR, "SELECT phone FROM public.customers WHERE id = 2", "read"),
        story.query("odd", at, {"id": "x", "db_user": "x"}, "SELECT 1 FROM nowhere", "read"),
        story.query("broken", at, story.DANA, "SELEC 1", "procedural", verdict="error"),
        {**story.query("blind", at, story.DANA, "x y", "read"), "statement": {"sha256": "00", "state": "withheld"}},
    ]  # fmt: skip
    names = [item["source_event_id"] for item in items]
    found = dict(zip(names, story.send(desk, *items), strict=True))
    declared = GatewayDatabase.objects.create(
        gateway=Gateway.objects.create(source=gate, name="gw", seen_at=at), name="shop", datasource="orders-prod",
        environment="production",
    )  # fmt: skip
    columns = [{"name": "id"}, {"name": "email", "classes": ["email"]}, {"name": "phone"}]
    DeclaredCatalog.objects.create(
        database=declared, relations=[{"schema": "public", "name": "customers", "columns": columns}]
    )
    Tag.objects.create(
        datasource="orders-prod", relation="public.customers", column="phone", classes=["phone"], by="sec@shop.example"
    )
    return found


def tried(rules: Guardrails = STRICT, current: Guardrails = NOTHING, viewer: Viewer = ALL, **more: Any) -> Trial:
    return queries.dry_run(viewer, rules, current, **more)


def shifts(found: list[Shift]) -> dict[str, tuple[int, set[int]]]:
    return {f"{s.before} to {s.after}": (s.count, {row["index"] for row in s.examples}) for s in found}


def test_each_rule_is_counted_and_what_would_change_is_named_with_examples(told: dict[str, int]) -> None:
    trial = tried()
    assert (trial.judged, trial.of.value, trial.stopped) == (8, 8, "")
    assert {(line.rule, line.outcome): (line.count, line.over) for line in trial.lines} == {
        ("no-unconditional", "block"): (1, 0), ("agents-ask", "approve"): (1, 0), ("few-addresses", "limit"): (2, 1),
        ("schema-qualified", "mask"): (2, 0), ("", "allow"): (2, 0),
    }  # fmt: skip
    now = shifts(trial.from_current)
    assert now["allow to block"] == (1, {told["wide"]})
    assert now["allow to approve"] == (1, {told["asked"]})
    assert now["allow to limit"] == (1, {told["many"]}), "a limit that the recorded rows keep changes nothing"
    recorded = shifts(trial.from_recorded)
    assert "block to block" not in recorded
    assert told["wide"] not in set().union(*(indexes for _, indexes in recorded.values())), "it was blocked then too"
    assert told["asked"] not in set().union(*(indexes for _, indexes in recorded.values()))
    assert recorded["allow to limit"] == (1, {told["many"]})
    (example,) = trial.from_current[0].examples
    assert (example["rule"], example["who_name"]) == ("no-unconditional", "Dana Reyes")
    assert "without a condition" in example["sentence"]


def test_the_rules_that_hold_change_nothing_against_themselves(told: dict[str, int]) -> None:
    assert tried(DEFAULT, DEFAULT).from_current == []
    milder = tried(NOTHING, STRICT)
    assert shifts(milder.from_recorded)["block to allow"] == (1, {told["wide"]})
    assert not any(shift.is_graver for shift in milder.from_current)


def test_what_cannot_be_known_is_said_with_numbers(told: dict[str, int]) -> None:
    unknown = {sentence.split(",")[0]: count for sentence, count in tried().unknown}
    assert unknown["hold no text of their statement and are not judged"] == 1
    assert unknown["come from an actor of unknown kind"] == 1
    assert unknown["name a table whose schema cannot be told"] == 1
    DeclaredCatalog.objects.all().delete()
    later = dict(tried().unknown)
    assert later["are of a database whose columns no gateway has declared: no class is known"] == 8


def test_it_keeps_to_scope_time_search_and_number(told: dict[str, int]) -> None:
    assert tried(viewer=STRANGER).of.value == 0
    past = queries.Window(until=dt.datetime.now(dt.UTC) - dt.timedelta(hours=2))
    assert tried(window=past).judged == 0
    assert tried(q="op:delete").judged == 2
    some = tried(most=3)
    assert (some.judged, some.of.value, some.stopped) == (3, 8, "number")
    assert {line.rule for line in some.lines} <= {"", "schema-qualified"}, "the newest ones"


def test_a_trial_that_takes_longer_than_a_question_may_is_refused(told: dict[str, int], settings: Any) -> None:
    settings.QUERY_SECONDS = 0.0001
    with pytest.raises(errors.QueryTooLong):
        tried()


def test_one_act_that_gateway_and_log_tell_of_is_judged_once(told: dict[str, int]) -> None:
    gate = Source.objects.get(name="gate")
    log = Source.objects.create(
        name="log", format="postgres-csvlog", environment="production", datasource="orders-prod"
    )
    at = dt.datetime.now(dt.UTC)
    for source, form in ((gate, "gw-1"), (log, None)):
        told_by = story.query(f"twice-{source.name}", at, story.DANA, "DELETE FROM public.orders", "delete",
                              db_session_id="s-9", datasource="orders-prod", correlation_id=f"{source.name}/1.1")  # fmt: skip
        entry = ingest.admit(source, msgspec.convert(told_by | ({"session_id": form} if form else {}), Event))
        assert isinstance(entry, ledger.Entry)
        ledger.append(source.pk, [entry])
    assert tried().judged == 9
