"""Whether the log holds: the integrity page and the seal in every page's top bar."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.http import HttpRequest, HttpResponse

from lineage import errors, keys, outside, queries, rechecks, witnesses, words
from lineage.access import Viewer
from lineage.answers import signed_in
from lineage.views import custody, frame


@signed_in
def integrity(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """The log's state. No evidence is read, so the read is not recorded."""
    log = queries.integrity(viewer)
    signing = [each for each in keys.publics("checkpoint") if each.in_force] if keys.was_made("checkpoint") else []
    context = {
        "log": log, "title": title(log), "waiting": log["size"] - log["checkpoint_size"], "signing": signing,
        "ends_alone": outside.LATE, "checks": rechecks.newest(3), "check_words": custody.CHECKS,
        "waiting_items": sum(each["waiting"] for each in queries.quarantined(viewer, limit=1)["sources"]),
    }  # fmt: skip
    return frame.page(request, "lineage/integrity.html", context | _asked(log))


def _asked(log: dict[str, Any]) -> dict[str, Any]:
    """The witnesses of the policy that have cosigned nothing yet, or what is wrong with the policy."""
    try:
        names = [each.name for each in witnesses.configured()]
    except errors.SettingsInvalid as error:
        return {"policy_fault": error.message}
    return {"asked": [name for name in names if name not in {each["holder"] for each in log["witnesses"]}]}


@signed_in
def seal(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    log = queries.integrity(viewer)
    return frame.page(request, "lineage/_seal.html", {"log": log, "sentence": sentence(log, dt.datetime.now(dt.UTC))})


def title(log: dict[str, Any]) -> str:
    if log["state"] == "broken":
        return "The log raised an alarm: keep everything as it is"
    if log["state"] == "late":
        return f"Records wait {log['lag_seconds']:.0f} s for their checkpoint"
    return f"{words.counted(log['checkpoint_size'], 'record')} in the signed log"


def sentence(log: dict[str, Any], now: dt.datetime) -> str:
    """ "In the signed log to record 1,204,331 · 4 s ago"."""
    if not log["checkpoint_size"]:
        return "Nothing is in the signed log yet"
    last = f"In the signed log to record {words.number(log['checkpoint_size'] - 1)} · {words.ago(log['checkpoint_at'], now)}"
    return {"late": f"{last} · late", "broken": f"{last} · alarm"}.get(log["state"], last)
