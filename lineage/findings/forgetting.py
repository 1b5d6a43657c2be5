"""What is still to be told of erased records is told no more: its text goes, its finding stays."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from lineage import reach
from lineage.erasures import selection
from lineage.events import Erased
from lineage.finding_models import Telling

GONE = "not told: its records were erased"


def forget_texts(texts: Sequence[str]) -> None:
    """Messages that wait and hold one of the texts lose it."""
    for one in Telling.objects.exclude(body=None):
        if selection.names_one(texts, *selection.strings(one.body)):
            _drop(one.pk)


def forget_records(spans: Sequence[Erased], before: dt.datetime) -> list[str]:
    """Messages made before that time of records within the spans lose their text. Nothing has to be kept."""
    for one in Telling.objects.exclude(body=None).filter(finding__found_at__lt=before).select_related("finding"):
        # Not all records of a finding that went on are kept with it: what lies between its first and last may be one.
        first, last = one.finding.first_index, one.finding.last_index
        if any(span.first <= last and first <= span.last for span in spans):
            _drop(one.pk)
    return []


def _drop(number: int) -> None:
    Telling.objects.filter(pk=number).update(body=None, answer=GONE)


PLACE = reach.Place(forget_texts, forget_records, ("lineage_telling",))
