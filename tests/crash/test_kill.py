"""kill -9 of each part while events come in: what was acknowledged is there once, at the place that was promised."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.crash.running import Feed, Product, wait_for

pytestmark = pytest.mark.slow
KILLS = 5
POWER_CUTS = 2


def assert_kept_once(product: Product, auditor: str, feed: Feed) -> None:
    assert feed.faults == []
    rows = [(row["correlation_id"], row["index"]) for row in product.rows("events", auditor, q=f"source:{feed.name}")]
    assert [one for one, times in Counter(name for name, _ in rows).items() if times > 1] == []
    assert dict(rows) == feed.places
    assert "All agrees" in product.manage("fsck")


@pytest.mark.parametrize("part", ["web", "worker", "keeper", "postgres", "supervisor"])
def test_kill_during_ingestion_loses_and_doubles_nothing(product: Product, auditor: str, part: str) -> None:
    with Feed(product, f"kill-{part}", product.add_source(f"kill-{part}")) as feed:
        for _ in range(KILLS):
            feed.wait_for_more()
            before = product.ready()
            product.kill9(part)
            feed.wait_for_more()
            wait_for(lambda size=before["size"] if before else 0: covered(product) > size, 60, "a newer checkpoint")
    product.kill9(part)
    wait_for(lambda: len(product.pids(part)) > 0 and product.ready() is not None, 60, f"{part} runs again")
    assert_kept_once(product, auditor, feed)


def covered(product: Product) -> int:
    """Records under the newest checkpoint; 0 while nobody answers."""
    ready = product.ready()
    return ready["checkpoint"] if ready else 0


def test_power_cut_during_ingestion_loses_and_doubles_nothing(product: Product, auditor: str) -> None:
    with Feed(product, "power-cut", product.add_source("power-cut")) as feed:
        for _ in range(POWER_CUTS):
            feed.wait_for_more()
            product.kill9_all()
            product.start()
            feed.wait_for_more()
    assert feed.resent >= POWER_CUTS
    assert_kept_once(product, auditor, feed)
