"""At each single call to the operating system and the database, each kind of fault: then everything goes on by itself.

A first run counts the calls at the border (tests/crash/border.py), so a new one is tried without a change here. Then
each fault has a round of its own. After an error the same process does the step again; after a kill another process
goes on. After some rounds, as after a crash: the source sends everything again, the keeper makes a turn, nobody
repairs, and the log is looked at (`looking.look`).

The ordinary rounds begin at 254 records, so that a tile becomes full in between (254 + 3 + 3 + 3).
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from tests.crash.worlds import Worlds, Zygote

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
KILLED = -9
CRASHES = ("kill", "power")
AT_ONCE = 8
TRIES = 3
PART_SECONDS = 300
"""How long the log writes into one part of the journal (`ledger_slot`)."""


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
    try_in_turn(worlds, worlds.base(12, "erasing"), usual, "merge")


def test_a_fault_at_any_call_of_a_merge_needs_no_repair(worlds: Worlds, usual: Calls) -> None:
    """The same of what only a merge does."""
    try_in_turn(worlds, worlds.base(254, "merging"), usual)


def test_a_fault_at_any_call_of_a_renewal_needs_no_repair(worlds: Worlds, usual: Calls) -> None:
    """The same of what only a renewal does: another version derives again what this one had derived."""
    try_in_turn(worlds, worlds.base(12, "renewing"), usual)


def test_a_fault_at_any_call_of_making_and_merging_extracts_needs_no_repair(worlds: Worlds, usual: Calls) -> None:
    """The same of what only that does, where it changes anything."""
    try_in_turn(worlds, worlds.base(12, "extracting"), usual, reads=False)


def try_in_turn(worlds: Worlds, base: dict[str, Any], usual: Calls, left_out: str = "", reads: bool = True) -> None:
    """One kind of fault at each call that is not a usual one, but for those of a step that has a test of its own.

    With `reads` also at calls that change nothing.
    """
    rest = without(counted(worlds, base), usual)
    rest = {call: here for call, here in rest.items() if call.step != left_out and (reads or here.changes)}
    turns = enumerate((call, here) for call, here in rest.items() if call.number <= here.changes)
    try_each(
        worlds, base, {call: Faults([kinds[turn % len(kinds)]], changes) for turn, (call, (kinds, changes)) in turns}
    )


def counted(worlds: Worlds, base: dict[str, Any]) -> Calls:
    """The calls of one round, made within one part of the journal: where the next begins is another place each time."""
    done, begun = None, -1
    while done is None or begun != time.time() // PART_SECONDS:
        begun = time.time() // PART_SECONDS
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
    """Every fault of every call. Some share a store, round after round; what fails there is tried again alone."""
    faults = [Fault(call, kind) for call, here in calls.items() for kind in here.kinds]
    # Of one kind in the order of the calls: what comes only once is not yet over when its turn comes.
    faults.sort(key=lambda fault: fault.kind)
    crashes = [fault for fault in faults if fault.kind in CRASHES]
    errors = [fault for fault in faults if fault.kind not in CRASHES]
    cases = [some[at : at + AT_ONCE] for some in (crashes, errors) for at in range(0, len(some), AT_ONCE)]
    with ThreadPoolExecutor(len(worlds.zygotes)) as pool:
        told = [each for each in pool.map(lambda case: run(worlds, base, case), cases) if each]
    print(f"{len(calls)} calls, {len(faults)} faults: {dict(Counter(fault.kind for fault in faults))}")
    assert told == []


def run(worlds: Worlds, base: dict[str, Any], faults: list[Fault], tries: int = TRIES) -> str | None:
    """What goes wrong with these faults, one in each round, or None."""
    told = [[*fault.call, fault.kind] for fault in faults]
    rounds = [(f"round-{number}", [each]) for number, each in enumerate(told)]
    if not base["records"] and faults[0].kind not in CRASHES:
        rounds = [("round-0", told)]
    with worlds.copy(base) as (zygote, world):
        missed, wrong = meet(zygote, world, faults, rounds)
        if not wrong:
            wrong = zygote.run("restart", world, rounds=rounds, notes=base["notes"])["faults"]
    alone = faults if wrong else missed
    if len(faults) == 1 and alone:
        if not wrong and tries > 1:
            # Every five minutes a round makes other calls: it opens the next part of the journal.
            return run(worlds, base, faults, tries - 1)
        return f"{faults[0]}: {wrong or 'the call did not come'}"
    # Some calls come in a first round only.
    return next(filter(None, (run(worlds, base, [fault]) for fault in alone)), f"{faults}: {wrong}" if wrong else None)


def meet(
    zygote: Zygote, world: dict[str, Any], faults: list[Fault], rounds: list[Any]
) -> tuple[list[Fault], list[str]]:
    """Makes the rounds; the faults whose call did not come, and what else was wrong."""
    if faults[0].kind not in CRASHES:
        done = zygote.run("rounds", world, rounds=rounds)
        return [fault for fault in faults if [*fault.call, fault.kind] in done.get("missed", ())], done["faults"]
    missed: list[Fault] = []
    for fault, each in zip(faults, rounds, strict=True):
        done = zygote.run("rounds", world, rounds=[each])
        if done["status"] != KILLED:
            missed.append(fault)
            if done["faults"]:
                return missed, done["faults"]
    return missed, []
