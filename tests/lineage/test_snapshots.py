"""What a question is asked of: kept while nothing changes, and never older than what was there when it began."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection, transaction

from lineage import engine, segments
from lineage.engine import Question
from lineage.models import Identity, Source, Tag
from tests import merges, story

NOW = dt.datetime(2026, 11, 22, 9, tzinfo=dt.UTC)


@pytest.fixture
def told(store: str) -> None:
    story.tell(NOW)


def mapped(**said: str) -> Identity:
    login = {
        "datasource": "orders-prod",
        "db_user": "omar",
        "person_id": "omar",
        "name": "Omar",
        "as_of": "2026-01-01T00:00Z",
    }
    return Identity.objects.create(**(login | said))


def names() -> list[str]:
    return sorted(engine.snapshot().identities["name"].to_pylist())


def test_what_has_not_changed_is_not_read_again(told: None) -> None:
    mapped()
    source = story.source("more")
    first = engine.snapshot()
    assert engine.snapshot() is first
    story.send(source, story.query("more-1", NOW, story.DANA, "select 1 from customers", "read"))
    then = engine.snapshot()
    assert then is not first
    assert then.size == first.size + 1
    assert then.identities is first.identities
    assert then.segments is first.segments


def test_a_login_that_is_mapped_changed_or_taken_back_is_seen_by_the_next_question(told: None) -> None:
    assert names() == []
    one = mapped()
    assert names() == ["Omar"]
    Identity.objects.filter(pk=one.pk).update(name="Omar H.")
    assert names() == ["Omar H."]
    with transaction.atomic():
        one.delete()
        mapped(name="Omar Haddad")
    assert names() == ["Omar Haddad"]
    Identity.objects.all().delete()
    assert names() == []


def test_a_trusted_role_a_tag_and_a_conflict_are_seen_by_the_next_question(told: None) -> None:
    before = engine.snapshot()
    Source.objects.filter(name="desk").update(context_roles=["orders_api"])
    trusted = engine.snapshot()
    assert trusted.context_roles["db_user"].to_pylist() == ["orders_api"]
    assert trusted.tagged is before.tagged
    Tag.objects.create(
        datasource="orders-prod", relation="public.customers", column="email", classes=["contact"], by="a"
    )
    tagged = engine.snapshot()
    assert ["contact"] in tagged.tagged["tags"].to_pylist()
    assert tagged.conflicted.num_rows == 0
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into ledger_conflict (source_id, key, content, batch, ordinal, of_batch, of_ordinal) "
            "select source_id, '\\x00', '\\x00', batch, 0, batch, 0 from ledger_batch order by first_index limit 1"
        )
    assert engine.snapshot().conflicted["index"].to_pylist() == [0]


def test_views_of_sealed_files_are_made_once_and_a_question_keeps_its_own_while_others_come(
    told: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count(question: Question) -> int:
        return int(question.rows("select count(*) as n from raw_events")[0]["n"])

    def schemas() -> int:
        sql = "select count(*) from duckdb_schemas() where schema_name like 'reported%'"
        (found,) = engine._here().database.cursor().execute(sql).fetchone() or (0,)
        return int(found)

    monkeypatch.setattr(segments, "SEGMENT_MOST", 50)
    assert segments.seal()
    assert segments.seal()
    with Question() as first:
        size = count(first)
        story.send(story.source("more"), story.query("more-1", NOW, story.DANA, "select 1 from customers", "read"))
        with Question() as second:
            assert (count(second), count(first)) == (size + 1, size)
            assert second.reported is first.reported
        assert merges.everything()
        with Question() as third, Question(as_of=3) as earlier:
            assert (count(third), count(first), count(earlier)) == (size + 1, size, 3)
            assert third.reported is not first.reported
            assert schemas() == 2
    assert schemas() == 1
