"""Back-pressure: while more records wait to be sealed than the store may leave unsealed, feeds are put off, and counted."""

from __future__ import annotations

import threading
import time
from collections import Counter

from django.db.models import F
from django.utils import timezone

from lineage import errors
from lineage.models import Source, SourceHealth

REST_SECONDS = 1.0
"""How long a process puts feeds off without looking again."""


class Pressure:
    """What one web process knows of the backlog."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._until = 0.0
        self._counted: Counter[int] = Counter()

    def check(self, source: Source) -> None:
        """Before anything of a body is read. Raises BacklogFull while the store was seen to be behind a moment ago."""
        if time.monotonic() < self._until:
            with self._guard:
                self._counted[source.pk] += 1
            raise errors.BacklogFull

    def note(self, source: Source) -> None:
        """The ledger has refused a batch: the next moments are not worth asking; what was put off so far is stored."""
        self._until = time.monotonic() + REST_SECONDS
        with self._guard:
            self._counted[source.pk] += 1
            counted, self._counted = self._counted, Counter()
        now = timezone.now()
        for source_id, times in counted.items():
            SourceHealth.objects.get_or_create(source_id=source_id)
            SourceHealth.objects.filter(source_id=source_id).update(put_off=F("put_off") + times, put_off_at=now)
