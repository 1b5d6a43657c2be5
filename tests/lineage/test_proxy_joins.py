"""The database session behind a proxy's session: named exactly, or nobody is."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest

from lineage import access, ingest, queries
from lineage.models import Source
from tests.lineage.sources import test_teleport as teleport
from tests.lineage.test_queries import ALL, Feed, emit, feed, settle

pytestmark = pytest.mark.slow

__all__ = ["feed", "settle"]
BEGAN = 0x6B00F8AC
PID = 0x7F28
SESSION = f"{BEGAN:x}.{PID:x}"
UPDATE = "update customers set email = 'b@x' where id = 4711"
Proxy = Callable[..., int]


def at(seconds: int) -> str:
    return f"{dt.datetime.fromtimestamp(BEGAN + seconds, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture
def proxy(feed: Feed) -> Proxy:
    """Sends Teleport's session start, and what else is given, for a session id."""
    Source.objects.create(
        name="tp", format="teleport", environment="prod", datasource="orders", asserts=["actor", "approval"],
        token_hash=access.token_hash("tp"),
    )  # fmt: skip

    def send(sid: str = "tp-1", seconds: int = 1, **more: Any) -> int:
        record = {**teleport.START, "uid": f"{sid}-{more.get('event', '')}-{feed.count}", "sid": sid, "time": at(seconds), "db_user": "app",
                  "postgres_pid": PID, **more}  # fmt: skip
        feed.count += 1
        (item,) = ingest.accept(Source.objects.get(name="tp"), json.dumps(record).encode()).items
        assert item.index is not None, item
        return item.index

    return send


def changed() -> dict[str, Any]:
    (found,) = queries.row(ALL, "orders", "public.customers", "4711")["changed"]
    return dict(found)


@pytest.mark.parametrize("first", ["proxy", "log"])
def test_lines_and_changes_of_the_session_behind_a_proxys_take_its_person(
    feed: Feed, proxy: Proxy, settle: Callable[[str], None], first: str
) -> None:
    named = proxy() if first == "proxy" else None
    line = feed.statement(UPDATE, user="app", xid="77", session=SESSION)
    settle("early")
    feed.change("77")
    other = feed.statement("select 1 from customers", user="app", session="6b00f8ac.7f29", op="read")
    named = proxy() if named is None else named
    settle("late")
    row = changed()
    assert (row["who_id"], row["attribution"], row["attribution_index"], row["session"], row["db_user"]) == (
        "dana@shop.example", "asserted_by_proxy", named, "orders~tp-1", "app",
    )  # fmt: skip
    rows = {r["index"]: r for r in queries.events(ALL, "kind:query").items}
    assert (rows[line]["who_id"], rows[line]["flags"]) == ("dana@shop.example", [])
    assert (rows[other]["who_id"], rows[other]["attribution"]) == ("app", "db_login")


@pytest.mark.parametrize(
    "unlike",
    [
        {"seconds": 301}, {"seconds": -301}, {"db_user": "orders_api"}, {"db_user": ""}, {"postgres_pid": PID + 1}, {"postgres_pid": 0},
        {"success": False, "code": "TDB00W"},
    ],
)  # fmt: skip
def test_what_does_not_name_the_session_exactly_names_nobody(feed: Feed, proxy: Proxy, unlike: dict[str, Any]) -> None:
    proxy(**unlike)
    feed.statement(UPDATE, user="app", xid="77", session=SESSION)
    feed.change("77")
    assert (changed()["who_id"], changed()["attribution"]) == ("app", "db_login")


def test_where_two_fit_nobody_is_named(feed: Feed, proxy: Proxy) -> None:
    feed.statement(UPDATE, user="app", xid="77", session=SESSION)
    feed.change("77")
    proxy()
    assert changed()["who_id"] == "dana@shop.example"
    second = proxy(sid="tp-2", user="omar@shop.example")
    assert changed()["who_id"] == "app"
    assert second
    feed.statement("select 1 from orders", user="app", session=f"{BEGAN + 60:x}.{PID:x}", op="read")
    assert changed()["who_id"] == "app"


def test_a_token_that_may_not_name_people_joins_nothing_and_a_believed_message_outranks_the_proxy(
    feed: Feed, proxy: Proxy
) -> None:
    Source.objects.filter(name="tp").update(asserts=[])
    feed.statement(UPDATE, user="orders_api", xid="77", session=SESSION)
    feed.change("77")
    proxy(db_user="orders_api")
    assert changed()["who_id"] == "orders_api"
    Source.objects.filter(name="tp").update(asserts=["actor", "approval"])
    proxy(sid="tp-9", db_user="orders_api")
    assert changed()["who_id"] == "dana@shop.example"
    feed.claim("77", "lea@shop.example")
    feed.statement(emit("lea@shop.example"), user="orders_api", xid="77", session=SESSION, op="read")
    assert (changed()["who_id"], changed()["attribution"], changed()["session"]) == (
        "lea@shop.example",
        "context_message",
        "orders~tp-9",
    )


def test_an_address_and_the_servers_own_session_id_name_a_session_too(feed: Feed) -> None:
    own = Source.objects.create(
        name="own",
        format="events",
        environment="prod",
        datasource="orders",
        asserts=["actor"],
        token_hash=access.token_hash("own"),
    )
    begun = {"kind": "session", "op": "session", "session": {"phase": "start"}, "occurred_at_quality": "source"}
    feed.statement("select 1 from a", user="app", session=SESSION, op="read", client={"ip": "10.0.0.7", "port": 53124})
    feed.statement(
        "select 1 from b", user="app", session="6b00f8ad.1", op="read", client={"ip": "10.0.0.7", "port": 53125}
    )
    feed.statement("select 1 from c", user="app", session="s-plain", op="read")
    for sid, named in (("p-1", "client:10.0.0.7:53124"), ("p-2", "s-plain")):
        feed.send(own, **begun, session_id=sid, db_session_id=named, actor={"id": f"{sid}@x.example", "db_user": "app"},
                  occurred_at=f"{at(2)[:-1]}.000000Z")  # fmt: skip
    rows = {r["statement"][-1]: r["who_id"] for r in queries.events(ALL, "kind:query").items}
    assert rows == {"a": "p-1@x.example", "b": "app", "c": "p-2@x.example"}


def test_a_line_that_the_proxy_told_too_is_counted_once_and_every_other_line_counts(feed: Feed, proxy: Proxy) -> None:
    proxy()
    for number in range(2):
        proxy(event="db.session.query", code="TDB02I", db_query=UPDATE, ei=number + 1)
    lines = [feed.statement(UPDATE, user="app", session=SESSION) for _ in range(3)]
    lines.append(feed.statement("delete from orders", user="app", session=SESSION, op="delete"))
    elsewhere = feed.statement(UPDATE, user="app", session="6b00f8ff.1")
    rows = {r["index"]: r["flags"] for r in queries.events(ALL, "source:log").items}
    assert sum("seen_by_gateway" in rows[index] for index in lines[:3]) == 2
    assert (rows[lines[3]], rows[elsewhere]) == ([], [])
    found = queries.session(ALL, "orders~tp-1")
    assert found["lines"] == 2
