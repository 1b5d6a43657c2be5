"""The first page: each number agrees with its list, in the same window and environment, and keeps to the viewer's scope."""

from __future__ import annotations

import datetime as dt
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client

from lineage import queries, tagging
from lineage.access import Viewer
from lineage.models import User
from reports import schedules
from tests import story
from tests.lineage.test_pages import Markup, page, plain, signed_in

pytestmark = pytest.mark.slow

NOW = dt.datetime.now(dt.UTC)
ALL = Viewer(email="audit@example.test", role="auditor")
STRANGER = Viewer(email="x@other.test", role="auditor", datasources=("elsewhere",))
DAY = queries.Window(since=NOW - dt.timedelta(days=1), environment="production")


@pytest.fixture
def told(store: str) -> dict[str, int]:
    names = story.tell(NOW)
    carla = Viewer(email="carla@compliance.example", role="compliance")
    tagging.establish(carla, "orders-prod", "public.customers", "email", "contact", "how to reach people")
    return names


def numbers(html: str) -> dict[str, tuple[str, str]]:
    """The five numbers: name to (address of the list, number)."""
    found = re.findall(r"<dt>([^<]+)</dt><dd><a href=\"([^\"]+)\">([^<]+)</a>", html)
    return {name: (address.replace("&amp;", "&"), number) for name, address, number in found}


def test_every_number_of_the_overview_leads_to_its_list_with_the_same_window(told: dict[str, int]) -> None:
    auditor = signed_in(story.person())
    html = page(auditor, "/?since=24h&environment=production")
    found = numbers(html)
    assert list(found) == ["Sensitive accesses", "Refused", "AI agents", "First time on a table", "Open findings"]
    for name, (address, _) in found.items():
        assert parse_qs(urlsplit(address).query)["since"] == ["24h"], name
        assert parse_qs(urlsplit(address).query)["environment"] == ["production"], name
        page(auditor, address)
    assert [found[name][1] for name in ("Refused", "AI agents", "First time on a table")] == ["1", "1", "6"]
    assert found["Sensitive accesses"][1] == "2"
    assert plain(page(auditor, found["Sensitive accesses"][0])).count("2 records in the last 24 hours") == 2
    assert plain(page(auditor, found["Refused"][0])).count("1 record in the last 24 hours") == 2
    assert re.search(
        rf"{found['Open findings'][1]} open findings? in the last 24 hours", page(auditor, found["Open findings"][0])
    )
    assert "6 first accesses of an identity to a table in the last 24 hours" in plain(
        page(auditor, found["First time on a table"][0])
    )
    assert "charts" not in html
    assert html.count('class="plot"') == html.count("Show as table") == 2
    assert Markup(html).risky == []


def test_a_first_access_is_one_that_nothing_earlier_precedes(told: dict[str, int]) -> None:
    items = queries.firsts(ALL, DAY).items
    assert {(i["who_id"], i["relation"]) for i in items} == {
        ("dana@shop.example", "public.customers"), ("omar@shop.example", "public.payments"), ("orders-api", "public.orders"),
        ("report-bot", "public.orders"), ("report-bot", "public.customers"), ("dana@shop.example", "public.salaries"),
    }  # fmt: skip
    assert next(i["accesses"] for i in items if i["who_id"] == "orders-api") == 30
    simulated = queries.Window(since=NOW - dt.timedelta(days=30), environment="simulated")
    assert queries.firsts(ALL, simulated).items == []
    assert [i["who_id"] for i in queries.firsts(ALL, queries.Window(environment="simulated")).items] == [
        "dana@shop.example"
    ]
    assert queries.firsts(STRANGER).items == []
    assert queries.overview(STRANGER)["firsts"] == 0


def test_first_accesses_are_paged_without_loss_or_repetition(told: dict[str, int]) -> None:
    seen, cursor = [], None
    while True:
        answer = queries.firsts(ALL, DAY, 1, cursor)
        seen += [(i["who_id"], i["relation"]) for i in answer.items]
        cursor = answer.next
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == answer.total.value == 6


def test_agents_are_counted_with_and_without_a_person_behind(store: str) -> None:
    to = story.source()
    someone = {"on_behalf_of": {"id": "dana@shop.example"}}
    story.send(
        to,
        story.query("a", NOW, story.BOT, "SELECT 1 FROM public.orders", "read", **someone),
        story.query(
            "b", NOW, {**story.BOT, "id": "loose-bot", "name": "loose-bot"}, "SELECT 1 FROM public.orders", "read"
        ),
    )
    counts = queries.overview(ALL)
    assert (counts["agents"], counts["agents_with_person"], counts["agents_alone"]) == (2, 1, 1)
    html = page(signed_in(story.person()), "/")
    assert "1 for nobody known" in plain(html)
    address = next(a for a in Markup(html).links if "-for" in a)
    assert plain(page(Client(), address, 302)) == ""
    assert "loose-bot" in page(signed_in(User.objects.get()), address)


def test_reports_that_are_due_are_told_to_those_who_may_see_them(told: dict[str, int]) -> None:
    planner = Viewer(email="carla@compliance.example", role="compliance")
    schedules.add(planner, "Privileged, monthly", "privileged-access", "monthly")
    carla = signed_in(story.person("carla@compliance.example", "compliance"))
    assert "due Privileged, monthly" in re.sub(r"\s+", " ", plain(page(carla, "/")))
    assert "None that you may see is due" in plain(page(signed_in(story.person()), "/"))


def test_the_live_part_brings_numbers_charts_and_newest_accesses_again(told: dict[str, int]) -> None:
    html = page(signed_in(story.person()), "/overview/live/?environment=production")
    assert numbers(html)["Refused"][1] == "1"
    for part in ("newest", "data-activity", "table-activity", "data-verdicts", "table-verdicts"):
        assert re.search(rf'id="{part}"[^>]* hx-swap-oob="true"', html), part
    assert "hx-swap-oob" not in page(signed_in(User.objects.get()), "/")
