"""At each single call to the operating system and the database, each kind of fault: then everything goes on by itself.

A first run counts the calls at the border (tests/crash/border.py), so a new one is tried without a change here. Each
case then has a store of its own. After an error the same process does the step again, and in a second round meets the
same fault; after a kill it is gone. Then another process begins: the source sends everything again, the keeper makes a
turn, nobody repairs, and the log is looked at (`acts.look`).

The ordinary round begins at 254 records, so that a tile becomes full in it (254 + 3 + 3 + 3).
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from tests.crash.worlds import Worlds

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
KILLED = -9
CRASHES = ("kill", "power")
READS_AT_ONCE = 12


class Call(NamedTuple):
    """One call of a round: in which step, its name, and which of those of one name it is."""

    step: str
    name: str
    number: int


class Fault(NamedTuple):
    call: Call
    kind: str

    def __str__(self) -> str:
        return f"{self.kind} at {self.call.name!r} ({self.call.number}) of {self.call.step}"


class Faults(NamedTuple):
    """What can happen at a call, and whether the call changes anything."""

    kinds: list[str]
    changes: bool


Calls = dict[Call, Faults]


@pytest.fixture(scope="module")
def usual(worlds: Worlds) -> Calls:
    """The calls of an ordinary round, each with the faults that can happen there."""
    return counted(worlds, worlds.base(254, "sealing"))


def test_a_fault_at_any_call_from_append_to_seal_needs_no_repair(worlds: Worlds, usual: Calls) -> None:
    try_each(worlds, worlds.base(254, "sealing"), usual)


def test_a_fault_at_any_call_of_the_first_round_of_all_needs_no_repair(worlds: Worlds, usual: Calls) -> None:
    """Only what an ordinary round does not do: keys, folders and files are made, a part of the journal is opened."""
    base = worlds.base(0, "sealing")
    try_each(worlds, base, without(counted(worlds, base), usual))


def test_a_fault_at_any_call_of_an_erasure_needs_no_repair(worlds: Worlds, usual: Calls) -> None:
    """Only what sealing does not do as often, and nothing a third time; at each call one kind of fault, in turn."""
    base = worlds.base(12, "erasing")
    rest = without(counted(worlds, base), usual)
    turns = enumerate((call, here) for call, here in rest.items() if call.number <= here.changes)
    try_each(
        worlds, base, {call: Faults([kinds[turn % len(kinds)]], changes) for turn, (call, (kinds, changes)) in turns}
    )


def counted(worlds: Worlds, base: dict[str, Any]) -> Calls:
    with worlds.copy(base) as (zygote, world):
        done = zygote.run("count", world)
    assert "calls" in done, done["faults"][0]
    calls = {Call(step, name, number): Faults(kinds, "kill" in kinds) for step, name, number, kinds in done["calls"]}
    # Steps that are no longer seen would make these tests empty ones.
    reached = {call.name.split()[0] for call in calls}
    assert reached >= {"connect", "copy_end", "commit", "write", "fsync", "rename", "open", "read"}
    return calls


def without(calls: Calls, tried: Calls) -> Calls:
    known = {(call.name, call.number) for call in tried}
    return {call: faults for call, faults in calls.items() if (call.name, call.number) not in known}


def try_each(worlds: Worlds, base: dict[str, Any], calls: Calls) -> None:
    """Every fault of every call, each with a store of its own; those at reads, which change nothing, share one."""
    faults = [Fault(call, kind) for call, here in calls.items() for kind in here.kinds]
    cases = [[fault] for fault in faults if calls[fault.call].changes]
    reads = [fault for fault in faults if not calls[fault.call].changes]
    cases += [reads[at : at + READS_AT_ONCE] for at in range(0, len(reads), READS_AT_ONCE)]
    with ThreadPoolExecutor(len(worlds.zygotes)) as pool:
        failed = [each for each in pool.map(lambda case: run(worlds, base, case), cases) if each]
    print(f"{len(calls)} calls, {len(faults)} faults: {dict(Counter(fault.kind for fault in faults))}")
    assert failed == []


def run(worlds: Worlds, base: dict[str, Any], faults: list[Fault]) -> str | None:
    """One case; what went wrong, or None."""
    crash, single = faults[0].kind in CRASHES, len(faults) == 1
    rounds = [("first", [[*fault.call, fault.kind] for fault in faults])]
    if single and not crash and base["chain"] == "sealing":
        rounds.append(("again", rounds[0][1]))
    told = ", ".join(map(str, faults))
    with worlds.copy(base) as (zygote, world):
        done = zygote.run("rounds", world, rounds=rounds)
        if crash and done["status"] != KILLED:
            return f"{told}: lived on: {done}"
        if done.get("faults"):
            return f"{told}: {done['faults']}"
        missed = [fault for fault in faults if [*fault.call, fault.kind] in done.get("missed", ())]
        if missed and single and len(done["missed"]) == len(rounds):
            return f"{told}: the call did not come"
        after = zygote.run("restart", world, rounds=rounds, notes=base["notes"])
        if after["status"] or after["faults"]:
            return f"{told}, after restart: {after.get('faults', after)}"
    # What a fault before it has made needless is tried alone.
    return None if single else next(filter(None, (run(worlds, base, [fault]) for fault in missed)), None)
