"""The desk on pages: who sees which held statement, decides by form, and ends live sessions."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from lineage.models import GatewayKill, GatewaySession, HeldStatement, User
from tests import story
from tests.lineage import desk, forgetting

pytestmark = pytest.mark.slow


def signed_in(email: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(email=email))
    return client


@pytest.fixture
def clients(store: str) -> dict[str, Client]:
    """Security, admin, an auditor, an operator, and a stranger of another team; one statement is held."""
    desk.source()
    for email, role in ((desk.SEVERIN, "security"), (desk.SIGRID, "security"), (desk.ADA, "admin")):
        story.person(email, role)
    story.person("alice@audit.example", "auditor")
    story.person("olga@operator.example", "operator")
    story.person("stranger@other.example", "security", datasources=["other"])
    forgetting.act_as("web")
    desk.exchange(held=[desk.hold()])
    emails = {"severin": desk.SEVERIN, "sigrid": desk.SIGRID, "ada": desk.ADA, "alice": "alice@audit.example",
              "olga": "olga@operator.example", "stranger": "stranger@other.example"}  # fmt: skip
    return {name: signed_in(email) for name, email in emails.items()}


def form(**more: str) -> dict[str, str]:
    return {
        "decision": "approve",
        "reason": "looked at it",
        "digest": str(desk.hold()["digest"]),
        "minutes": "10",
        "row_cap": "200",
    } | more


PAGE = "/approvals/held/req-1/"


def test_the_inbox_says_who_for_whom_why_and_what_and_leads_to_the_decision(clients: dict[str, Client]) -> None:
    page = clients["severin"].get("/approvals/").content.decode()
    for told in ("1 statement waits for a decision", "report-bot", "dana@shop.example", "OPS-42", "clean up",
                 "Changes rows of public.customers, column name", "About 120 rows", "Bulk updates need an approval.", PAGE):  # fmt: skip
        assert told in page, told
    assert "Zebedee" not in page
    assert "Look and decide" not in clients["alice"].get("/approvals/").content.decode()


def test_who_decides_sees_the_whole_statement_an_operator_its_shape_a_stranger_nothing(
    clients: dict[str, Client],
) -> None:
    assert "Zebedee" in clients["severin"].get(PAGE).content.decode()
    alice = clients["alice"].get(PAGE).content.decode()
    assert "Zebedee" in alice
    assert "Approve: it may run" not in alice
    olga = clients["olga"].get(PAGE).content.decode()
    assert "Zebedee" not in olga
    assert "update customers set name = $1" in re.sub("<[^>]+>", "", olga)
    assert "Update on customers" not in olga
    assert clients["stranger"].get(PAGE).status_code == 404
    assert "req-1" not in clients["stranger"].get("/approvals/").content.decode()
    assert Client().get(PAGE).status_code == 302


def test_who_decides_sees_the_values_of_a_prepared_statement_an_operator_their_number(
    clients: dict[str, Client],
) -> None:
    values = [
        {"position": 1, "value": "Zebedee"},
        {"position": 2, "value": None},
        {"position": 3, "value": "\\x00ff", "binary": True},
    ]
    text = "update customers set name = $1 where country = $2 and born_at > $3"
    desk.exchange(held=[desk.hold("req-2", statement=text, redacted=text, parameters=values)])
    page = "/approvals/held/req-2/"
    severin, olga = (clients[name].get(page).content.decode() for name in ("severin", "olga"))
    for told in ("<code>$1</code>", "<code>Zebedee</code>", "NULL", "\\x00ff", "binary, as the client sent it"):
        assert told in severin, told
    assert "Zebedee" not in olga
    assert "00ff" not in olga
    assert "Its 3 values: withheld from your role." in olga
    listed = {name: clients[name].get("/api/v1/gateway/held").json()["items"][0] for name in ("severin", "olga")}
    assert [one["value"] for one in listed["severin"]["parameters"]] == ["Zebedee", None, "\\x00ff"]
    assert "parameters" not in listed["olga"]


def test_a_member_sees_their_own_held_statements_alone_and_decides_none(clients: dict[str, Client]) -> None:
    forgetting.act_as("owner")
    mia = story.person("mia@shop.example", "member")
    story.person("max@shop.example", "member")
    forgetting.act_as("web")
    person = {"id": "mia", "email": "mia@shop.example", "type": "human"}
    desk.exchange(
        held=[
            desk.hold(
                "req-2", requested_by="report-bot", on_behalf_of=person, statement="delete from x", ticket="OPS-9"
            )
        ]
    )
    theirs, others = signed_in(mia.email), signed_in("max@shop.example")
    inbox = theirs.get("/approvals/").content.decode()
    assert "1 statement of yours waits for a decision" in inbox
    assert "/approvals/held/req-2/" in inbox
    assert "req-1" not in inbox
    assert "/identities/" not in inbox
    assert "/search" not in inbox
    page = theirs.get("/approvals/held/req-2/").content.decode()
    assert "another person decides" in page
    assert "Approve: it may run" not in page
    assert "/search" not in page
    assert "Zebedee" not in page
    assert [one["request_id"] for one in theirs.get("/api/v1/gateway/held").json()["items"]] == ["req-2"]
    assert theirs.get(PAGE).status_code == 404
    assert others.get("/approvals/held/req-2/").status_code == 404
    assert "req-" not in others.get("/approvals/").content.decode()
    assert "req-" not in others.get("/approvals/live/").content.decode()
    for client, name in ((theirs, "req-2"), (others, "req-1")):
        assert client.post(f"/approvals/held/{name}/decide/", form()).status_code == 403
    assert {one.state for one in HeldStatement.objects.all()} == {"requested"}
    refused = [one for one in forgetting.decisions("evidence_read") if one[1] == "403 access-denied"]
    assert {one[2]["decided_by"] for one in refused} == {"mia@shop.example", "max@shop.example"}


def test_a_decision_by_form_stands_on_the_page_and_reaches_the_gateway(clients: dict[str, Client]) -> None:
    assert clients["severin"].post(PAGE + "decide/", form()).status_code == 302
    page = clients["alice"].get(PAGE).content.decode()
    assert "looked at it" in page
    assert "for at most 200 rows" in page
    assert desk.exchange()["decisions"][0]["state"] == "approved"
    again = clients["sigrid"].post(PAGE + "decide/", form(decision="reject"))
    assert again.status_code == 409
    assert b"does not wait for this" in again.content
    assert HeldStatement.objects.get().state == "approved"


@pytest.mark.parametrize("name", ["alice", "olga"])
def test_other_roles_are_refused_by_form_and_the_refusal_is_recorded(clients: dict[str, Client], name: str) -> None:
    assert clients[name].post(PAGE + "decide/", form()).status_code == 403
    assert HeldStatement.objects.get().state == "requested"
    assert forgetting.decisions("approval")[-1][:2] == ("req-1", "refused")


@pytest.mark.parametrize(
    "wrong",
    [{"decision": "please"}, {"reason": ""}, {"minutes": "x"}, {"minutes": "9999"}, {"row_cap": "-1"}, {"digest": ""}],
)
def test_a_form_that_says_something_else_changes_nothing(clients: dict[str, Client], wrong: dict[str, str]) -> None:
    assert clients["severin"].post(PAGE + "decide/", form(**wrong)).status_code in (400, 409)
    assert HeldStatement.objects.get().state == "requested"


def test_a_decision_needs_the_forms_own_token(clients: dict[str, Client]) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(email=desk.SEVERIN))
    assert strict.post(PAGE + "decide/", form()).status_code == 403
    assert HeldStatement.objects.get().state == "requested"


def test_their_own_request_has_no_form_and_is_refused(clients: dict[str, Client]) -> None:
    desk.exchange(held=[desk.hold("req-2", requested_by=desk.SEVERIN, on_behalf_of=None)])
    page = clients["severin"].get("/approvals/held/req-2/").content.decode()
    assert "another person decides" in page
    assert "Approve: it may run" not in page
    assert clients["severin"].post("/approvals/held/req-2/decide/", form()).status_code == 403
    assert HeldStatement.objects.get(pk="req-2").state == "requested"


def test_broken_glass_stands_on_approvals_until_another_person_has_reviewed_it(clients: dict[str, Client]) -> None:
    assert "Break glass" not in clients["severin"].get(PAGE).content.decode()
    assert "Break glass" in clients["ada"].get(PAGE).content.decode()
    given = {"decision": "break-glass", "reason": "the shop is down", "digest": desk.hold()["digest"]}
    assert clients["ada"].post(PAGE + "decide/", given).status_code == 302
    assert "review due" in clients["sigrid"].get("/approvals/").content.decode()
    assert "What you found" not in clients["ada"].get(PAGE).content.decode()
    assert "What you found" in clients["sigrid"].get(PAGE).content.decode()
    assert clients["sigrid"].post(PAGE + "review/", {"note": "it was needed"}).status_code == 302
    assert "review due" not in clients["sigrid"].get("/approvals/").content.decode()
    assert "it was needed" in clients["alice"].get(PAGE).content.decode()


def test_a_minute_of_watching_is_one_record_and_anybody_elses_watch_none_of_it(clients: dict[str, Client]) -> None:
    page = clients["severin"].get("/approvals/").content.decode()
    found = re.search('data-watch="([^"]+)"', page)
    assert found is not None
    before = len(forgetting.decisions("evidence_read"))
    for _ in range(3):
        assert clients["severin"].get("/approvals/live/", headers={"X-Watch": found[1]}).status_code == 200
    assert len(forgetting.decisions("evidence_read")) == before
    clients["alice"].get("/approvals/live/", headers={"X-Watch": found[1]})
    assert len(forgetting.decisions("evidence_read")) == before + 1


def test_live_sessions_are_listed_and_ended_with_a_reason(clients: dict[str, Client]) -> None:
    page = clients["olga"].get("/sessions/live/").content.decode()
    for told in ("1 session is live", "report-bot", "dana@shop.example", "psql", "10.0.0.7"):
        assert told in page
    number = GatewaySession.objects.get().pk
    assert clients["alice"].post(f"/sessions/live/{number}/end/", {"reason": "x"}).status_code == 403
    assert clients["stranger"].post(f"/sessions/live/{number}/end/", {"reason": "x"}).status_code == 404
    assert not GatewayKill.objects.exists()
    assert "End the session" in clients["olga"].get(f"/sessions/live/{number}/").content.decode()
    assert clients["olga"].post(f"/sessions/live/{number}/end/", {"reason": "runs wild"}).status_code == 302
    assert "is being ended" in clients["olga"].get("/sessions/live/").content.decode()
    assert desk.exchange(sessions=[])["kills"] == []
    assert "Nobody is connected" in clients["olga"].get("/sessions/live/").content.decode()
    assert clients["olga"].get(f"/sessions/live/{number}/").status_code == 404


def test_what_others_wrote_is_never_markup(clients: dict[str, Client]) -> None:
    hostile = story.HOSTILE
    person = {"id": hostile, "name": hostile, "email": hostile, "type": "agent"}
    effect = {
        "verb": hostile,
        "schema": hostile,
        "relation": hostile,
        "columns": [hostile],
        "classes": [hostile],
        "certainty": hostile,
    }
    words = dict.fromkeys(
        ("account", "purpose", "ticket", "redacted", "statement", "plan", "rule", "sentence"), hostile
    )
    desk.exchange(
        databases=[],
        sessions=[desk.live(**dict.fromkeys(("account", "app", "client_ip", "purpose", "last_command", "state", "database"), hostile),
                            actor=person, on_behalf_of=person, agent={"id": hostile, "name": hostile})],
        held=[desk.hold("req-2", requested_by=person, on_behalf_of=person, delegation=[person], effects=[effect],
                        parameters=[{"position": 1, "value": hostile}], **words)],
    )  # fmt: skip
    clients["severin"].post(
        "/approvals/held/req-2/decide/", form(reason=hostile, digest=desk.hold(statement=hostile)["digest"])
    )
    number = GatewaySession.objects.get().pk
    for address in ("/approvals/", "/approvals/held/req-2/", "/sessions/live/", f"/sessions/live/{number}/"):
        page = clients["severin"].get(address).content.decode()
        assert "alert(1)" in page
        assert "<script>alert" not in page


def test_an_empty_desk_says_what_will_be_here(store: str) -> None:
    story.person("alice@audit.example", "auditor")
    page = signed_in("alice@audit.example").get("/approvals/").content.decode()
    assert "No statement waits for a decision" in page
