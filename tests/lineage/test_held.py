"""Held statements: who decides, what is refused, and what the log says of it."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, connections, transaction
from django.test import Client

from lineage import access, errors, held, queries, rights
from lineage.access import Viewer
from lineage.engine import Question
from lineage.models import HeldStatement, Identity, Source, User
from tests import story
from tests.lineage import desk, forgetting

pytestmark = pytest.mark.slow


@pytest.fixture
def three(store: str) -> tuple[Viewer, Viewer, Viewer]:
    desk.source()
    found = desk.people()
    forgetting.act_as("web")
    desk.exchange(held=[desk.hold()])
    return found


def steps() -> list[tuple[str, str, str]]:
    """(type, transition, who) of the recorded decisions about held statements."""
    with Question() as question:
        rows = question.rows(
            "select decision_type, json_extract_string(decision, '$.transition') as transition, decided_by from raw_events "
            "where decision_subject like 'req-%' order by index"
        )
    return [(row["decision_type"], row["transition"], row["decided_by"]) for row in rows]


def as_owner(sql: str, *values: Any) -> None:
    """What only the owner may do: here, to let time pass."""
    with connection.cursor() as cursor:
        cursor.execute("reset role")
        cursor.execute(sql, values)
        cursor.execute("set role touchstone_web")


def test_an_approval_is_recorded_told_to_the_gateway_and_seen_by_the_approvals_page(three: tuple[Viewer, ...]) -> None:
    severin = three[0]
    decided = held.decide(severin, "req-1", "approved", "looked at it", row_cap=200)
    assert (decided.state, decided.row_cap, decided.break_glass) == ("approved", 200, False)
    assert steps() == [("access_request", "requested", "report-bot"), ("approval", "approved", desk.SEVERIN)]
    (told,) = desk.exchange()["decisions"]
    assert (told["state"], told["by"], told["row_cap"], told["digest"]) == (
        "approved",
        desk.SEVERIN,
        200,
        decided.digest,
    )
    (row,) = queries.approvals(severin, "").items
    assert (row["ticket"], row["state"], row["approvers"]) == ("req-1", "unused", [desk.SEVERIN])


def test_the_rules_cap_holds_where_none_is_given_and_a_rejection_says_why(three: tuple[Viewer, ...]) -> None:
    assert held.decide(three[0], "req-1", "approved", "yes").row_cap == 500
    desk.exchange(held=[desk.hold("req-2", statement="delete from customers")])
    held.decide(three[1], "req-2", "rejected", "too wide")
    told = {
        d["request_id"]: d
        for d in desk.exchange(held=[desk.hold("req-2", statement="delete from customers")])["decisions"]
    }
    assert (told["req-2"]["state"], told["req-2"]["reason"], told["req-2"]["row_cap"]) == ("rejected", "too wide", None)


@pytest.mark.parametrize(
    "involved",
    [
        {"requested_by": desk.SEVERIN, "on_behalf_of": None},
        {"requested_by": {"id": "u-7", "email": desk.SEVERIN.upper()}, "on_behalf_of": None},
        {"on_behalf_of": desk.SEVERIN},
        {"delegation": [{"id": desk.SEVERIN, "type": "human"}]},
    ],
)
def test_who_asked_or_for_whom_or_stands_behind_the_agent_does_not_decide(
    three: tuple[Viewer, ...], involved: dict[str, Any]
) -> None:
    desk.exchange(held=[desk.hold("req-2", **involved)])
    for verdict in ("approved", "rejected"):
        with pytest.raises(errors.AccessDenied, match="Another person"):
            held.decide(three[0], "req-2", verdict, "mine")
    assert HeldStatement.objects.get(pk="req-2").state == "requested"
    assert steps()[-1] == ("approval", "refused", desk.SEVERIN)
    assert held.decide(three[1], "req-2", "approved", "looked at it").state == "approved"


def test_the_sessions_people_count_too_even_where_the_request_names_only_the_agent(store: str) -> None:
    desk.source()
    severin = desk.people()[0]
    person = {"id": "u-9", "email": desk.SEVERIN, "type": "human"}
    forgetting.act_as("web")
    desk.exchange(sessions=[desk.live(on_behalf_of=person)], held=[desk.hold(on_behalf_of=None)])
    with pytest.raises(errors.AccessDenied):
        held.decide(severin, "req-1", "approved", "mine")
    assert HeldStatement.objects.get().state == "requested"
    assert steps()[-1] == ("approval", "refused", desk.SEVERIN)


def test_an_imported_identity_ties_a_persons_id_to_their_sign_in(store: str) -> None:
    desk.source()
    severin = desk.people()[0]
    Identity.objects.create(
        datasource="shop",
        db_user="sev",
        person_id="P-77",
        name="Severin",
        email=desk.SEVERIN,
        as_of=dt.datetime.now(dt.UTC),
    )
    forgetting.act_as("web")
    desk.exchange(held=[desk.hold(requested_by="p-77", on_behalf_of=None)])
    with pytest.raises(errors.AccessDenied):
        held.decide(severin, "req-1", "approved", "mine")
    assert HeldStatement.objects.get().state == "requested"


@pytest.mark.parametrize("role", ["auditor", "operator", "compliance"])
def test_other_roles_do_not_decide(three: tuple[Viewer, ...], role: str) -> None:
    forgetting.act_as("owner")
    other = access.viewer_of(story.person(f"other@{role}.example", role))
    forgetting.act_as("web")
    with pytest.raises(errors.AccessDenied):
        held.decide(other, "req-1", "approved", "please")
    with pytest.raises(DatabaseError, match="may not decide"), transaction.atomic():
        rights.call("select gateway_decide('req-1', %s, 'approved', 'x', %s, now(), null)", other.email, "0" * 64)
    assert HeldStatement.objects.get().state == "requested"
    assert steps()[-1] == ("approval", "refused", other.email)


def test_a_stranger_of_another_team_does_not_find_it(three: tuple[Viewer, ...]) -> None:
    stranger = Viewer(desk.SIGRID, "security", datasources=("other",))
    assert list(held.in_scope(stranger)) == []
    with pytest.raises(errors.NotFound):
        held.decide(stranger, "req-1", "approved", "please")
    assert HeldStatement.objects.get().state == "requested"
    assert steps()[-1] == ("approval", "refused", desk.SIGRID)


def test_a_reason_is_needed_and_windows_and_caps_have_bounds(three: tuple[Viewer, ...]) -> None:
    for wrong in ({"reason": " "}, {"minutes": 0}, {"minutes": 1441}, {"row_cap": 0}):
        with pytest.raises(errors.QueryInvalid):
            held.decide(three[0], "req-1", "approved", **{"reason": "ok"} | wrong)
    assert HeldStatement.objects.get().state == "requested"
    assert len([s for s in steps() if s[1] == "refused"]) == 4


def test_another_statement_than_the_one_that_was_shown_is_not_approved(three: tuple[Viewer, ...]) -> None:
    with pytest.raises(errors.NotDecidable):
        held.decide(three[0], "req-1", "approved", "yes", digest="0" * 64)
    assert HeldStatement.objects.get().state == "requested"
    assert steps()[-1] == ("approval", "refused", desk.SEVERIN)


def test_of_two_who_decide_at_once_one_is_told_that_it_is_decided(three: tuple[Viewer, ...]) -> None:
    start, ended = threading.Barrier(2), list[str]()

    def act(viewer: Viewer, verdict: held.Verdict) -> None:
        try:
            forgetting.act_as("web")
            start.wait(30)
            ended.append(held.decide(viewer, "req-1", verdict, "mine").state)
        except errors.NotDecidable as error:
            ended.append(error.code)
        finally:
            connections.close_all()

    threads = [
        threading.Thread(target=act, args=given) for given in ((three[0], "approved"), (three[1], "rejected"))
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    kept = HeldStatement.objects.get()
    assert sorted(ended) == sorted([kept.state, "not-decidable"])
    assert [s[1] for s in steps()].count(kept.state) == 1


def test_what_nobody_decides_expires_and_is_decided_no_more(three: tuple[Viewer, ...]) -> None:
    as_owner("update lineage_heldstatement set ask_until = now() - interval '1 second'")
    with pytest.raises(errors.NotDecidable):
        held.decide(three[0], "req-1", "approved", "late")
    held.sweep()
    held.sweep()
    assert HeldStatement.objects.get().state == "expired"
    assert [s[1:] for s in steps()][1:] == [("refused", desk.SEVERIN), ("expired", "touchstone")]
    (told,) = desk.exchange(held=[desk.hold()])["decisions"]
    assert told["state"] == "expired"


def test_an_approval_that_is_not_used_in_time_is_told_as_expired_before_the_sweep_and_after(
    three: tuple[Viewer, ...],
) -> None:
    held.decide(three[0], "req-1", "approved", "yes", minutes=1)
    as_owner("update lineage_heldstatement set expires_at = now() - interval '1 second'")
    assert [d["state"] for d in desk.exchange(held=[desk.hold()])["decisions"]] == ["expired"]
    assert desk.exchange()["decisions"] == []
    held.sweep()
    assert HeldStatement.objects.get().state == "expired"


def test_an_approval_is_used_once_and_a_second_use_is_refused_and_recorded(three: tuple[Viewer, ...]) -> None:
    held.decide(three[0], "req-1", "approved", "yes")
    digest, first = desk.hold()["digest"], desk.now()
    used = {"request_id": "req-1", "digest": digest, "state": "used", "at": first}
    for _ in range(2):  # the same news again, as after a lost answer
        assert desk.exchange(done=[used])["refused"] == []
    assert [s[1] for s in steps()] == ["requested", "approved", "used"]
    again = desk.exchange(done=[{**used, "at": desk.now()}])
    assert again["refused"] == [{"request_id": "req-1", "code": "not-decidable"}]
    assert again["decisions"] == []
    assert format(HeldStatement.objects.get().used_at, "%Y") == first[:4]
    refused = forgetting.decisions("configuration")[-1]
    assert (refused[0], refused[1]) == ("gateway gw", "refused")


def test_a_use_of_another_statement_or_of_what_nobody_approved_is_refused(three: tuple[Viewer, ...]) -> None:
    used = {"request_id": "req-1", "digest": desk.hold()["digest"], "state": "used", "at": desk.now()}
    assert desk.exchange(done=[used])["refused"] == [{"request_id": "req-1", "code": "not-decidable"}]
    held.decide(three[0], "req-1", "approved", "yes")
    assert desk.exchange(done=[{**used, "digest": "0" * 64}])["refused"][0]["code"] == "not-decidable"
    assert HeldStatement.objects.get().state == "approved"


def test_an_id_that_stands_for_another_statement_is_refused(three: tuple[Viewer, ...]) -> None:
    other = desk.hold(statement="delete from customers")
    assert desk.exchange(held=[other])["refused"] == [{"request_id": "req-1", "code": "not-decidable"}]
    desk.exchange(held=[other])
    assert HeldStatement.objects.get().statement == desk.SQL
    assert [t for _, t, _ in forgetting.decisions("configuration")].count("refused") == 1


def test_breaking_glass_is_for_an_admin_alone_goes_against_a_rejection_and_is_reviewed_by_another(
    three: tuple[Viewer, ...],
) -> None:
    severin, sigrid, ada = three
    held.decide(severin, "req-1", "rejected", "too wide")
    with pytest.raises(errors.AccessDenied):
        held.decide(severin, "req-1", "break_glass", "hurry")
    with pytest.raises(errors.NotDecidable):
        held.decide(ada, "req-1", "approved", "hurry")
    broken = held.decide(ada, "req-1", "break_glass", "the shop is down")
    assert (broken.state, broken.row_cap, held.review_due(broken)) == ("approved", None, True)
    assert desk.exchange()["decisions"][0]["break_glass"] is True
    with pytest.raises(errors.AccessDenied):
        held.review(ada, "req-1", "fine")
    assert held.review_due(HeldStatement.objects.get())
    (due,) = [one for one in queries.findings(sigrid).items if one["rule"] == "review-due"]
    sentence = f"{desk.ADA} broke glass for request req-1; nobody has looked at it yet."
    assert (due["severity"], due["sentence"]) == ("medium", sentence)
    assert not queries.findings(Viewer("x@else.example", "security", ("else",))).items
    held.review(sigrid, "req-1", "it was needed")
    with pytest.raises(errors.NotDecidable):
        held.review(severin, "req-1", "again")
    assert not held.review_due(HeldStatement.objects.get())
    assert "review-due" not in {one["rule"] for one in queries.findings(sigrid).items}
    assert [s for s in steps() if s[1] != "refused"][2:] == [
        ("break_glass", "approved", desk.ADA), ("review", "reviewed", desk.SIGRID)
    ]  # fmt: skip


def test_texts_go_an_hour_after_the_end_and_the_row_after_a_month_but_not_before_its_review(
    three: tuple[Viewer, ...],
) -> None:
    held.decide(three[2], "req-1", "break_glass", "the shop is down")
    as_owner(
        "update lineage_heldstatement set state = 'used', ended_at = now() - interval '2 hours', parameters = '[1]'"
    )
    held.sweep()
    kept = HeldStatement.objects.get()
    assert (kept.statement, kept.redacted, kept.parameters, kept.plan) == (None, None, None, None)
    assert kept.digest == desk.hold()["digest"]
    as_owner("update lineage_heldstatement set ended_at = now() - interval '31 days'")
    held.sweep()
    held.review(three[0], "req-1", "it was needed")
    held.sweep()
    assert not HeldStatement.objects.exists()


@pytest.mark.parametrize("role", ["web", "store"])
def test_neither_working_role_writes_a_decision_but_through_the_function(three: tuple[Viewer, ...], role: str) -> None:
    forgetting.act_as(role)
    for sql in (
        "update lineage_heldstatement set state = 'approved', decided_by = 'eve@x.example'",
        "delete from lineage_heldstatement",
        "insert into lineage_guardrailversion values (1, 'x', 'x', 'eve', 'x', now())",
        "insert into lineage_gatewaykill (gateway_id, session_id, by, reason, at) values (1, 's', 'eve', 'x', now())",
        "select gateway_set_rules('x', 'other@auditor.example', 'x')",
    ):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql)
    assert HeldStatement.objects.get().state == "requested"


def test_not_even_the_owner_makes_a_requester_their_own_approver(three: tuple[Viewer, ...]) -> None:
    with pytest.raises(DatabaseError, match="held_other_person"):
        as_owner(
            "update lineage_heldstatement set state = 'approved', decided_by = 'Dana', expires_at = now(), decided_at = now()"
        )


def test_guardrail_versions_are_numbered_and_stay(three: tuple[Viewer, ...]) -> None:
    assert rights.call("select gateway_set_rules('version = 1', %s, 'first')", desk.SEVERIN) == 1
    told = desk.exchange()["rules"]
    assert (told["version"], told["text"]) == (1, "version = 1")
    assert desk.exchange(rules={"version": 1, "digest": told["digest"]})["rules"] is None
    with pytest.raises(DatabaseError), transaction.atomic():
        as_owner("update lineage_guardrailversion set text = 'x'")


def test_what_ran_under_an_approval_counts_for_its_request_and_the_attempt_before_it_does_not(
    three: tuple[Viewer, ...],
) -> None:
    severin = three[0]
    gate = Source.objects.get(name="gate")
    approval = {"request_id": "req-1", "requested_by": "report-bot"}
    at = dt.datetime.now(dt.UTC)
    asked = story.query("g-1", at, story.BOT, desk.SQL, "update", verdict="pending", ticket="OPS-42",
                        approval=approval | {"state": "requested"})  # fmt: skip
    story.send(gate, asked)
    assert [row["state"] for row in queries.approvals(severin, "ticket:req-1").items] == ["open"]
    held.decide(severin, "req-1", "approved", "yes")
    ran = story.query("g-2", dt.datetime.now(dt.UTC), story.BOT, desk.SQL, "update", verdict="approved", ticket="OPS-42",
                      rows={"affected": 120}, approval=approval | {"state": "approved", "approvers": [desk.SEVERIN]})  # fmt: skip
    story.send(gate, ran)
    rows = {row["ticket"]: row for row in queries.approvals(severin).items}
    assert (rows["req-1"]["state"], rows["req-1"]["accesses"], rows["req-1"]["rows_changed"]) == ("good", 1, 120)
    assert (rows["OPS-42"]["state"], rows["OPS-42"]["accesses"]) == ("missing", 1)


def test_security_decides_by_program_and_only_with_an_api_token(three: tuple[Viewer, ...]) -> None:
    as_owner(
        "insert into lineage_apitoken (token_hash, name, datasources, environments, created_at, user_id) "
        "select %s, '', '{}', '{}', now(), id from lineage_user where email = %s",
        access.token_hash("sec"), desk.SEVERIN,
    )  # fmt: skip
    bearer = {"Authorization": "Bearer sec"}
    (item,) = Client().get("/api/v1/gateway/held?state=requested", headers=bearer).json()["items"]
    assert (item["request_id"], item["statement"]) == ("req-1", desk.SQL)
    where, wanted = (
        "/api/v1/gateway/held/req-1/decision",
        {"decision": "approve", "reason": "ok", "digest": item["digest"]},
    )
    browser = Client()
    browser.force_login(User.objects.get(email=desk.SIGRID))
    assert browser.post(where, wanted, content_type="application/json").status_code == 401
    assert (
        Client().post(where, {"decision": "please"}, content_type="application/json", headers=bearer).status_code == 400
    )
    assert HeldStatement.objects.get().state == "requested"
    told = Client().post(where, wanted, content_type="application/json", headers=bearer)
    assert (told.status_code, told.json()["state"]) == (200, "approved")
    assert Client().post(where, wanted, content_type="application/json", headers=bearer).status_code == 409


def test_the_command_lists_approves_rejects_and_refuses_a_stranger(
    three: tuple[Viewer, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_owner(
        "insert into lineage_apitoken (token_hash, name, datasources, environments, created_at, user_id) "
        "select %s, '', '{}', '{}', now(), id from lineage_user where email = %s",
        access.token_hash("sec"), desk.SEVERIN,
    )  # fmt: skip
    monkeypatch.setenv("TOUCHSTONE_TOKEN", "nobody")
    with pytest.raises(SystemExit):
        call_command("approve", "req-1", reason="hm")
    assert HeldStatement.objects.get().state == "requested"
    assert forgetting.decisions("approval")[-1][1] == "refused"
    monkeypatch.setenv("TOUCHSTONE_TOKEN", "sec")
    call_command("approve")
    call_command("approve", "req-1", reason="too wide", reject=True)
    assert "req-1\trejected" in capsys.readouterr().out
    assert HeldStatement.objects.get().reason == "too wide"
