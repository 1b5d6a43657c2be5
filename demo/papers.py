"""The promises about every kind of report: each is issued and verifies offline, and what was planted is found by its test."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo import evidence, planted, shop, simulated
from demo.promises import Promise, Untested, expect

if TYPE_CHECKING:
    from demo.run import Demo

CONTROL = {"auditor-request": ["--control", "soc2/CC8.1"]}
LOOKED_AT = ("privileged-access", "change-management", "approvals", "agents", "log-coverage", "sensitive-data")


def each_kind(demo: Demo) -> str:
    """Each kind that the demo's sources can supply, over its own period: made, checked offline under the printed policy."""
    policy, folder = demo.folder / "policy", demo.folder / "kinds"
    policy.write_text(demo.store.manage("policy") + "\n")
    period = ("--from", _text(demo.began_at), "--to", _text(demo.ended_at), "--environment", "production")
    told, left_out = [], []
    for line in demo.store.manage("report", "kinds").splitlines():
        kind, _, words = line.partition("\t")
        if words.startswith("not available"):
            left_out.append(kind)
            continue
        summary = _made(demo, folder / kind, kind, *period, "--datasource", shop.DATASOURCE, *CONTROL.get(kind, ()))
        done = evidence.verify(folder / kind / summary["pdf"]["file"], policy)
        expect(done.returncode == 0, f"{kind}: exit {done.returncode}: {(done.stdout + done.stderr).strip()[-600:]}")
        told.append(f"{kind} {summary['conclusion']}")
    expect(len(told) > len(left_out), f"only {told} could be made; not {left_out}")
    return f"{len(told)} verified, exit 0: {'; '.join(told)}; not available: {', '.join(left_out) or 'none'}"


def quarter(demo: Demo) -> str:
    """In the generated quarter each planted deviation is found by the tests that it is for, and nothing else is."""
    if not demo.simulated_events:
        raise Untested("the quarter was not generated")
    until = dt.datetime.combine(demo.began_at.date(), dt.time(), dt.UTC)
    since = until - dt.timedelta(days=simulated.DAYS)
    period = ("--from", _text(since), "--to", _text(until), "--environment", simulated.ENVIRONMENT)
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for kind in LOOKED_AT:
        for test in _made(demo, demo.folder / "quarter" / kind, kind, *period)["tests"]:
            found[test["id"]] = sorted(map(_deviation, test["deviations"]))
    wanted: dict[str, list[tuple[str, list[str]]]] = {test: [] for test in found}
    for one in planted.PLANTED:
        for test, words in one.found.items():
            place = f"Ticket {one.ticket}" if test == "approvals" else str((since + dt.timedelta(days=one.day)).date())
            wanted[test].append((place, words))
    wanted["source-hours"] = [(str((since + dt.timedelta(days=planted.SILENT_DAY)).date()), _silent(found))] * len(
        planted.SILENT_HOURS
    )
    for test, deviations in found.items():
        expect(deviations == sorted(wanted[test]), f"{test}: {deviations}, planted {sorted(wanted[test])}")
    return f"{sum(map(len, found.values()))} deviations by {len(found)} tests, all planted, and no other"


def _silent(found: dict[str, list[tuple[str, list[str]]]]) -> list[str]:
    """What the silent hours are called: by a source without heartbeats, or one with."""
    return found["source-hours"][0][1] if found.get("source-hours") else []


def _deviation(item: dict[str, Any]) -> tuple[str, list[str]]:
    about: str = item.get("subject") or ""
    return (about if about.startswith("Ticket") else item["occurred_at"][:10], item["deviations"])


def _made(demo: Demo, out: Path, *words: str) -> dict[str, Any]:
    """The JSON of one report."""
    demo.store.manage("report", *words, "--out", str(out))
    summary: dict[str, Any] = json.loads(next(out.glob("*.json")).read_text())
    return summary


def _text(at: dt.datetime) -> str:
    return at.isoformat()


PROMISES = [
    Promise("Each kind of report is made of captured records and verifies offline", each_kind),
    Promise("What was planted in the generated quarter is found by its tests, and nothing else", quarter),
]
