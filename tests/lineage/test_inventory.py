"""The inventory: databases that nobody watches are said, what is retired is told apart, and each import is a record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from lineage import access, queries
from tests import story
from tests.lineage.test_custody_pages import decisions, page, signed_in
from tests.lineage.test_pages import NOW, Markup, plain

pytestmark = pytest.mark.slow

AUDITOR = access.Viewer("a@example.org", "auditor")
CSV = 'datasource,environment,system,state,note\norders-prod,production,PostgreSQL 15,,\nwarehouse,production,PostgreSQL 16,active,"line one\nline two"\nold-crm,production,,retired,gone since May\n'  # noqa: E501
JSON = '[{"datasource": "warehouse", "environment": "production", "state": "retired", "note": null}]'


def load(kind: str, path: Path, text: str, as_of: str = "2026-01-01T00:00:00Z") -> None:
    path.write_text(text)
    call_command("reference", "import", kind, str(path), as_of=as_of)


def states() -> dict[str, str]:
    return {row["datasource"]: row["state"] for row in queries.datasources(AUDITOR).items}


def test_a_database_of_the_inventory_without_a_source_is_shown_first_and_red(store: str, tmp_path: Path) -> None:
    story.tell(NOW)
    auditor = signed_in("auditor")
    assert "No inventory is imported" in page(auditor, "/databases/")
    assert states() == {"orders-prod": "reporting", "shop-simulated": "reporting"}
    load("databases", tmp_path / "inventory.csv", CSV)
    assert list(states().items()) == [
        ("warehouse", "no source"), ("orders-prod", "reporting"), ("shop-simulated", "not in the inventory"), ("old-crm", "retired"),
    ]  # fmt: skip
    html = page(auditor, "/databases/")
    assert Markup(html).risky == []
    assert "of 1 in the inventory nothing is recorded" in plain(html)
    assert "--environment production --datasource warehouse" in plain(html)
    load("databases", tmp_path / "later.json", JSON, "2026-02-01T00:00:00Z")
    assert states()["warehouse"] == "retired"
    story.source("wh", datasource="warehouse")
    story.source("crm2", datasource="crm2")
    assert states()["crm2"] == "nothing received"
    told = decisions("inventory warehouse")
    assert "state: active → retired" in told[0]
    assert len(decisions("reference databases")) == 2
    load("databases", tmp_path / "again.json", JSON, "2026-03-01T00:00:00Z")
    assert len(decisions("inventory warehouse")) == 2


def test_owners_of_a_table_stand_before_those_of_its_database(store: str, tmp_path: Path) -> None:
    story.tell(NOW)
    head = "datasource,relation,id,name,email\n"
    load(
        "owners",
        tmp_path / "a.csv",
        f"{head}orders-prod,,lea@shop.example,Lea,\n"
        "orders-prod,public.payments,pia@shop.example,Pia,pia@shop.example\n",
    )
    auditor = signed_in("auditor")
    assert "Its owner: Pia (pia@shop.example)." in plain(page(auditor, "/tables/orders-prod/public.payments/"))
    assert "s owner: Lea." in plain(page(auditor, "/tables/orders-prod/public.customers/"))
    load(
        "owners",
        tmp_path / "b.csv",
        f"{head}orders-prod,public.payments,quin@shop.example,Quin,\n",
        "2026-02-01T00:00:00Z",
    )
    assert [one["name"] for one in queries.owners(AUDITOR, "orders-prod", "public.payments")] == ["Quin"]
    assert "owners: pia@shop.example → quin@shop.example" in decisions("owner orders-prod public.payments")[0]


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("databases", "datasource\nx\n", "needs datasource and environment"),
        ("databases", "datasource,environment,state\nx,y,asleep\n", "state is active or retired"),
        ("databases", f"datasource,environment\n{'x' * 201},y\n", "more than 200 characters"),
        ("databases", "datasource,environment\nx\0,y\n", "NUL"),
        ("owners", "datasource,relation,id\nx,bare,y\n", "relation is schema.table"),
        ("tickets", "x\ny\n", "the column x is not known"),
    ],
)
def test_a_wrong_file_is_refused_whole_and_says_what_to_do(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, text: str, says: str
) -> None:
    with pytest.raises(SystemExit):
        load(kind, tmp_path / "bad.csv", f"{text}")
    assert says in capsys.readouterr().err
    assert queries.inventory(AUDITOR) == []
    assert decisions("reference") == []


def test_another_team_does_not_see_the_inventory_of_ours(store: str, tmp_path: Path) -> None:
    story.tell(NOW)
    load("databases", tmp_path / "inventory.csv", CSV)
    load("owners", tmp_path / "a.csv", "datasource,relation,id,name,email\nold-crm,,lea@shop.example,Lea,\n")
    stranger: dict[str, Any] = {"datasources": ["elsewhere"]}
    html = page(signed_in("auditor", **stranger), "/databases/")
    assert "warehouse" not in html
    assert "old-crm" not in html
    viewer = access.Viewer("s@example.org", "auditor", ("elsewhere",))
    assert (queries.inventory(viewer), queries.owners(viewer, "old-crm")) == ([], [])
