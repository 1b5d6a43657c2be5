"""Many at once: writers of one key, viewers of different scopes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from tests.crash.running import Product, native

pytestmark = pytest.mark.slow
ROUNDS = 20
AT = "2026-11-20T09:30:00.000000Z"


def at_once(tasks: list[Callable[[], Any]]) -> list[Any]:
    """Results of all tasks, which begin at the same moment in threads of their own."""
    gate = threading.Barrier(len(tasks))

    def begin(task: Callable[[], Any]) -> Any:
        gate.wait(30)
        return task()

    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(begin, tasks))


def test_one_key_with_two_contents_three_times_each_at_once_gives_two_flagged_records(
    product: Product, auditor: str
) -> None:
    token = product.add_source("contested")

    def send(name: str, purpose: str) -> Callable[[], Any]:
        batch = [native(name, occurred_at=AT, purpose=purpose), native(f"{name}-{purpose}", occurred_at=AT)]
        return lambda: product.request("POST", "/api/v1/ingest/events", token, msgspec.json.encode(batch))

    for number in range(ROUNDS):
        name = f"contested-{number}"
        answers = at_once([send(name, purpose) for purpose in ("first", "second") for _ in range(3)])
        assert [status for status, _ in answers] == [200] * 6
        first = [answer["items"][0] for _, answer in answers]
        assert len({item["index"] for item in first}) == 2
        assert [item["status"] for item in first].count("accepted") == 1
    rows = list(product.rows("events", auditor, q="source:contested purpose:*"))
    assert Counter((row["correlation_id"], row["purpose"]) for row in rows) == Counter(
        (f"contested-{number}", purpose) for number in range(ROUNDS) for purpose in ("first", "second")
    )
    assert all("duplicate_conflict" in row["flags"] for row in rows)
    alone = [row["correlation_id"] for row in product.rows("events", auditor, q="source:contested -purpose:*")]
    assert len(alone) == len(set(alone)) == 2 * ROUNDS
    assert "All agrees" in product.manage("fsck")


def test_two_viewers_in_parallel_never_see_a_record_of_the_others_scope(product: Product) -> None:
    tokens = {}
    for scope in ("north", "south"):
        feed = product.add_source(scope, environment=scope)
        batch = [native(f"{scope}-{n}") for n in range(300)]
        assert product.request("POST", "/api/v1/ingest/events", feed, msgspec.json.encode(batch))[0] == 200
        tokens[scope] = product.add_viewer(f"{scope}@shop.example", "--environment", scope)

    def look(scope: str) -> set[tuple[str, str]]:
        seen = set()
        for path in ("events", "touches", "sessions", "identities", "relations") * 2:
            status, answer = product.request("GET", f"/api/v1/{path}?limit=200", tokens[scope])
            assert status == 200, answer
            for row in answer["items"]:
                seen.add((row.get("environment") or scope, row.get("datasource") or scope))
        return seen

    seen = at_once([lambda scope=scope: look(scope) for scope in ("north", "south") * 2])
    for scope, found in zip(("north", "south") * 2, seen, strict=True):
        assert found == {(scope, scope)}
