"""The page of erasures: who sees and may what, and the whole way by form."""

from __future__ import annotations

import pytest
from django.test import Client

from lineage import erasures, holds
from lineage.models import User
from tests import story
from tests.lineage import forgetting

pytestmark = pytest.mark.slow

FORM = {"q": "key:4799", "groups": ["change", "statement"], "reason": "asked by the person", "ground": "GDPR art. 17"}


def signed_in(email: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(email=email))
    return client


@pytest.fixture
def clients(store: str) -> tuple[Client, Client, Client]:
    forgetting.people()
    story.person("alice@audit.example", "auditor")
    forgetting.act_as("web")
    return signed_in(forgetting.CARLA), signed_in(forgetting.CLAUS), signed_in("alice@audit.example")


def test_one_person_asks_by_form_and_only_another_may_approve(clients: tuple[Client, Client, Client]) -> None:
    carla, claus, alice = clients
    forgetting.send("Zebedee-Q7", key="4799")
    asked = carla.post("/integrity/erasures/ask/", FORM)
    number = int(asked["Location"].rstrip("/").rsplit("/", 1)[1])
    page = claus.get(f"/integrity/erasures/{number}/").content.decode()
    assert "2 records" in page
    assert "Approve" in page
    assert "Zebedee" not in page
    assert "Approve" not in carla.get(f"/integrity/erasures/{number}/").content.decode()
    assert carla.post(f"/integrity/erasures/{number}/decide/", {"decision": "approve"}).status_code == 403
    assert erasures.one(number).state == "requested"
    assert forgetting.decisions("erasure")[-1][1] == "refused"
    assert claus.post(f"/integrity/erasures/{number}/decide/", {"decision": "approve"}).status_code == 302
    assert erasures.one(number).state == "approved"
    assert "approved" in alice.get("/integrity/erasures/").content.decode()


def test_an_auditor_sees_that_it_is_asked_but_not_what_for_and_may_not_decide(
    clients: tuple[Client, Client, Client],
) -> None:
    carla, _, alice = clients
    forgetting.send("Zebedee-Q7", key="4799")
    carla.post("/integrity/erasures/ask/", FORM)
    for address in ("/integrity/erasures/", "/integrity/erasures/1/"):
        page = alice.get(address).content.decode()
        assert "asked by the person" in page
        assert "4799" not in page
    assert alice.post("/integrity/erasures/ask/", FORM).status_code == 403
    assert alice.post("/integrity/erasures/1/decide/", {"decision": "reject"}).status_code == 403
    assert alice.post("/integrity/holds/add/", {"q": "key:4799", "reason": "x"}).status_code == 403
    assert [e.state for e in erasures.listing()] == ["requested"]
    assert [transition for _, transition, _ in forgetting.decisions("hold")] == ["refused"]


def test_a_hold_by_form_stops_the_erasure(clients: tuple[Client, Client, Client]) -> None:
    carla, claus, _ = clients
    forgetting.send("Zebedee-Q7", key="4799")
    assert claus.post("/integrity/holds/add/", {"q": "key:4799", "reason": "court case 7"}).status_code == 302
    answer = carla.post("/integrity/erasures/ask/", FORM)
    assert answer.status_code == 409
    assert b"under hold 1" in answer.content
    assert erasures.listing() == []
    claus.post("/integrity/holds/1/release/")
    assert claus.post("/integrity/holds/1/release/").status_code == 403
    assert carla.post("/integrity/holds/1/release/").status_code == 302
    assert holds.listing()[0].released_by == forgetting.CARLA
    assert carla.post("/integrity/erasures/ask/", FORM).status_code == 302
