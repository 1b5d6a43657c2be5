"""Kinds whose population no connected source can supply: named with the reason, and refused on pages, commands and schedules."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.test import Client

from lineage import errors
from lineage.access import Viewer
from lineage.models import Identity, Source, User
from reports import available, issuing, planning, requests
from reports.evidence import Request
from reports.models import Report, Schedule
from reports.schedules import Wanted
from tests.reports.test_issuing import AUDITOR, DAY, NEXT

pytestmark = pytest.mark.usefixtures("store")
CARLA = Viewer(email="carla@example.test", role="compliance")


def test_without_a_source_there_is_only_what_the_log_says_of_itself() -> None:
    assert {"integrity"}.isdisjoint(available.lacking(AUDITOR))
    assert "no source is connected" in available.lacking(AUDITOR)["log-coverage"]
    assert "privileged-access" in available.lacking(AUDITOR)


def test_what_sources_may_tell_decides_which_kinds_there_are() -> None:
    Source.objects.create(name="log", format="postgres-csvlog", environment="prod", datasource="orders")
    assert {"privileged-access", "log-coverage"}.isdisjoint(available.lacking(AUDITOR))
    assert "approvals" in available.lacking(AUDITOR)["approvals"]
    assert "agents" in available.lacking(AUDITOR)
    Source.objects.create(name="desk", format="events", environment="prod", asserts=["approval"])
    Identity.objects.create(datasource="orders", db_user="bot", person_id="bot", name="Bot", type="agent", as_of=DAY)
    assert {"approvals", "agents"}.isdisjoint(available.lacking(AUDITOR))
    assert {"approvals", "privileged-access"} <= set(available.lacking(AUDITOR, "test"))
    assert "agents" in available.lacking(Viewer("x@other.test", "auditor", datasources=("elsewhere",)))


def test_a_kind_that_is_not_available_is_refused_everywhere_and_nothing_is_queued() -> None:
    Source.objects.create(name="log", format="postgres-csvlog", environment="prod", datasource="orders")
    with pytest.raises(errors.KindUnavailable, match="no connected source tells of approvals"):
        requests.ask(AUDITOR, Request("approvals", DAY, NEXT))
    with pytest.raises(errors.KindUnavailable):
        planning.add(CARLA, "monthly", Wanted("approvals", "monthly"))
    user = User.objects.create(email=AUDITOR.email, role="auditor")
    client = Client()
    client.force_login(user)
    answer = client.post("/reports/ask", {"kind": "approvals", "from": "2026-11-20", "to": "2026-11-21"})
    assert answer.status_code == 422
    assert not Report.objects.exists()
    assert not Schedule.objects.exists()
    page = client.get("/reports/").content.decode()
    assert '<option value="approvals"' not in page
    assert "Approvals and segregation of duties: no connected source tells of approvals" in page
    items = {item["id"]: item for item in client.get("/api/v1/reports/kinds").json()["items"]}
    assert (items["privileged-access"]["available"], items["privileged-access"]["reason"]) == (True, "")
    assert "tells of approvals" in items["approvals"]["reason"]
    told = StringIO()
    call_command("report", "kinds", stdout=told)
    lines = dict(line.split("\t") for line in told.getvalue().splitlines())
    assert lines["approvals"].startswith("not available from these sources: no connected source tells of approvals")
    assert lines["privileged-access"].endswith("?")


def test_an_auditors_request_is_about_one_control_that_its_sources_can_supply() -> None:
    Source.objects.create(name="log", format="postgres-csvlog", environment="prod", datasource="orders")
    for wrong in ("", "soc2/CC99", "nothing", "soc2"):
        with pytest.raises(errors.QueryInvalid, match="Name one control"):
            requests.ask(AUDITOR, Request("auditor-request", DAY, NEXT, control=wrong))
    with pytest.raises(errors.QueryInvalid, match="tests of its own"):
        requests.ask(AUDITOR, Request("privileged-access", DAY, NEXT, control="soc2/CC8.1"))
    with pytest.raises(errors.KindUnavailable, match="no column is classified"):
        requests.ask(AUDITOR, Request("auditor-request", DAY, NEXT, control="sensitive-data-access"))
    with pytest.raises(errors.QueryInvalid):
        planning.add(CARLA, "monthly", Wanted("auditor-request", "monthly"))
    assert not Report.objects.exists()
    one = requests.ask(AUDITOR, Request("auditor-request", DAY, NEXT, control="soc2/CC8.1"))
    assert [test.id for test in issuing.request_of(one).tests] == [
        "schema-and-rights-changes", "direct-data-changes", "released-statements",
    ]  # fmt: skip
    assert one.number.startswith("AR-")
    with pytest.raises(errors.QueryInvalid, match="known: iso-27001, pci-dss, soc2"):
        requests.ask(AUDITOR, Request("privileged-access", DAY, NEXT, framework="soc1"))
    named = requests.ask(AUDITOR, Request("privileged-access", DAY, NEXT, framework="pci-dss"))
    assert issuing.request_of(named).framework == "pci-dss"
