"""The insider and the tables beside the log: alarms, accounts."""

from __future__ import annotations

import msgspec
import pytest
from django.test import Client

from lineage import access, checkpoints
from lineage.models import ApiToken, User
from tests.tamper.insider import Insider, faults

pytestmark = pytest.mark.slow

# takes down an alarm


def test_an_alarm_taken_down_stands_in_the_log_and_is_raised_anew(insider: Insider) -> None:
    backup = insider.copy_database()
    insider.sign()
    insider.restore_database(backup)
    assert insider.refused() == "log-set-back"
    insider.act("delete from ledger_alarm")
    assert Client().get("/readyz").status_code == 200
    assert insider.told("log-set-back") == 1
    assert insider.refused() == "log-set-back"
    assert insider.alarms() == ["log-set-back"]
    assert Client().get("/readyz").json()["alarms"] == ["log-set-back"]


# gives himself an account by hand, or reads tables and files past it


def test_what_an_account_made_by_hand_reads_is_recorded_and_what_is_read_past_it_is_not(insider: Insider) -> None:
    # By SQL, past every command that would record it.
    made = User.objects.create(email="me@shop.example", role="admin")
    ApiToken.objects.create(user=made, token_hash=access.token_hash("tsu_mine"))
    before = insider.rows("select size from ledger_head")
    assert len(insider.act("select statement from ledger_journal")) == 6
    assert insider.rows("select size from ledger_head") == before
    mine = Client(headers={"authorization": "Bearer tsu_mine"})
    assert len(mine.get("/api/v1/events?q=kind:query").json()["items"]) == 6
    checkpoints.checkpoint()
    (read,) = [
        actor for (actor,) in insider.rows("select actor from ledger_journal") if b"me@shop.example" in bytes(actor)
    ]
    assert msgspec.json.decode(read)["decision"]["type"] == "evidence_read"
    assert insider.told("me@shop.example") == 0
    assert faults() == ""
