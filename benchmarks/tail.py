"""What unsealed records cost: `bin/bench tail 100000 --shape lean`. The first look of a fresh process, the next, and the seal.

The records are those of `bin/bench generate`, appended and not sealed. Each look and the seal of all of them run in a process
of their own, of which CPU time and memory above that of an idle one are told. Then extracts are made of them, more records of the
same year come in small batches, and after each one process asks for an identity's newest, and once more.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import _history, _questions, generate
from benchmarks._history import Plan
from benchmarks._running import machine
from lineage.events import Event

EVENTS = 100_000
UNSEALED, BATCHES, TURNS = 1_000, (1, 10, 100), 15
Measured = tuple[float, float, float]
"""Seconds, seconds of CPU, and MiB more at the peak."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="bin/bench tail", description=__doc__)
    parser.add_argument("events", type=int, nargs="?", default=EVENTS, help="how many records lie unsealed")
    parser.add_argument("--shape", choices=["lean", "full"], default="lean")
    options = parser.parse_args()
    plan = Plan(options.events, shape=options.shape)
    with generate.store(None, plan) as data:
        for _ in generate.appended(plan):
            pass
        measured = {
            "first look": _apart(_look),
            "next look of the same process": _apart(_look_again),
            "seal": _apart(_seal),
        }
        asked = _apart(_ask, data)
    print(f"{machine()}; {plan.events:,} {plan.shape} records unsealed\n")
    print("| | seconds | CPU us a record | MiB more |")
    print("|---|---|---|---|")
    for name, (seconds, cpu, memory) in measured.items():
        print(f"| {name} | {seconds:.2f} | {cpu * 1e6 / plan.events:.1f} | {memory:,.0f} |")
    print(f"\nAn identity's newest, {UNSEALED:,} records and more unsealed, the others sealed and extracted\n")
    print("| records told since the last question | seconds | CPU ms | CPU ms of the same question again |")
    print("|---|---|---|---|")
    for count, (seconds, cpu, again) in zip(BATCHES, asked, strict=True):
        print(f"| {count:,} | {seconds:.3f} | {cpu * 1e3:.1f} | {again * 1e3:.1f} |")


def _apart(work: Callable[..., None], *words: Path) -> Any:
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=work, args=(sending, *words), daemon=True)
    child.start()
    # Only the child's end is left: where it fails there is nothing to wait for.
    sending.close()
    told = receiving.recv()
    child.join()
    return told


def _measured(work: Callable[[], object]) -> Measured:
    before, started, cpu = _peak(), time.monotonic(), time.process_time()
    work()
    return time.monotonic() - started, time.process_time() - cpu, _peak() - before


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _look(answer: Connection) -> None:
    import django

    django.setup()
    from lineage import engine

    answer.send(_measured(engine.snapshot))


def _look_again(answer: Connection) -> None:
    import django

    django.setup()
    from lineage import engine

    engine.snapshot()
    answer.send(_measured(engine.snapshot))


def _seal(answer: Connection) -> None:
    import django

    django.setup()
    from lineage import keeper, segments

    def seal() -> None:
        while segments.seal():
            pass

    keeper.once()
    with keeper.lock():
        answer.send(_measured(seal))


def _ask(answer: Connection, data: Path) -> None:
    """Of each size of a batch the median: seconds and CPU of the question after it, and CPU of the same again."""
    import django

    django.setup()
    from lineage import locks, queries
    from lineage.access import Viewer
    from lineage.extracts import making

    with locks.alone(locks.EXTRACT):
        while making.make():
            pass
    plan, viewer = generate.planned(data), Viewer("bench@audit.example", "auditor")
    people, more = _questions.draw(plan, TURNS), _more(plan)
    _tell(more, UNSEALED)
    found = []
    for count in BATCHES:
        taken = []
        for drawn in people:
            ask = functools.partial(queries.touched, viewer, queries.Subject(identity=drawn.identity))
            ask()
            _tell(more, count)
            seconds, cpu, _ = _measured(ask)
            taken.append((seconds, cpu, _measured(ask)[1]))
        found.append([statistics.median(each) for each in zip(*taken, strict=True)])
    answer.send(found)


def _more(plan: Plan) -> Iterator[tuple[str, Event]]:
    """Records of the same people and databases that the log does not hold yet, with their source."""
    longer = msgspec.structs.replace(plan, events=2 * plan.events + plan.chunk)
    for number in itertools.count(plan.chunks):
        told = [(name, event) for name, events in _history.chunk(longer, number).items() for event in events]
        yield from sorted(told, key=lambda one: one[1].occurred_at or "")


def _tell(more: Iterator[tuple[str, Event]], count: int) -> None:
    from lineage import ledger
    from lineage.models import Source

    told: dict[str, list[Event]] = {}
    for name, event in itertools.islice(more, count):
        told.setdefault(name, []).append(event)
    for name, events in told.items():
        source = Source.objects.get(name=name)
        ledger.append(source.pk, generate.entries(source.pk, events))


if __name__ == "__main__":
    main()
