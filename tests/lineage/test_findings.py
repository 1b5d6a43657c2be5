"""Findings: each rule finds what it says and nothing else; each is kept once, in scope, with what people said of it."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
import time_machine
from django.test import Client

from lineage import access, checkpoints, errors, ingest, ledger, queries, segments, tagging
from lineage.access import Viewer
from lineage.events import Decision, Event
from lineage.finding_models import Finding, FindingProgress, FindingRules
from lineage.findings import judging, rules, ruling, triage
from lineage.models import ApiToken, Source
from tests import story

pytestmark = pytest.mark.slow

NOW = dt.datetime.now(dt.UTC)
ALL = Viewer("audit@example.test", "auditor")
SIGRID = Viewer("sigrid@example.test", "security")
OPERATOR = Viewer("ops@example.test", "operator")
COMPLIANCE = Viewer("cora@example.test", "compliance")
STRANGER = Viewer("x@else.example", "security", ("elsewhere",))
LATER = dt.timedelta(seconds=10)


def at(minutes: float) -> dt.datetime:
    return NOW - dt.timedelta(minutes=60 - minutes)


def by_rule(viewer: Viewer = ALL, **more: Any) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for item in queries.findings(viewer, **more).items:
        found.setdefault(item["rule"], []).append(item)
    return found


def judge() -> None:
    judging.judge(dt.datetime.now(dt.UTC) + LATER)


def coverage_soon() -> list[tuple[str, str, list[str]]]:
    """How complete each source is when the judge's time has come, too."""
    with time_machine.travel(dt.datetime.now(dt.UTC) + 2 * LATER):
        answer = queries.events(ALL, "", limit=1)
    return [(c.source, c.state, [span.state for span in c.spans]) for c in answer.coverage]


def numbered(rule: str) -> int:
    (one,) = by_rule()[rule]
    assert isinstance(one["number"], int)
    return one["number"]


def tell_story() -> dict[str, int]:
    desk = story.source()
    tagging.establish(SIGRID, "orders-prod", "public.customers", "email", "email", "addresses")
    omar, dana, bot = story.OMAR, story.DANA, story.BOT
    deny = {"verdict": "blocked", "error": {"code": "42501"}}
    indexes = story.send(
        desk,
        story.query("u1", at(1), omar, "update payments set state = 'x'", "update", rows={"affected": 40}),
        story.query("u2", at(1), omar, "update payments set state = 'x' where id = 3", "update", rows={"affected": 1}),
        story.query("u3", at(1), omar, "delete from payments where id > 3", "delete", rows={"affected": 1000}),
        story.query("s1", at(2), dana, "select email from public.customers", "read", rows={"returned": 100}),
        story.query("s2", at(2), dana, "select email from public.customers", "read", rows={"returned": 99}),
        story.query("s3", at(2), dana, "select * from payments", "read", rows={"returned": 999}),
        story.query("d1", at(5), dana, "select * from salaries", "read", **deny),
        story.query("d2", at(19), dana, "select * from salaries", "read"),
        story.query("d3", at(25), dana, "select * from salaries", "read"),
        story.query("d4", at(6), omar, "select * from salaries", "read"),
        story.query("x1", at(7), omar, "create table extra (id int)", "ddl", **{"class": "ddl"}),
        story.query("g1", at(7), omar, "grant select on payments to dana", "privilege", **{"class": "privilege"}),
        story.query("t1", at(8), omar, "truncate payments", "truncate"),
        story.query("a1", at(9), bot, "delete from payments where id = 1", "delete", on_behalf_of={"id": "dana@shop.example"}),
        story.query("a2", at(9), bot, "select 1 from payments", "read"),
        *(
            story.query(f"c{n}", at(10 + n), {"id": "shared", "type": "human", "db_user": "shared"}, "select 1 from payments", "read",
                        client={"ip": ip, "app": app})
            for n, (ip, app) in enumerate([("10.0.0.1", "psql"), ("10.0.0.2", "psql"), ("10.0.0.2", "dbeaver")])
        ),
    )  # fmt: skip
    names = "u1 u2 u3 s1 s2 s3 d1 d2 d3 d4 x1 g1 t1 a1 a2 c0 c1 c2".split()
    return dict(zip(names, indexes, strict=True))


EXPECTED = {
    "unbounded-change": ["u1"], "bulk-change": ["u3"], "sensitive-bulk-read": ["s1"], "refused": ["d1"],
    "denied-then-allowed": ["d2"], "privilege-change": ["g1"], "approval-missing": ["x1", "g1"], "ddl-outside-hours": ["x1"],
    "truncate-or-drop": ["t1"],
    "agent-write": ["a1"], "agent-destructive": ["a1"], "agent-without-person": ["a2"], "shared-account": ["c0"],
}  # fmt: skip


def test_each_rule_finds_its_act_the_same_before_and_after_it_is_kept_and_once(store: str, settings: Any) -> None:
    settings.MAINTENANCE_HOURS = f"{rules.DAYS[NOW.weekday() - 2]}-{rules.DAYS[NOW.weekday() - 2]} 08:00-18:00"
    place = tell_story()
    expected = {rule: [place[name] for name in reversed(names)] for rule, names in EXPECTED.items()}
    before = by_rule()
    assert {rule: [one["index"] for one in found] for rule, found in before.items()} == expected
    assert all(one["number"] is None for found in before.values() for one in found)
    Source.objects.create(
        name="wal", format="pgoutput", environment="production", datasource="orders-prod", token_hash=b"w"
    )
    complete = coverage_soon()
    judge()
    assert coverage_soon() == complete
    judge()
    kept = by_rule()
    assert {rule: [one["index"] for one in found] for rule, found in kept.items()} == expected
    assert all(one["number"] and one["state"] == "open" for found in kept.values() for one in found)
    for rule, found in kept.items():
        assert found[0]["sentence"] == before[rule][0]["sentence"]
    assert kept["denied-then-allowed"][0]["sentence"] == (
        "Dana Reyes was refused on salaries and did the same (read) within 15 minutes."
    )
    assert "from 10.0.0.1, 10.0.0.2" in kept["shared-account"][0]["sentence"]
    assert "read 100 rows of public.customers, which holds email" in kept["sensitive-bulk-read"][0]["sentence"]
    told = queries.events(ALL, "kind:custody source:touchstone", limit=500).items
    records = [row for row in told if row["custody"]["type"] == "finding"]
    assert len(records) == sum(map(len, expected.values())), "one record each, although it was judged twice"
    assert {row["index"] for row in records} == {one["record"] for found in kept.values() for one in found}
    assert not any("Dana" in row["custody"]["detail"] for row in records), "a record of a finding names nobody"
    _pages_and_scope(kept)


def test_what_a_rule_needs_of_a_record_is_asked_of_that_record_alone() -> None:
    ruleset = rules.load()
    assert not [rule.id for rule in ruleset.rules if "select" in ruleset.need(rule)]


def _pages_and_scope(kept: dict[str, list[dict[str, Any]]]) -> None:
    number = kept["agent-write"][0]["number"]
    assert queries.findings(STRANGER).items == []
    with pytest.raises(errors.NotFound):
        queries.finding(STRANGER, number)
    first = queries.findings(ALL, limit=4)
    second = queries.findings(ALL, limit=100, cursor=first.next)
    assert [i["number"] for i in [*first.items, *second.items]] == [i["number"] for i in queries.findings(ALL).items]
    assert first.total.value == sum(map(len, EXPECTED.values()))
    assert set(by_rule(q="agent:report-bot or actor:report-bot")) == {
        "agent-write",
        "agent-destructive",
        "agent-without-person",
    }
    client = Client()
    client.force_login(story.person("alice@audit.example", "auditor"))
    page = client.get("/findings/?severity=high").content.decode()
    assert "Change of every row" in page
    assert "Privilege change</td>" not in page
    page = client.get(f"/findings/{number}/").content.decode()
    assert "The agent report-bot wrote to payments, for dana@shop.example." in page
    assert "No receiver wanted this finding" in page
    assert client.get("/findings/rules/").status_code == 200
    assert client.get("/findings/receivers/").status_code == 403
    client.force_login(story.person("x@else.example", "security", datasources=["elsewhere"]))
    assert client.get(f"/findings/{number}/").status_code == 404
    assert client.post(f"/findings/{number}/triage/", {"act": "note", "note": "x"}).status_code == 404


def test_triage_is_a_record_each_and_for_those_who_may(store: str) -> None:
    desk = story.source()
    story.send(desk, story.query("t1", at(8), story.OMAR, "truncate payments", "truncate"))
    judge()
    number = numbered("truncate-or-drop")
    story.person("sigrid@example.test", "security")
    for viewer, act, value, code in (
        (ALL, "note", "", "access-denied"), (OPERATOR, "verdict", "true", "access-denied"),
        (COMPLIANCE, "verdict", "true", "access-denied"), (STRANGER, "note", "", "not-found"),
        (SIGRID, "verdict", "perhaps", "finding-invalid"), (SIGRID, "reopen", "", "finding-invalid"),
        (SIGRID, "owner", "nobody@else.example", "finding-invalid"),
    ):  # fmt: skip
        with pytest.raises(errors.TouchstoneError) as refused:
            triage.establish(viewer, number, act, value, "because")
        assert refused.value.code == code
        last = queries.events(ALL, "kind:decision source:touchstone", limit=1).items[0]
        assert (last["decision"]["transition"], last["purpose"]) == ("refused", code)
    assert Finding.objects.get().state == "open"
    triage.establish(COMPLIANCE, number, "note", "", "asked Omar")
    triage.establish(SIGRID, number, "owner", "sigrid@example.test", "")
    triage.establish(SIGRID, number, "verdict", "accepted", "<b>planned</b> in CHG-7")
    assert by_rule()["truncate-or-drop"][0]["state"] == "closed"
    assert queries.findings(ALL, narrowed=queries.Narrowed(state="open")).items == []
    client = Client()
    ApiToken.objects.create(user=story.person("t@x.example", "security"), name="t", token_hash=access.token_hash("t"))
    answer = client.post(
        f"/api/v1/findings/{number}/triage", {"act": "reopen", "note": "it came again"},
        content_type="application/json", HTTP_AUTHORIZATION="Bearer t",
    )  # fmt: skip
    assert answer.json() == {"number": number, "state": "open", "verdict": "", "owner": "sigrid@example.test"}
    told = client.get(f"/api/v1/findings/{number}", HTTP_AUTHORIZATION="Bearer t").json()
    said = [(row["by"], row["custody"]["first"]) for row in told["history"] if row["custody"]["type"] == "triage"]
    assert said == [
        ("cora@example.test", "note"), ("sigrid@example.test", "owner"), ("sigrid@example.test", "verdict"), ("t@x.example", "reopen"),
    ]  # fmt: skip
    before = Viewer("early@example.test", "auditor", until_at=NOW)
    assert queries.finding(before, number)["history"] == [], "what was said after the end of one's scope is out of it"
    listed = client.get("/api/v1/findings?state=open&q=op:truncate", HTTP_AUTHORIZATION="Bearer t").json()
    assert [item["number"] for item in listed["items"]] == [number]
    client.force_login(story.person("sigrid2@example.test", "security"))
    page = client.get(f"/findings/{number}/").content.decode()
    assert "&lt;b&gt;planned&lt;/b&gt; in CHG-7" in page
    done = client.post(f"/findings/{number}/triage/", {"act": "verdict:false-alarm", "note": "a test"})
    assert done.status_code == 302
    assert Finding.objects.get().verdict == "false-alarm"


def test_rules_are_set_with_a_reason_and_hold_for_what_comes_after(store: str) -> None:
    desk = story.source()
    values = dict(ruling.current().values)
    for viewer, reason, code in ((ALL, "why", "access-denied"), (SIGRID, " ", "finding-invalid")):
        with pytest.raises(errors.TouchstoneError) as refused:
            ruling.establish(viewer, values | {"bulk_rows": 5}, [], reason)
        assert refused.value.code == code
    with pytest.raises(errors.FindingInvalid):
        ruling.establish(SIGRID, values | {"production": ("x' or true --",)}, [], "why")
    assert not FindingRules.objects.exists()
    client = Client()
    client.force_login(story.person("sigrid@example.test", "security"))
    form = {f"on-{rule.id}": "1" for rule in rules.load().rules if rule.id != "truncate-or-drop"}
    form |= {name: " ".join(v) if isinstance(v, tuple) else str(v) for name, v in values.items()} | {
        "bulk_rows": "5",
        "reason": "small shop",
    }
    assert client.post("/findings/rules/", form).status_code == 302
    page = client.get("/findings/rules/").content.decode()
    assert "small shop" in page
    assert "bulk_rows = 5" in page
    (record,) = queries.events(ALL, "kind:decision source:touchstone text:bulk_rows").items
    assert record["decision"]["subject"] == "rules of findings, version 1"
    story.send(
        desk,
        story.query("t1", at(8), story.OMAR, "truncate payments", "truncate"),
        story.query("u1", at(9), story.OMAR, "update payments set a = 1 where id > 1", "update", rows={"affected": 5}),
    )
    assert set(by_rule()) == {"bulk-change"}
    judge()
    assert Finding.objects.get().digest == ruling.current().digest != rules.load().digest


def test_what_a_later_record_explains_is_explained_and_not_open(store: str) -> None:
    desk = story.source()
    glass = {"environment": "production", "datasource": "orders-prod", "ticket": "REQ-1"}
    ledger.record(
        Event(kind="decision", decision=Decision(type="break_glass", transition="approved", decided_by="a@x"), **glass)
    )
    story.send(desk, story.query("u1", at(9), story.OMAR, "select 1", "read"))
    judge()
    number = numbered("review-due")
    ledger.record(Event(kind="decision", decision=Decision(type="review", decided_by="b@x"), **glass))
    judge()
    assert Finding.objects.get(pk=number).state == "explained"
    assert by_rule() == {}
    (explained,) = queries.findings(ALL, narrowed=queries.Narrowed(state="explained")).items
    assert explained["number"] == number
    assert [row["custody"]["transition"] for row in queries.finding(ALL, number)["history"]] == ["begins", "ends"]


def test_a_killed_judge_keeps_nothing_half_and_forgets_nothing(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = story.source()
    story.send(desk, story.query("t1", at(8), story.OMAR, "truncate payments", "truncate"))

    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(judging.telling, "prepare", die)
        with pytest.raises(Killed):
            judge()
    assert not Finding.objects.exists()
    assert queries.events(ALL, "kind:custody source:touchstone").items == []
    judge()
    assert Finding.objects.count() == 1


def test_while_much_waits_to_be_sealed_only_what_is_sealed_is_judged(
    store: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = story.source()
    story.send(desk, story.query("t1", at(8), story.OMAR, "truncate payments", "truncate"))
    judge()
    found = Finding.objects.get()
    with monkeypatch.context() as behind:
        behind.setattr(settings, "SEAL_EVENTS", 0)
        judge()
    checkpoints.checkpoint()
    segments.seal()
    story.send(desk, story.query("t2", at(9), story.DANA, "truncate salaries", "truncate"))
    settings.SEAL_EVENTS = 0
    judge()
    assert list(Finding.objects.all()) == [found], "what waits is not looked at, and nothing found before is explained"
    checkpoints.checkpoint()
    segments.seal()
    judge()
    assert Finding.objects.filter(state="open").count() == 2


def test_many_findings_are_kept_a_few_at_a_time_and_each_once(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = story.source()
    for number in range(5):
        name = f"t{number}"
        story.send(desk, story.query(name, at(number), story.OMAR, f"truncate payments_{number}", "truncate"))
    monkeypatch.setattr(judging, "KEPT_AT_ONCE", 2)
    real, kept = judging._add, []

    def die(*words: Any) -> int:
        kept.append(real(*words))
        if len(kept) == 2:
            raise KeyboardInterrupt
        return kept[-1]

    with monkeypatch.context() as dying:
        dying.setattr(judging, "_add", die)
        with pytest.raises(KeyboardInterrupt):
            judge()
    assert Finding.objects.count() == 2
    judge()
    judge()
    assert Finding.objects.filter(state="open").count() == 5
    told = queries.events(ALL, "kind:custody source:touchstone", limit=50).items
    assert sum(row["custody"]["type"] == "finding" for row in told) == 5


def test_what_a_source_may_not_assert_is_one_finding_an_hour(store: str) -> None:
    proxy = story.source("proxy")
    Source.objects.filter(pk=proxy.pk).update(asserts=[])
    proxy.refresh_from_db()
    for name in ("p1", "p2", "p3"):
        story.send(proxy, story.query(name, at(8), story.OMAR, "select 1", "read"))
    judge()
    assert [(f.rule, f.records) for f in Finding.objects.filter(rule="unauthorised-assertion")] == [
        ("unauthorised-assertion", 3)
    ]


def test_a_wrong_clock_and_ids_that_come_twice_are_one_finding_each_that_counts(store: str) -> None:
    desk = story.source()
    ahead = NOW + dt.timedelta(minutes=30)
    for turn in range(2):
        for number in range(3):
            story.send(desk, story.query(f"c{turn}{number}", ahead, story.OMAR, "select 1", "read"))
            again = story.query(f"c{turn}{number}", ahead, story.OMAR, "select 2", "read")
            assert ingest.accept(desk, json.dumps([again]).encode()).count("conflict") == 1
        judge()
    assert sorted((f.rule, f.records) for f in Finding.objects.filter(rule__in=("clock-skew", "conflict"))) == [
        ("clock-skew", 12),
        ("conflict", 12),
    ]


def test_findings_whose_records_are_gone_stay_in_the_list_and_its_next_page(store: str, settings: Any) -> None:
    desk = story.source()
    acts = [story.query(f"g{n}", at(n), story.OMAR, f"truncate t{n}", "truncate") for n in range(3)]
    story.send(desk, *acts)
    judge()
    newest, *_ = whole = queries.findings(ALL).items
    Finding.objects.filter(pk=newest["number"]).update(members=[10**9])
    first = queries.findings(ALL, limit=2)
    assert [row["number"] for row in first.items] == [row["number"] for row in whole[:2]]
    assert first.items[0].keys() == first.items[1].keys()
    assert "is not shown" in first.items[0]["sentence"]
    assert [r["number"] for r in queries.findings(ALL, limit=2, cursor=first.next).items] == [whole[2]["number"]]
    about = Finding.objects.get(pk=newest["number"]).about
    settings.SECRET_KEY = "another key of this program, long enough"
    FindingProgress.objects.update(judged_to=0)
    Finding.objects.all().delete()
    assert about not in {row["about"] for row in queries.findings(ALL).items}, "a digest of people is keyed"
