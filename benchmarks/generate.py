"""Fills a store with a made year: `bin/bench generate 1000000 --data DIR --shape lean`. Killed, it goes on where it was.

500 people, 100 agents and 40 services work in 60 databases with 2,000 tables (benchmarks/_history.py). Every record goes
through the ledger's own `append` (salts, groups, leaf, dedupe key, journal), the signer, the seal, the merge and the extracts,
without HTTP. Two processes: one makes and appends, one does the rest; what is not sealed is bounded. `lean` records disclose
about 430 bytes, `full` ones about 1,800 (statements of 80 to 4,000 bytes, images of 4 to 39 columns), each beside a leaf of
about 430.
Two runs with the same plan differ in salts alone. Without `--data` the store is thrown away.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import _history
from benchmarks._history import Plan
from benchmarks._running import ROOT, machine
from config import cluster, embedded

EVENTS = 100_000
PLAN_FILE = "generated.json"
STATE_BYTES = {"lean": 620, "full": 3_400}
"""What a sealed record takes of the disk, key file, leaf hash and extract included, at most: of 1,000,000 lean ones each took 556."""
MERGED_MOST = 12_800_000
"""So many records may lie there twice, while their segments are merged and until the old ones go."""
WAITING_BYTES = {"lean": 1_500, "full": 5_000}
"""What one takes in the journal and in its write-ahead log until it is sealed."""
WAITING_MOST = 400_000
"""So many records lie unsealed at most."""
SPARE_BYTES = 2 << 30
TIDY_SECONDS = 30.0
PROGRESS_SECONDS = 30.0


class NotPossible(SystemExit):
    """This store cannot hold that history; the text says why."""


@dataclasses.dataclass
class Stages:
    """CPU seconds of this process by stage."""

    cpu: dict[str, float] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        started = time.process_time()
        try:
            yield
        finally:
            self.cpu[name] = self.cpu.get(name, 0.0) + time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(prog="bin/bench generate", description=__doc__)
    parser.add_argument("events", type=int, nargs="?", default=EVENTS, help="how many records the log shall have")
    parser.add_argument("--data", type=Path, help="the store's folder; made when missing")
    parser.add_argument("--shape", choices=["lean", "full"], default="lean")
    parser.add_argument("--seed", type=int, default=Plan(0).seed)
    options = parser.parse_args()
    plan = Plan(options.events, shape=options.shape, seed=options.seed)
    with store(options.data, plan) as data:
        fill(plan, data)


@contextlib.contextmanager
def store(folder: Path | None, plan: Plan | None) -> Iterator[Path]:
    """The store in `folder`, set up and with its server running, Django in this process; a passing one without a folder.

    Raises NotPossible when it holds another plan's history, or when the disk is too small for this one.
    """
    data = folder.resolve() if folder else Path(tempfile.mkdtemp(prefix="touchstone-bench-"))
    data.mkdir(parents=True, exist_ok=True, mode=0o711)
    if folder is None:
        data.chmod(0o711)
    try:
        if plan is not None:
            agree(data, plan)
        os.environ.pop("DATABASE_URL", None)
        os.environ |= {
            "TOUCHSTONE_DATA": str(data), "TOUCHSTONE_DB_ROLE": "store", "DJANGO_SETTINGS_MODULE": "config.settings"
        }  # fmt: skip
        with embedded.in_use(data):
            subprocess.run([sys.executable, "manage.py", "setup", "--verbosity", "0"], cwd=ROOT, check=True)
            import django

            django.setup()
            yield data
    finally:
        if folder is None:
            shutil.rmtree(data, ignore_errors=True)


def agree(data: Path, plan: Plan) -> None:
    """Writes down what this store holds, or sees that it is the same, and that there is room. Raises NotPossible."""
    path = data / PLAN_FILE
    if path.exists():
        if planned(data) != plan:
            raise NotPossible(f"{data} holds the history of {planned(data)}. Take another folder for {plan}.")
    elif any(data.iterdir()):
        raise NotPossible(f"{data} holds something else. Take an empty folder.")
    require(data, room(plan, taken(data)), f"{plan.events:,} {plan.shape} records")
    path.write_bytes(msgspec.json.encode(plan))


def require(data: Path, needed: int, what: str) -> None:
    """Raises NotPossible where so many bytes are not free."""
    free = shutil.disk_usage(data).free
    if needed > free:
        raise NotPossible(f"{what} need {needed / 2**30:.1f} GiB more in {data}, {free / 2**30:.1f} are free.")


def planned(data: Path) -> Plan:
    """What the store in this folder holds or is to hold. Raises NotPossible where nothing was made."""
    if not (data / PLAN_FILE).exists():
        raise NotPossible(f"{data} holds no made history. Make one: bin/bench generate 1000000 --data {data}")
    return msgspec.json.decode((data / PLAN_FILE).read_bytes(), type=Plan)


def taken(data: Path) -> int:
    """Bytes of the disk that the folder takes; what goes while it is looked at counts nothing."""
    total = 0
    for path in data.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_blocks * 512
    return total


def room(plan: Plan, taken_bytes: int = 0) -> int:
    """Bytes of the disk that the plan still needs, where so many are taken already."""
    waiting = min(plan.events, WAITING_MOST) * WAITING_BYTES[plan.shape]
    twice = min(plan.events, MERGED_MOST) * STATE_BYTES[plan.shape]
    return max(0, plan.events * STATE_BYTES[plan.shape] - taken_bytes) + twice + waiting + SPARE_BYTES


def fill(plan: Plan, data: Path) -> None:
    """Brings the log to the plan's size, sealed, and prints what that took."""
    from lineage import segments, tree

    before, sealed, started = tree.head(), segments.sealed_to(), time.monotonic()
    receiving, sending = multiprocessing.get_context("spawn").Pipe(duplex=False)
    child = multiprocessing.get_context("spawn").Process(target=_append, args=(plan, sending), daemon=True)
    child.start()
    stages = Stages()
    tidy(stages, lambda: not child.is_alive(), _progress(plan, started))
    child.join()
    if child.exitcode != 0:
        raise RuntimeError(f"appending ended with {child.exitcode}")
    stages.cpu |= receiving.recv()
    made, seconds = tree.head() - before, time.monotonic() - started
    print(f"{machine()}; {plan.events:,} {plan.shape} records, seed {plan.seed}, in {data}\n")
    done = segments.sealed_to() - sealed
    print(f"{made:,} appended, {done:,} sealed in {seconds:,.0f} s: {done / seconds:,.0f}/s\n")
    print("| stage | process | CPU us an event, without PostgreSQL's |")
    print("|---|---|---|")
    counts = {"make": made, "append": made, "checkpoint": done, "seal": done, "merge": done, "extract": done}
    for name, count in counts.items():
        each = f"{stages.cpu.get(name, 0.0) * 1e6 / count:.1f}" if count else "–"
        print(f"| {name} | {1 if name in ('make', 'append') else 2} | {each} |")
    peaks = [stages.cpu["peak"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]
    print(
        f"\nPeak memory {peaks[0]:,.0f} and {peaks[1]:,.0f} MiB; {taken(data) / max(tree.head(), 1):,.0f} bytes an event.\n"
    )


def _progress(plan: Plan, started: float) -> Callable[[int], None]:
    said = [started]

    def say(size: int) -> None:
        now = time.monotonic()
        if now - said[0] > PROGRESS_SECONDS:
            said[0] = now
            print(f"{size:,} of {plan.events:,} after {now - started:,.0f} s", file=sys.stderr, flush=True)

    return say


def _append(plan: Plan, answer: Connection) -> None:
    """The process that makes and appends; it ends with the one that started it."""
    cluster.die_with_parent()
    import django

    django.setup()
    from lineage import segments, tree

    stages = Stages()
    for _ in appended(plan, stages):
        while tree.head() - segments.sealed_to() >= WAITING_MOST:
            time.sleep(0.2)
    stages.cpu["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer.send(stages.cpu)


def appended(plan: Plan, stages: Stages | None = None) -> Iterator[int]:
    """Appends what the log does not hold yet of the plan, one transaction after the other, and yields after each.

    How far it is stands in the log itself: one batch of each source for each chunk. What is appended twice is a duplicate.
    """
    from django.db import connection

    from lineage import ledger
    from lineage.models import Source

    stages = stages or Stages()
    ids = {
        name: Source.objects.get_or_create(
            name=name, defaults={"format": form, "environment": _history.ENVIRONMENT}
        )[0].pk
        for name, form in _history.SOURCES.items()
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("select source_id, count(*) from ledger_batch group by source_id")
        batches = dict(cursor.fetchall())
    for number in range(min(batches.get(each, 0) for each in ids.values()), plan.chunks):
        with stages.of("make"):
            every = {name: entries(ids[name], events) for name, events in _history.chunk(plan, number).items()}
        for name, told in every.items():
            if told:
                with stages.of("append"):
                    ledger.append(ids[name], told)
                yield number


def entries(source_id: int, events: list[Any]) -> list[Any]:
    from lineage import ledger
    from lineage.events import parse_time

    return [
        ledger.entry_of(
            event,
            ledger.dedupe_key(source_id, event.source_event_id, parse_time(event.occurred_at)),
            hashlib.sha256(event.source_event_id.encode()).digest(),
        )
        for event in events
    ]


def tidy(stages: Stages, is_over: Callable[[], bool], say: Callable[[int], None] = lambda size: None) -> None:
    """Signs and seals what comes, segments as large as they may be, until it is over and all is sealed, merged and extracted."""
    from lineage import checkpoints, keeper, locks, renewing, segments, tree
    from lineage.extracts import making, merging
    from lineage.keyfiles import leaving

    tidied = time.monotonic()
    while True:
        over = is_over()
        with keeper.lock():
            with stages.of("checkpoint"):
                size = checkpoints.checkpoint()
            with stages.of("seal"):
                done = segments.seal(least=1 if over else min(segments.SEGMENT_MOST, WAITING_MOST // 2))
            if time.monotonic() - tidied > TIDY_SECONDS:
                tidied = time.monotonic()
                segments.drop_sealed_slots()
                leaving.leave()
        with stages.of("merge"), locks.alone(locks.MERGE):
            done += bool(renewing.tend())
        with stages.of("extract"), locks.alone(locks.EXTRACT):
            done += bool(making.make() or merging.merge())
        say(size)
        if over and not done and segments.sealed_to() == tree.head():
            return
        if not done:
            time.sleep(0.2)


if __name__ == "__main__":
    main()
