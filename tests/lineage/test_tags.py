"""Classes of columns: set with a reason and a record, found by the search, seen within scope only."""

from __future__ import annotations

import datetime as dt
import json

import pytest
from django.test import Client

from lineage import errors, queries, tagging
from lineage.access import Viewer
from lineage.models import Tag
from tests import story

pytestmark = pytest.mark.slow

NOW = dt.datetime.now(dt.UTC)
ALL = Viewer("audit@example.test", "auditor")
SIGRID = Viewer("sigrid@example.test", "security")
STRANGER = Viewer("x@else.example", "security", ("elsewhere",))
PLACE = ("orders-prod", "public.customers", "email")


def test_a_tag_is_set_with_a_record_found_by_the_search_and_shown_with_its_history(store: str) -> None:
    desk = story.source()
    story.send(
        desk,
        story.query("q1", NOW, story.OMAR, "select email from customers", "read"),
        story.query("q2", NOW, story.OMAR, "select 1 from payments", "read"),
    )
    assert queries.events(ALL, "tag:email").items == []
    assert tagging.establish(SIGRID, *PLACE, "email, contact", "they are addresses") == ["contact", "email"]
    assert tagging.establish(SIGRID, *PLACE, "email", "contact says nothing more") == ["email"]
    for by, ask in (("event", queries.events), ("touch", queries.touches)):
        (found,) = ask(ALL, "tag:email").items
        assert found["index"] == 0, by
    assert [row["index"] for row in queries.events(ALL, "kind:query -tag:email").items] == [1]
    told = queries.tag_history(ALL, *PLACE[:2])
    assert [(row["by"], row["column"], row["transition"]) for row in told] == [
        ("sigrid@example.test", "email", "contact email → email"),
        ("sigrid@example.test", "email", "not tagged → contact email"),
    ]
    assert queries.tags_of(ALL, *PLACE[:2])["email"]["classes"] == ["email"]
    assert queries.tags(STRANGER) == []
    assert queries.tag_history(STRANGER, *PLACE[:2]) == []
    client = Client()
    client.force_login(story.person("sigrid@example.test", "security"))
    address = "/tables/orders-prod/public.customers/tags/"
    form = {"column": "email", "classes": "none", "reason": "<b>only hashes</b>"}
    assert client.post(address, form).status_code == 302
    page = client.get(address).content.decode()
    assert "&lt;b&gt;only hashes&lt;/b&gt;" in page
    assert "email → none" in page
    assert queries.events(ALL, "tag:email").items == []
    client.force_login(story.person("x@else.example", "security", datasources=["elsewhere"]))
    assert client.get(address).status_code == 404
    assert client.post(address, form).status_code == 404


@pytest.mark.parametrize(
    ("viewer", "classes", "reason", "code"),
    [
        (ALL, "email", "why", "access-denied"),
        (STRANGER, "email", "why", "not-found"),
        (SIGRID, "Email!", "why", "tag-invalid"),
        (SIGRID, "none email", "why", "tag-invalid"),
        (SIGRID, "email", " ", "tag-invalid"),
    ],
)
def test_a_refused_tag_changes_nothing_and_is_recorded(
    store: str, viewer: Viewer, classes: str, reason: str, code: str
) -> None:
    with pytest.raises(errors.TouchstoneError) as refused:
        tagging.establish(viewer, *PLACE, classes, reason)
    assert refused.value.code == code
    assert not Tag.objects.exists()
    (record,) = queries.events(ALL, "kind:decision source:touchstone").items
    assert record["decision"]["transition"] == "refused"
    assert record["purpose"] == code


def test_a_change_of_many_long_classes_is_told_whole(store: str) -> None:
    many = [f"{chr(97 + n)}{'x' * 39}" for n in range(20)]
    tagging.establish(SIGRID, *PLACE, " ".join(many), "all of them")
    tagging.establish(SIGRID, *PLACE, " ".join(many[:-1]), "one less")
    record = queries.events(SIGRID, "kind:decision source:touchstone").items[0]
    assert json.loads(record["statement"]) == {"old": many, "new": many[:-1]}
