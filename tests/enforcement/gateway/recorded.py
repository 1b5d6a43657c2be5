"""Entries as a session makes them, what a spool holds of them, and a gateway process that writes them until it is killed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from enforcement.gateway import entries
from enforcement.gateway.recording import Recorder
from enforcement.spool import Spool, frames
from lineage.events import Actor, Agent, Client, Principal

FACTS = entries.SessionFacts(
    session_id="s-1",
    started_at=1_795_000_000.25,
    datasource="orders",
    database="shop",
    actor=Actor(id="dana@shop.example", email="dana@shop.example", type="human", db_user="app", roles=("support",)),
    on_behalf_of=Principal(id="lea@shop.example", type="human"),
    delegation=(Principal(id="report-bot", type="agent"),),
    agent=Agent(id="report-bot", name="report-bot", version="2", run_id="r0"),
    client=Client(app="psql", ip="192.0.2.7", port=50123, host="desk"),
    db_session_id="69200000.1f4",
    auth_method="touchstone-token",
    mfa=True,
    purpose="support",
    ticket="OPS-1",
)


def began(name: str, **changes: Any) -> entries.Began:
    told: dict[str, Any] = {
        "session": FACTS, "id": name, "at": 1_795_000_001.5, "statement": f"update orders set note = '{name}'",
        "verdict": "allowed", "op": "update", "command": "UPDATE",
    }  # fmt: skip
    return entries.Began(**{**told, **changes})


def ended(begun: entries.Began, **changes: Any) -> entries.Ended:
    told: dict[str, Any] = {"began": begun, "at": begun.at + 0.0015, "rows_affected": 1, "transaction_id": "77"}
    return entries.Ended(**{**told, **changes})


def refused(name: str, **changes: Any) -> entries.Refused:
    begun = began(name, verdict="blocked", op="ddl", command="DROP TABLE", statement="drop table orders")
    return entries.Refused(
        began=begun, at=begun.at + 0.001, sqlstate="42501", sentence="No table is dropped here.", **changes
    )


def spooled(folder: Path) -> list[dict[str, Any]]:
    """What stands in a spool's files, in order: each line, with sequence and record."""
    found = []
    for path in sorted((folder / "segments").glob("*.seg")):
        found += [msgspec.json.decode(line) for frame, _ in frames(path) for line in frame.lines]
    return found


def records(folder: Path) -> list[dict[str, Any]]:
    return [line["record"] for line in spooled(folder) if "record" in line]


def names(folder: Path) -> list[str]:
    return [record["source_event_id"] for record in records(folder)]


def write_until_killed(folder: Path, prefix: str) -> None:
    """A gateway that begins and ends statements, a few at a time, and says each when it is written down."""
    spool = Spool(folder / "spool")
    recorder = Recorder(folder, spool, sync_seconds=0.01)
    recorder.record(entries.SessionBegan(session=msgspec.structs.replace(FACTS, session_id=prefix)))
    running: list[entries.Began] = []
    number = 0
    while True:
        running.append(began(f"{prefix}-{number}"))
        recorder.record(running[-1])
        say("began", running[-1].id)
        number += 1
        if len(running) > number % 5:
            done = running.pop(0)
            recorder.record(ended(done))
            say("ended", done.id)


def say(word: str, name: str) -> None:
    sys.stdout.write(f"{word} {name}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    write_until_killed(Path(sys.argv[1]), sys.argv[2])
