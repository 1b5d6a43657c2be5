"""What unsealed records cost: `bin/bench tail 100000 --shape lean`. The first look of a fresh process, the next, and the seal.

The records are those of `bin/bench generate`, appended and not sealed. Each look and the seal of all of them run in a process
of their own, of which CPU time and memory above that of an idle one are told.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from benchmarks import generate
from benchmarks._history import Plan
from benchmarks._running import machine

EVENTS = 100_000
Measured = tuple[float, float, float]
"""Seconds, seconds of CPU, and MiB more at the peak."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="bin/bench tail", description=__doc__)
    parser.add_argument("events", type=int, nargs="?", default=EVENTS, help="how many records lie unsealed")
    parser.add_argument("--shape", choices=["lean", "full"], default="lean")
    options = parser.parse_args()
    plan = Plan(options.events, shape=options.shape)
    with generate.store(None, plan):
        for _ in generate.appended(plan):
            pass
        measured = {
            "first look": _apart(_look),
            "next look of the same process": _apart(_look_again),
            "seal": _apart(_seal),
        }
    print(f"{machine()}; {plan.events:,} {plan.shape} records unsealed\n")
    print("| | seconds | CPU us a record | MiB more |")
    print("|---|---|---|---|")
    for name, (seconds, cpu, memory) in measured.items():
        print(f"| {name} | {seconds:.2f} | {cpu * 1e6 / plan.events:.1f} | {memory:,.0f} |")


def _apart(work: Callable[[Connection], None]) -> Measured:
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=work, args=(sending,), daemon=True)
    child.start()
    # Only the child's end is left: where it fails there is nothing to wait for.
    sending.close()
    told: Measured = receiving.recv()
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


if __name__ == "__main__":
    main()
