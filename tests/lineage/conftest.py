"""Stores that several files of tests begin with."""

from __future__ import annotations

import datetime as dt

import pytest

from lineage import segments
from lineage.erasures import execution
from tests import story
from tests.lineage import forgetting


@pytest.fixture
def told_in_parts(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The story, sealed in many parts."""
    monkeypatch.setattr(segments, "SEGMENT_MOST", 20)
    story.tell(dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC))
    forgetting.locked(execution.seal_everything)
