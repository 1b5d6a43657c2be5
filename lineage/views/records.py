"""One record whole."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, HttpResponse

from lineage import authorities, queries, words
from lineage.access import Viewer
from lineage.answers import evidence_read
from lineage.views import frame


@evidence_read
def event(request: HttpRequest, viewer: Viewer, index: int) -> HttpResponse:
    found = queries.event(viewer, index)
    context = {
        "event": found,
        "title": words.event_title(found),
        "groups": [(name, group_text(group)) for name, group in found["groups"].items()],
        "simulated": found["environment"] == frame.SIMULATED,
        "checkpoint_size": queries.integrity(viewer)["checkpoint_size"],
        "pack_q": words.condition("index", index),
        "imported": queries.tickets(viewer, [found["ticket"]]),
        "stamped": authorities.first_over(index),
    }
    return frame.page(request, "lineage/event.html", context)


def group_text(group: Any) -> str:
    """A disclosure group as indented JSON, or the word that says why it is not shown."""
    return group if isinstance(group, str) else json.dumps(group, indent=2, ensure_ascii=False)
