"""A seat that ends, or reaches less far, while something is sent or looked at again and again: nothing more comes."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from lineage import access, errors, exports, queries
from lineage.access import Viewer
from lineage.models import User
from tests import story
from tests.lineage.test_narrowed import refusals

pytestmark = pytest.mark.slow

POLLED = ("/overview/live/", "/approvals/live/", "/sessions/live/rows/", "/integrity/seal/", "/search?q=op:read")
ENDS: tuple[dict[str, Any], ...] = (
    {"is_active": False},
    {"ends_at": timezone.now() - dt.timedelta(minutes=1)},
    {"role": "operator"},
    {"datasources": ["elsewhere"]},
)


def test_an_export_under_way_stops_where_its_readers_seat_does(store: str) -> None:
    story.tell(timezone.now())
    asked = exports.Asked("op:read", "event", queries.Window(), "csv", timezone.now())
    for number, end in enumerate(ENDS):
        user = story.person(f"a{number}@audit.example")
        coming = exports.Export(access.viewer_of(user), asked).sent(access.check_still)
        first = next(coming)
        User.objects.filter(pk=user.pk).update(**end)
        with pytest.raises(errors.SeatEnded):
            b"".join(coming)
        assert b"PK\x05\x06" not in first, "what came is no whole ZIP"
        assert refusals(user.email) == ["401 seat-ended"]
    user = story.person("whole@audit.example")
    client = Client()
    client.force_login(user)
    answer = client.get("/search/export?q=op:read&by=event")
    coming = iter(answer.streaming_content)
    next(coming)
    User.objects.filter(pk=user.pk).update(is_active=False)
    with pytest.raises(errors.SeatEnded):
        b"".join(coming)
    exported = queries.events(Viewer("root@command-line", "admin"), "kind:custody source:touchstone", limit=100).items
    assert not [one for one in exported if one["custody"]["type"] == "export"], "nothing is said to have been exported"


def test_pages_that_ask_again_and_again_get_nothing_after_the_seat_has_ended(store: str) -> None:
    story.tell(timezone.now())
    for name, end in (
        ("closed", {"is_active": False}),
        ("ended", {"ends_at": timezone.now() - dt.timedelta(seconds=1)}),
    ):
        user = story.person(f"{name}@audit.example")
        client = Client()
        client.force_login(user)
        assert [client.get(path).status_code for path in POLLED] == [200] * len(POLLED)
        User.objects.filter(pk=user.pk).update(**end)
        for path in POLLED:
            answer = client.get(path)
            assert (answer.status_code, answer.content) == (302, b"")
            assert answer["Location"].startswith("/accounts/login/")
        assert ("401 seat-ended" in refusals(user.email)) == (name == "ended"), "a closed one is nobody's any more"
