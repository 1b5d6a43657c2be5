"""Completeness and accuracy, as a report prints it: what each source told, what agrees, what is missing, and since when."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from lineage import engine
from reports import standing
from reports.evidence import BY_CLASS, Evidence, accesses
from reports.hearing import lasted
from reports.printed import DASH, moment, short

COUNTED = ("events", "missing", "heartbeats", "canaries", "gaps", "quarantined", "conflicts", "clock_skew")
MISMATCHES_MOST = 25
OUTAGES_MOST = 60
KINDS = {"query": "Statement records", "change": "Row changes"}


def section(evidence: Evidence) -> dict[str, Any]:
    """Section 3 of a report, as its template draws it."""
    found = evidence.completeness
    match = found["reconciliation"]
    outages = sorted((one for s in found.get("hearing", ()) for one in _outages(s)), key=lambda one: one["from_at"])
    return {
        "sources": [_source(s) for s in found["sources"]],
        "coverage": [
            {"source": short(c["source"], 40), "state": c["state"], "detail": short(c["detail"], 160)}
            for c in found["coverage"]
        ],
        "match": {k: v or 0 for k, v in match.items() if k != "mismatches"},
        "mismatches": [{k: short(v, 40) for k, v in m.items()} for m in match.get("mismatches", ())[:MISMATCHES_MOST]],
        "wording": _wording(evidence),
        "left_out": left_out(evidence) if found.get("narrowed") else [],
        "fields": [{**f, "percent": _percent(f["known"], f["of"])} for f in found["fields"]],
        "by_source": [_known(one) for one in found.get("fields_by_source", ())] if len(found["sources"]) > 1 else [],
        "outages": outages[:OUTAGES_MOST],
        "outages_more": max(0, len(outages) - OUTAGES_MOST),
        "gateway": found.get("gateway") or {},
        "canaries": found.get("canaries") or {},
        "commitments": found.get("commitments") or {},
    }


def left_out(evidence: Evidence) -> list[dict[str, Any]]:
    """For each kind of access of the period: how many there are (`of`), are `frozen` as the population, and `left_out`."""
    of, frozen = _by_class(accesses(evidence)), _by_class(engine.over(evidence.tables, BY_CLASS).to_pylist())
    return [
        {
            "words": f"{KINDS[kind]}, {class_ or 'of no class'}",
            "of": n,
            "frozen": frozen[kind, class_],
            "left_out": n - frozen[kind, class_],
        }
        for (kind, class_), n in of.items()
    ]


def _by_class(counted: Iterable[Mapping[str, Any]]) -> Counter[tuple[str, str | None]]:
    found: Counter[tuple[str, str | None]] = Counter()
    for each in counted:
        found[each["kind"], each["class"]] += each["n"]
    return found


def _known(one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "source": short(one["source"], 40),
        "of": one["of"],
        "percents": [_percent(k, one["of"]) for k in one["known"]],
    }


def _outages(source: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each time in which a source was not heard or told less, as a line."""
    return [
        {
            "source": short(source["name"], 40),
            "state": one["state"],
            "from_at": moment(one["from_at"]),
            "to_at": "a moment" if one["to_at"] == one["from_at"] else moment(one["to_at"]) if one["to_at"] else "not over",
            "cause": short(one["cause"], 200),
            "arrived": DASH if one["arrived"] is None else one["arrived"],
        }
        for one in source["outages"]
    ]  # fmt: skip


def seconds(milliseconds: int | None) -> str:
    """A delay as `0.4 s` or `2 d 3 h`, or a dash."""
    if milliseconds is None:
        return DASH
    return f"{milliseconds / 1000:.1f} s" if milliseconds < 60_000 else lasted(dt.timedelta(milliseconds=milliseconds))


def _wording(evidence: Evidence) -> str:
    match = evidence.completeness["reconciliation"]
    if standing.contradictions(evidence):
        return "Not reconciled: see the differences."
    if not match.get("transactions") or not match.get("rows_captured"):
        return "No independent second source covers this period: the counts rest on what one source told."
    alone = match.get("without_second") or 0
    listed_differences = alone + sum(match.get(k) or 0 for k in ("captured_more", "without_statement"))
    return "Reconciled with the differences listed." if listed_differences else "Reconciled without difference."


def _percent(part: int, whole: int) -> str:
    """Cut, never rounded up: 100 % means all."""
    return DASH if not whole else f"{part * 1000 // whole / 10:.1f} %"


def _source(source: Mapping[str, Any]) -> dict[str, Any]:
    first, last = source["first_sequence"], source["last_sequence"]
    return {
        "name": short(source["name"], 40),
        "format": source["format"],
        "datasource": short(source["datasource"] or None, 40),
        "sequence": f"{first:,}–{last:,}" if first is not None else DASH,
        **{name: source.get(name) or 0 for name in COUNTED},
        "delays": [seconds(source.get(name)) for name in ("lag_ms_half", "lag_ms_95", "lag_ms_most")],
        "heard": moment(source["watermark_at"]),
    }  # fmt: skip
