"""A database user who wants another to be blamed, and a reader who wants to see more: what they try, and get."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lineage import errors, packfile, packs, queries
from lineage.access import Viewer
from lineage.models import Identity, Source
from tests.lineage.test_queries import ALL, OPERATOR, Feed, emit, seal_now, value

pytestmark = pytest.mark.slow
ELSEWHERE = Viewer(email="x@other.test", role="auditor", datasources=("elsewhere",))
ORDERS = Viewer(email="o@other.test", role="auditor", datasources=("orders",))


@pytest.fixture
def feed(store: str) -> Feed:
    return Feed()


def native(name: str = "native", datasource: str = "orders", environment: str = "prod", **more: Any) -> Source:
    return Source.objects.create(name=name, format="events", environment=environment, datasource=datasource, **more)


def changed(key: str = "4711", viewer: Viewer = ALL) -> dict[str, Any]:
    (found,) = queries.row(viewer, "orders", "public.customers", key)["changed"]
    return dict(found)


def test_a_function_that_emits_inside_a_trusted_transaction_frames_nobody(feed: Feed) -> None:
    feed.claim("90", "dana@shop.example")
    feed.claim("90", "ceo@shop.example")
    feed.change("90")
    feed.statement(emit("dana@shop.example"), user="orders_api", op="read", xid="90")
    feed.statement("select innocent()", user="orders_api", op="read", xid="90")
    assert changed()["who_id"] == "dana@shop.example"


def test_a_message_from_inside_a_trigger_is_no_proof(feed: Feed) -> None:
    feed.claim("90", "ceo@shop.example")
    feed.change("90")
    line = {
        "kind": "query",
        "op": "read",
        "verdict": "allowed",
        "actor": {"db_user": "orders_api"},
        "db_session_id": "s",
    }
    for place, text in ((1, "update customers set email = 'x' where id = 4711"), (2, emit("ceo@shop.example"))):
        feed.send(feed.log, **line, transaction={"id": "90"}, correlation_id=f"s/5.{place}",
                  statement={"text": text, "state": "whole"})  # fmt: skip
    assert (changed()["who_id"], "suspected_forgery" in changed()["flags"]) == ("orders_api", True)


def test_two_claims_are_not_mixed_into_one_person(feed: Feed) -> None:
    feed.claim("90", "bot@shop.example", on_behalf_of={"id": "ceo@shop.example"})
    feed.claim("90", "dana@shop.example")
    feed.change("90")
    feed.statement(emit("bot@shop.example", on_behalf_of="ceo@shop.example"), user="orders_api", op="read", xid="90")
    feed.statement(emit("dana@shop.example"), user="orders_api", op="read", xid="90")
    assert (changed()["who_id"], changed()["on_behalf_of"]) == ("dana@shop.example", None)


def test_a_native_source_without_the_right_neither_claims_nor_proves_nor_joins(feed: Feed) -> None:
    fake = native()
    feed.change("77")
    feed.statement("update customers set email = 'b@x' where id = 4711", user="bob", xid="77")
    feed.statement(emit("dana@shop.example"), user="orders_api", op="read", xid="77", session="s-bob")
    feed.send(fake, kind="query", op="other", command="CONTEXT MESSAGE", transaction={"id": "77"}, flags=["claim"],
              actor={"id": "dana@shop.example", "type": "human"})  # fmt: skip
    assert changed()["who_id"] == "bob"
    feed.change("78", key="1")
    feed.send(fake, kind="query", op="update", verdict="allowed", actor={"db_user": "ceo"}, db_session_id="s-ceo",
              transaction={"id": "78"}, statement={"text": "update customers set a = 1", "state": "whole"})  # fmt: skip
    assert changed("1")["who_id"] is None
    feed.send(fake, kind="change", op="update", verdict="allowed", transaction={"id": "77"}, key=[value("id", "2")],
              resources=[{"schema": "public", "relation": "customers"}])  # fmt: skip
    assert (changed("2")["who_id"], changed("2")["flags"]) == (None, ["unauthorised_assertion"])


def test_the_same_transaction_id_in_another_environment_joins_nothing(feed: Feed) -> None:
    staging = Source.objects.create(name="s", format="postgres-csvlog", environment="staging", datasource="orders")
    feed.change("77")
    feed.send(staging, kind="query", op="update", verdict="allowed", actor={"db_user": "intern"}, db_session_id="s-i",
              transaction={"id": "77"}, statement={"text": "update customers set a = 1", "state": "whole"})  # fmt: skip
    assert changed()["who_id"] is None


def test_transaction_id_0_joins_nothing(feed: Feed) -> None:
    feed.statement("update customers set email = 'b@x' where id = 4711", user="bob", xid="0")
    feed.change("0")
    assert changed()["who_id"] is None


def test_a_rollback_to_a_savepoint_hides_no_write(feed: Feed) -> None:
    feed.statement("update customers set email = 'x' where id = 4711", xid="77", vid="3/9")
    feed.statement("/* */ ROLLBACK WORK TO SAVEPOINT a", op="other", xid="77", vid="3/9", command="ROLLBACK")
    assert [e["outcome"] for e in queries.row(ALL, "orders", "public.customers", "4711")["uncertain"]] == ["unknown"]


def test_roles_grants_and_settings_of_other_databases_are_not_shown(feed: Feed) -> None:
    state = Source.objects.create(name="st", format="pgstate", environment="prod", datasource="elsewhere")
    feed.send(state, kind="state", state={"roles": [{"name": "bob", "superuser": True}],
              "grants": [{"grantee": "bob", "privilege": "SELECT", "schema": "public", "relation": "customers"}]})  # fmt: skip
    feed.statement("select * from customers", op="read")
    assert queries.identity(ORDERS, "bob")["state"] == []
    assert [r["superuser"] for r in queries.identity(ALL, "bob")["state"]] == [True]
    staging = Viewer(email="s@x", role="auditor", environments=("staging",))
    assert queries.holders(staging, "elsewhere", "public.customers")["grants"] == []
    assert len(queries.holders(ELSEWHERE, "elsewhere", "public.customers")["grants"]) == 1


def test_a_state_that_its_source_may_not_assert_grants_nothing(feed: Feed) -> None:
    feed.send(native(), kind="state", state={"roles": [{"name": "bob", "superuser": True}]})
    feed.statement("select * from customers", op="read")
    assert queries.identity(ALL, "bob")["state"] == []


def test_a_narrow_auditor_sees_the_approval_of_a_ticket_that_accesses_in_scope_cite(feed: Feed) -> None:
    desk = Source.objects.create(name="desk", format="events", environment="office", asserts=["actor", "approval"])
    for ticket in ("OPS-1", "OPS-2"):
        feed.send(desk, kind="decision", ticket=ticket, decision={"type": "approval"},
                  approval={"state": "approved", "approvers": ["lea"], "requested_by": "omar"})  # fmt: skip
    feed.statement("select * from customers", op="read", ticket="OPS-1")
    for viewer in (ORDERS, ALL):
        found = {a["ticket"]: a["state"] for a in queries.approvals(viewer, "db_user:bob or relation:x").items}
        assert found == {"OPS-1": "good"}
    assert queries.approvals(ELSEWHERE).items == []
    assert {a["ticket"] for a in queries.approvals(ORDERS).items} == {"OPS-1"}


def test_who_sees_no_values_cannot_search_for_them(feed: Feed) -> None:
    feed.change("1")
    for q in ("before.email:a@x", "after.email:b*", "text:a", "b@x", "-(error:x or kind:query)"):
        with pytest.raises(errors.AccessDenied):
            queries.events(OPERATOR, q)
        with pytest.raises(errors.AccessDenied):
            queries.touches(OPERATOR, q)
    assert len(queries.events(OPERATOR, "relation:customers key:4711").items) == 1


def test_a_pack_for_a_narrow_viewer_holds_no_leaf_outside_their_scope(feed: Feed) -> None:
    other = Source.objects.create(name="secret", format="postgres-csvlog", environment="prod", datasource="elsewhere")
    inside = [feed.statement("select 1 from customers", op="read")]
    feed.send(other, kind="query", op="read", verdict="allowed", statement={"text": "select 1", "state": "whole"})
    inside.append(feed.statement("select 2 from customers", op="read"))
    seal_now()
    assert b"secret" not in packs.collect(ORDERS, "")
    assert sorted(packfile.read(packs.collect(ORDERS, "")).leaves) == inside


def test_every_table_and_every_touch_comes_once_over_all_pages(feed: Feed) -> None:
    tables = [{"schema": "public", "relation": f"t{n}"} for n in range(5)]
    feed.statement("select 1", op="read", resources=tables)
    feed.statement("select 2", op="read", resources=tables[:2])
    for question, limit in ((queries.relations, 2), (queries.touches, 3), (queries.touches, 1), (queries.events, 1)):
        seen: list[Any] = []
        cursor = None
        while True:
            page = question(ALL, "", limit=limit, cursor=cursor)
            assert len(page.items) <= limit
            seen += [(i.get("index"), i.get("relation")) for i in page.items]
            cursor = page.next
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == {"relations": 5, "touches": 7, "events": 2}[question.__name__]


def test_a_cursor_of_another_question_is_refused(feed: Feed) -> None:
    from lineage.queries.ask import make_cursor

    for last in (["a", "b"], "abc", [10**400], {"a": 1}, [1, -1], None):
        for question in (queries.events, queries.touches, queries.relations, queries.sessions, queries.identities):
            with pytest.raises(errors.QueryInvalid):
                question(ALL, cursor=make_cursor(5, last))  # type: ignore[arg-type]


def row(key: str) -> dict[str, Any]:
    return queries.row(ALL, "orders", "public.lines", key)


def line_change(feed: Feed, xid: str, order: str, line: str, **more: Any) -> int:
    key = [value("order_id", order), value("line", line)]
    return feed.send(feed.wal, kind="change", verdict="allowed", transaction={"id": xid}, key=key, after=key,
                     resources=[{"schema": "public", "relation": "lines"}], **({"op": "insert"} | more))  # fmt: skip


def test_a_read_by_part_of_a_composite_key_could_have_met_the_row(feed: Feed) -> None:
    line_change(feed, "1", "7", "a,b")
    feed.statement("select * from lines where order_id = 7", op="read", user="part")
    feed.statement("select * from lines where order_id = 8", op="read", user="other")
    feed.statement("select * from lines where order_id = 7 and line = 'a,b'", op="read", user="exact")
    feed.statement("select * from lines where order_id = 7 and line = 'c'", op="read", user="another")
    feed.statement("select * from nothing", op="read", verdict="error")
    found = row("7,a\\,b")
    assert [e["db_user"] for e in found["read"]] == ["exact"]
    assert [e["db_user"] for e in found["could_have_read"]] == ["part"]
    assert len(found["changed"]) == 1
    assert row("7")["read"] == []


def test_a_value_in_another_column_than_the_key_is_no_read_by_key(feed: Feed) -> None:
    feed.change("1")
    feed.statement("select * from customers where referrer_id = 4711", op="read")
    found = queries.row(ALL, "orders", "public.customers", "4711")
    assert (len(found["read"]), len(found["could_have_read"])) == (0, 1)


def test_a_truncate_and_a_write_beside_a_captured_one_stay_visible(feed: Feed) -> None:
    line_change(feed, "1", "7", "1")
    feed.statement("update lines set line = '2'", xid="2")
    feed.change("2")
    wiped = feed.send(feed.wal, kind="change", op="truncate", verdict="allowed", transaction={"id": "3"},
                      resources=[{"schema": "public", "relation": "lines"}])  # fmt: skip
    assert [(e["op"], e["kind"]) for e in row("7,1")["uncertain"]] == [("truncate", "change"), ("update", "query")]
    assert wiped in [e["index"] for e in row("7,1")["uncertain"]]


def test_a_failed_read_is_refused_and_not_read(feed: Feed) -> None:
    feed.change("1")
    feed.statement("select * from customers where id = 4711", op="read", verdict="error")
    found = queries.row(ALL, "orders", "public.customers", "4711")
    assert (len(found["read"]), len(found["refused"]), found["summary"]["reads"]) == (0, 1, 0)


def test_a_renamed_row_ends_under_its_old_key_and_begins_under_the_new(feed: Feed) -> None:
    line_change(feed, "1", "7", "1")
    old = [value("order_id", "7"), value("line", "1")]
    line_change(feed, "2", "7", "2", op="update", old_key=old, before=old)
    line_change(feed, "3", "7", "1")
    newest, renamed, first = row("7,1")["versions"]
    assert (first["renamed_to"], renamed["renamed_to"], newest["renamed_to"]) == (None, "7,2", None)
    assert newest["row"]["line"]["value"] == "1"
    assert [e["op"] for e in row("7,2")["changed"]] == ["update"]


@pytest.mark.parametrize("key", ["ключ", "a'b\"; drop table x; --", "%_*", "\\", ",", "4711\n"])
@pytest.mark.parametrize("relation", ['"; drop', "тест", "public.it's", "a b%"])
def test_names_and_keys_of_any_form_are_only_values(feed: Feed, key: str, relation: str) -> None:
    from lineage.events import key_text

    feed.send(feed.wal, kind="change", op="insert", verdict="allowed", transaction={"id": "1"}, key=[value("id", key)],
              resources=[{"relation": relation}], after=[value("id", key)])  # fmt: skip
    assert len(queries.row(ALL, "orders", relation, key_text([key]))["changed"]) == 1
    assert queries.relation(ALL, "orders", relation)["relation"]["touches"] == 1


def test_revoking_the_capture_source_makes_no_forger_of_the_past(feed: Feed) -> None:
    feed.claim("90", "dana@shop.example")
    feed.change("90")
    feed.statement(emit("dana@shop.example"), user="orders_api", op="read", xid="90")
    Source.objects.filter(name="wal").update(revoked_at="2026-11-21T00:00Z")
    assert changed()["attribution"] == "context_message"


def test_an_identity_of_one_database_is_not_one_of_another(feed: Feed) -> None:
    Identity.objects.create(
        datasource="elsewhere", db_user="bob", person_id="bob2", name="Other", as_of="2026-01-01T00:00Z"
    )
    feed.statement("select 1 from customers", op="read")
    assert json.dumps(queries.identities(ALL).items, default=str).count("Other") == 0
