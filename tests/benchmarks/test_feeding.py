"""What the load generator sends is what it says: whole events, each with an id of its own."""

from __future__ import annotations

import msgspec
import pytest

from benchmarks import _feeding
from lineage import ingest
from lineage.models import Source


@pytest.mark.parametrize("shape", _feeding.SHAPES)
def test_every_event_that_is_sent_is_accepted_and_none_is_sent_twice(shape: str) -> None:
    source = Source(pk=1, name="bench", format="events", environment="production", datasource="bench")
    feed = _feeding.Feed(shape, "made", 150)
    read = [ingest.admitted(source, body) for body in feed.bodies(events=450)]
    assert [len(each.entries) for each in read] == [150] * 3
    assert not any(each.refused for each in read)
    assert len({entry.key for each in read for entry in each.entries}) == 450


def test_the_shapes_are_as_large_as_they_say() -> None:
    sizes = [len(msgspec.json.encode(_feeding.full(seed))) for seed in range(200)]
    assert min(sizes) < 1_000
    assert max(sizes) > 4_000
    assert 500 < _feeding.Feed("small", "made", 1).event_bytes < 700
