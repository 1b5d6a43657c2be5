"""Lookups in our store, in ClickHouse and in PostgreSQL over the same records: `bin/bench query --data DIR`.

DIR was filled by `bin/bench generate`; without it a passing store of 100,000 lean records is. Each system runs alone in a
process of its own. Cold: a process that has just started (ours as a web process does, which opens its extracts then), its
files out of the system's memory before, one lookup; the median of a few. Warm: 200
lookups one after the other, each for another row, person or session, drawn as often as they occur; fewer where they take
long, and the table says how many. All get the same ones, and what they count is compared. A lookup that we lose is
printed as lost.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from benchmarks import _peers, _questions, generate
from benchmarks._history import Plan
from benchmarks._questions import QUESTIONS, Drawn
from benchmarks._running import machine
from config import cluster, workers

LOOKUPS, COLD, LEAST = 200, 3, 3
SECONDS = 30.0
QUERY_SECONDS = "300"
"""The product's own limit is 20 s; here a slow lookup shall have a figure."""
OURS = "Touchstone"
FILES = {OURS: "segments", "ClickHouse": "peers/clickhouse", "PostgreSQL": "peers/postgresql"}
"""Where each system's files lie."""


class Answered(NamedTuple):
    """How long one lookup took, in all and of the CPU of the process that was asked; what it counted, or a fault."""

    seconds: float
    cpu_seconds: float
    counted: int
    fault: str


Ask = Callable[[int, Drawn], Answered]
"""Asks one system the question of this number."""


class Measured(msgspec.Struct):
    """Seconds of one lookup in one system, first cold and then warm, CPU seconds of the warm ones, and what each counted."""

    cold: list[float]
    warm: list[float]
    cpu: list[float]
    counts: list[int]
    fault: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="bin/bench query", description=__doc__)
    parser.add_argument("--data", type=Path, help="a store that `bin/bench generate` filled")
    parser.add_argument("--lookups", type=int, default=LOOKUPS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for one kind of lookup in one system")
    parser.add_argument("--cold", type=int, default=COLD, help="lookups in a fresh process, of each kind")
    parser.add_argument("--without", action="append", default=[], choices=list(_peers.PEERS), help="leave a peer out")
    options = parser.parse_args()
    os.environ["TOUCHSTONE_QUERY_SECONDS"] = QUERY_SECONDS
    with opened(options.data) as (data, plan):
        names = prepared(data, options.without)
        drawn = _questions.draw(plan, options.lookups)
        found = {name: measured(data, name, drawn, options.seconds, options.cold) for name in names}
        print(f"{machine()}; {plan.events:,} {plan.shape} records; milliseconds\n")
        print_table(found)


@contextlib.contextmanager
def opened(folder: Path | None) -> Iterator[tuple[Path, Plan]]:
    """A store with its history; a passing one of 100,000 records without a folder."""
    with generate.store(folder, None if folder else Plan(generate.EVENTS)) as data:
        plan = generate.planned(data)
        if folder is None:
            generate.fill(plan, data)
        yield data, plan


def prepared(data: Path, without: list[str]) -> list[str]:
    """The names of the systems, each loaded."""
    peers = [name for name in _peers.PEERS if name not in without]
    if peers:
        plan = generate.planned(data)
        needed = sum(_peers.BYTES[plan.shape, name] for name in peers) * plan.events
        generate.require(data, needed - generate.taken(_peers.folder(data)), f"{' and '.join(peers)}")
        # In a process of its own: an engine keeps what it has read.
        _alone(_export, data)
    for name in peers:
        _alone(_peers.loaded, data, name)
    return [OURS, *peers]


def _export(data: Path) -> None:
    import django

    django.setup()
    _peers.export(data)


def _alone(work: Callable[..., object], *words: Any) -> None:
    child = multiprocessing.get_context("spawn").Process(target=work, args=words)
    child.start()
    child.join()
    if child.exitcode != 0:
        raise RuntimeError(f"{work.__name__} {words} ended with {child.exitcode}")


def measured(data: Path, name: str, drawn: list[Drawn], seconds: float, cold: int) -> dict[str, Measured]:
    """All lookups in one system; of each kind no more than take so many seconds."""
    found = {question.name: Measured([], [], [], []) for question in QUESTIONS}
    for number, question in enumerate(QUESTIONS):
        for turn in range(cold):
            _peers.forget(data / FILES[name])
            with asking(data, name) as ask:
                first = ask(number, drawn[-1 - turn])
                found[question.name].cold.append(first.seconds)
                found[question.name].fault = first.fault
    with asking(data, name) as ask:
        for number, question in enumerate(QUESTIONS):
            _warm(found[question.name], ask, number, drawn, seconds)
    return found


def _warm(one: Measured, ask: Ask, number: int, drawn: list[Drawn], seconds: float) -> None:
    one.fault = one.fault or ask(number, drawn[-1]).fault
    began = time.monotonic()
    for each in drawn:
        if one.fault or (len(one.warm) >= LEAST and time.monotonic() - began > seconds):
            return
        answer = ask(number, each)
        one.fault = answer.fault
        if not answer.fault:
            one.warm.append(answer.seconds)
            one.cpu.append(answer.cpu_seconds)
            one.counts.append(answer.counted)


@contextlib.contextmanager
def asking(data: Path, name: str) -> Iterator[Ask]:
    """A fresh process of one system, to be called with a question's number."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_answer, args=(data, name, there))
    child.start()
    there.close()

    def ask(number: int, drawn: Drawn) -> Answered:
        here.send((number, drawn))
        answer: Answered = here.recv()
        return answer

    try:
        here.recv()
        yield ask
    finally:
        with contextlib.suppress(BrokenPipeError):
            here.send(None)
        child.join()


def _answer(data: Path, name: str, pipe: Connection) -> None:
    """The process of one system: ready when it says so, then one lookup after the other."""
    cluster.die_with_parent()
    with contextlib.ExitStack() as stack:
        ask = _ours() if name == OURS else _peer(stack.enter_context(contextlib.closing(_peers.PEERS[name](data))))
        pipe.send(None)
        while (asked := pipe.recv()) is not None:
            number, drawn = asked
            started, used = time.perf_counter(), time.process_time()
            count, fault = ask(number, drawn)
            pipe.send(Answered(time.perf_counter() - started, time.process_time() - used, count, fault))


def _ours() -> Callable[[int, Drawn], tuple[int, str]]:
    import django

    django.setup()
    from lineage import errors

    lookups = _questions.ours()
    # As the process does that serves pages.
    workers.warm()

    def ask(number: int, drawn: Drawn) -> tuple[int, str]:
        try:
            return lookups[QUESTIONS[number].name](drawn), ""
        except errors.NotFound:
            return 0, ""
        except errors.QueryTooLong as error:
            return 0, error.message

    return ask


def _peer(system: _peers.ClickHouse | _peers.PostgreSQL) -> Callable[[int, Drawn], tuple[int, str]]:
    return lambda number, drawn: (system.ask(QUESTIONS[number], drawn), "")


def print_table(found: dict[str, dict[str, Measured]]) -> None:
    """One line for each lookup, and under the table how the answers agree."""
    peers = [name for name in found if name != OURS]
    print(
        f"| lookup | {' | '.join(found)} | CPU of ours and of ClickHouse | {' | '.join(f'beside {each}' for each in peers)} |"
    )
    print("|---" * (len(found) + len(peers) + 2) + "|")
    for question in QUESTIONS:
        each = {name: measurements[question.name] for name, measurements in found.items()}
        # The server does the work of a lookup in PostgreSQL, not the process that asks.
        cpu = " / ".join(_mean(one.cpu) for name, one in each.items() if name != "PostgreSQL")
        beside = " | ".join(_beside(each[OURS], each[name]) for name in peers)
        print(f"| {question.name} | {' | '.join(map(_figures, each.values()))} | {cpu} | {beside} |")
    print("\nCold / p50 / p95 (warm lookups).\n")
    for question in QUESTIONS:
        each = {name: measurements[question.name] for name, measurements in found.items()}
        print(f"{question.name}: {agreement(each, question.most)}")
    print()


def _mean(seconds: list[float]) -> str:
    return f"{statistics.mean(seconds) * 1e3:,.1f}" if seconds else "–"


def _figures(one: Measured) -> str:
    if not one.warm:
        return one.fault or "no answer"
    p50, p95 = statistics.median(one.warm), sorted(one.warm)[max(0, -(-len(one.warm) * 95 // 100) - 1)]
    cold = f"{statistics.median(one.cold) * 1e3:,.1f}" if one.cold else "–"
    return f"{cold} / {p50 * 1e3:,.1f} / {p95 * 1e3:,.1f} ({len(one.warm)})"


def _beside(own: Measured, other: Measured) -> str:
    """Who is faster at p50, and how many times."""
    if not own.warm or not other.warm:
        return "–"
    ratio = statistics.median(own.warm) / statistics.median(other.warm)
    return f"**lost**, {ratio:,.1f} ×" if ratio > 1 else f"won, {1 / ratio:,.1f} ×"


def agreement(found: dict[str, Measured], capped: int) -> str:
    """Whether all count the same, up to `capped`, for the lookups that all were asked."""
    most = min(len(one.counts) for one in found.values())
    counts = {name: [min(count, capped) for count in one.counts[:most]] for name, one in found.items()}
    own = counts[OURS]
    sentences = []
    for name, each in counts.items():
        differing = [place for place in range(most) if each[place] != own[place]]
        if differing:
            at = differing[0]
            sentences.append(
                f"{name} counts otherwise in {len(differing)} of {most} (first {each[at]}, ours {own[at]})"
            )
    return "; ".join(sentences) or f"the same counts in all {most}, {sum(own):,} together"


if __name__ == "__main__":
    main()
