"""Two keepers at once, a clock that is set back, a disk that is really full: one log all the same, without repair."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lineage import turns
from tests.crash.worlds import Worlds, Zygote

pytestmark = pytest.mark.slow
BATCHES = 40
NO_FAULT = ["", 0, ""]
SIZES_BYTES = (0, 1, 100, 254 * 32, 254 * 32 + 40, 9_000, 20_000)
CLOCKS_SECONDS = (0, -3600, 0, 3600, -3600)


def after(zygote: Zygote, world: dict[str, Any], base: dict[str, Any], rounds: list[tuple[str, Any]]) -> list[str]:
    """What is wrong with the log once everything has gone on."""
    done = zygote.run("restart", world, rounds=rounds, notes=base["notes"])
    return list(done["faults"])


@pytest.mark.parametrize(
    ("fault", "dies"),
    [
        (NO_FAULT, False),
        (["write signer/signed.json.new", 2, "kill"], True),
        (["write signer/signed.json.new", 2, "stall"], False),
        (["fsync segments", 1, "kill"], True),
        (["rename segments/.*", 1, "stall"], False),
    ],
)
def test_two_keepers_at_once_sign_one_log(worlds: Worlds, fault: list[Any], dies: bool) -> None:
    """One of them dies, or loses its lock in the middle of its work and goes on as if it still had it."""
    base = worlds.base(254, "sealing")
    rounds: list[tuple[str, Any]] = []
    with worlds.copy(base) as (zygote, world), worlds.more(2) as (other, writer), ThreadPoolExecutor(2) as pool:
        stop = worlds.root / f"{world['database']}.stop"
        met = stop.with_suffix(".met")
        one = pool.submit(zygote.run, "keepers", world, fault=fault, stop=str(stop), met=str(met))
        two = pool.submit(other.run, "keepers", world, fault=NO_FAULT, stop=str(stop), met=os.devnull)
        try:
            while len(rounds) < BATCHES or not (one.done() if dies else met.exists()):
                assert len(rounds) < 20 * BATCHES, "the first keeper never came to its fault"
                more = [(f"batch-{len(rounds) + number}", None) for number in range(BATCHES)]
                assert writer.run("write", world, rounds=more) == {"status": 0, "faults": []}
                rounds += more
        finally:
            stop.touch()
        first, second = one.result(), two.result()
        assert second == {"status": 0, "faults": [], "hit": True}
        assert first["status"] == (-9 if dies else 0), first
        assert dies or first == {"status": 0, "faults": [], "hit": True}
        assert after(zygote, world, base, rounds) == []


def test_a_steward_that_dies_in_the_middle_keeps_nobody_from_sealing_and_leaves_nothing(worlds: Worlds) -> None:
    base = worlds.base(254, "extracting")
    rounds: list[tuple[str, Any]] = []
    with worlds.copy(base) as (zygote, world), worlds.more(2) as (other, writer), ThreadPoolExecutor(2) as pool:
        stop = worlds.root / f"{world['database']}.stop"
        keeping = pool.submit(other.run, "keepers", world, fault=NO_FAULT, stop=str(stop), met=os.devnull)

        def write() -> int:
            more = [(f"batch-{len(rounds) + number}", None) for number in range(10)]
            assert writer.run("write", world, rounds=more) == {"status": 0, "faults": []}
            rounds.extend(more)
            return int(writer.run("sealed", world)["sealed_to"])

        try:
            for fault in (["rename segments/.*m", 0, "kill"], ["rename extracts/.*x", 0, "kill"]):
                dying = pool.submit(zygote.run, "stewards", world, fault=fault)
                write()
                assert dying.result()["status"] == -9, dying.result()
                before = write()
                while write() == before:
                    assert len(rounds) < BATCHES * 10, "nothing is sealed any more"
        finally:
            stop.touch()
        assert keeping.result() == {"status": 0, "faults": [], "hit": True}
        assert after(zygote, world, base, rounds) == []


def test_what_the_keeper_does_once_is_done_again_when_it_failed() -> None:
    done: list[int] = []

    def work() -> None:
        done.append(len(done))
        if len(done) == 1:
            raise OSError("no space left on device")

    rounds = turns.Rounds([turns.Round("sweep", math.inf, work)])
    with pytest.raises(OSError, match="no space"):
        rounds.once(1.0)
    for now in (2.0, 3.0):
        rounds.once(now)
    assert done == [0, 1]


def test_a_clock_that_is_set_back_an_hour_changes_nothing(worlds: Worlds) -> None:
    """The program's clock; the database has its own."""
    base = worlds.base(254, "sealing")
    rounds = [(f"clock-{number}", seconds) for number, seconds in enumerate(CLOCKS_SECONDS)]
    with worlds.copy(base) as (zygote, world):
        assert zygote.run("clock", world, rounds=rounds) == {"status": 0, "faults": []}
        assert after(zygote, world, base, rounds) == []


def test_a_file_that_cannot_grow_stops_the_work_and_nothing_else(worlds: Worlds) -> None:
    """What the operating system itself does at a limit: a write of some bytes, then an error, in every library."""
    base = worlds.base(254, "sealing")
    rounds = [(f"full-{number}", size) for number, size in enumerate(SIZES_BYTES)]
    with worlds.copy(base) as (zygote, world):
        done = zygote.run("out_of_space", world, rounds=rounds)
        assert done["faults"] == []
        assert done["failed"] >= len(rounds)
        assert after(zygote, world, base, rounds) == []
