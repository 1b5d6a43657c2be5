"""What a child process does to one store: append, sign, seal; and after a crash: start again, go on, and look closely.

Each act takes the case's facts and returns what it saw as plain JSON. Faults are told as sentences.
"""

from __future__ import annotations

import datetime as dt
import json
import resource
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import time_machine
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connection

from lineage import errors, ingest, keeper, merging, segments, steward, turns
from lineage.extracts import keeping
from lineage.models import Source, User
from tests.crash import steps
from tests.crash.border import Border
from tests.crash.looking import look, signed_notes, signer_notes

# What the keeper waits out or dies of and is started again: anything else would be an alarm.
WEATHER = (OSError, DatabaseError, psycopg.Error)


def use(world: dict[str, Any]) -> None:
    """Points this process at one store."""
    settings.DATA_DIR = Path(world["data"])
    settings.CHECKPOINT_SECONDS, settings.SEAL_SECONDS, settings.SEAL_EVENTS = 0.0, 0, 1
    settings.KEY_SECONDS = 0
    if world.get("chain") in ("erasing", "extracting", "merging", "renewing"):
        # Nobody reads here, so nobody is waited for.
        settings.GRACE_SECONDS = -settings.QUERY_SECONDS
    connection.settings_dict["NAME"] = world["database"]


def make(world: dict[str, Any]) -> dict[str, Any]:
    """A store as `setup` leaves it, with a source, and with as many records as asked, signed and partly sealed."""
    use(world)
    steps.become("owner")
    call_command("setup", verbosity=0)
    Source.objects.create(name="shop", format="events", environment="prod", datasource="orders")
    for name in ("carla", "claus"):
        User.objects.create(email=f"{name}@compliance.example", role="compliance")
    if world["records"]:
        # Without a statement: it would be parsed anew in each case.
        body = msgspec.json.encode([steps.item(f"before-{n}", statement=None) for n in range(world["records"] - 3)])
        steps.become("web")
        ingest.accept(Source.objects.get(name="shop"), body)
        steps.sign()
        steps.seal()
        steps.append("early")
        steps.sign()
    else:
        # Not even begun: this is what the first start finds.
        for path in Path(world["data"]).iterdir():
            shutil.rmtree(path)
    steps.become("owner")
    return {"faults": [], "notes": signed_notes()}


def count(world: dict[str, Any]) -> dict[str, Any]:
    """One round without a fault: for each call its step, its name, its number among those of one name, its faults."""
    use(world)
    border = Border(Path(world["data"]))
    calls = []
    for at, step in steps.CHAINS[world["chain"]]("counted", lambda _: None).items():
        border.arm()
        step()
        seen: Counter[str] = Counter()
        for each in border.disarm():
            calls.append((at, each.name, seen[each.name], each.kinds()))
            seen[each.name] += 1
    return {"calls": calls}


def rounds(world: dict[str, Any]) -> dict[str, Any]:
    """Rounds in which calls fail, one at a time; the same process does the step again, as it would.

    `missed` are the faults whose call did not come.
    """
    use(world)
    border = Border(Path(world["data"]))
    faults, missed = [], []
    with open(world["told"], "a", encoding="utf-8") as out:

        def told(acknowledged: list[list[Any]]) -> None:
            out.writelines(json.dumps(each) + "\n" for each in acknowledged)
            out.flush()

        for name, its_faults in world["rounds"]:
            for at, step in steps.CHAINS[world["chain"]](name, told).items():
                for at_step, *fault in its_faults:
                    if at_step == at:
                        border.arm(*fault)
                        faults += attempt(at, step)
                        border.disarm()
                        missed += [] if border.hit else [[at_step, *fault]]
                        connection.close()
                step()
    return {"faults": faults, "missed": missed}


def write(world: dict[str, Any]) -> dict[str, Any]:
    """A source that sends batch after batch, while keepers are at work elsewhere."""
    use(world)
    with open(world["told"], "a", encoding="utf-8") as out:
        for name, _ in world["rounds"]:
            out.writelines(json.dumps(each) + "\n" for each in steps.append(name))
            time.sleep(0.02)
    return {"faults": []}


def keepers(world: dict[str, Any]) -> dict[str, Any]:
    """A keeper as it runs, until the file `stop` is there; at its fault, if it has one, it leaves the file `met`."""
    use(world)
    settings.SEAL_EVENTS = 20
    border = Border(Path(world["data"]))
    border.arm(*world["fault"])
    steps.become("store")
    threading.Thread(target=keeper.run, daemon=True).start()
    while not Path(world["stop"]).exists():
        time.sleep(0.05)
        if border.hit:
            Path(world["met"]).touch()
    # Not in the middle of a turn, which would be a kill.
    with keeper.lock():
        return {"faults": [], "hit": border.hit}


def stewards(world: dict[str, Any]) -> dict[str, Any]:
    """A steward as it runs, with something to do at once and without giving way, until it dies of its fault."""
    use(world)
    settings.SEAL_EVENTS = 20
    merging.MANY, merging.GROWTH, keeping.LEAST = 2, 1, 1
    border = Border(Path(world["data"]))
    border.arm(*world["fault"])
    steps.become("store")
    turns.begin()
    turns.beside(steward.rounds())
    time.sleep(60)
    return {"faults": ["It lives on."]}


def sealed(world: dict[str, Any]) -> dict[str, Any]:
    """Up to which record the log is sealed."""
    use(world)
    steps.become("store")
    return {"sealed_to": segments.sealed_to()}


def out_of_space(world: dict[str, Any]) -> dict[str, Any]:
    """Rounds in which no file may grow beyond so many bytes, then rounds in which it may: a real short write."""
    use(world)
    faults, failed = [], 0
    for name, limit in world["rounds"]:
        for at, step in steps.sealing(name, lambda _: None).items():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                step()
            except OSError:
                failed += 1
            except Exception as error:  # noqa: BLE001 - told as a fault
                faults.append(f"{at} within {limit} bytes: {type(error).__name__}: {error}")
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            step()
    return {"faults": faults, "failed": failed}


def clock(world: dict[str, Any]) -> dict[str, Any]:
    """Rounds in each of which this process's clock is off by so many seconds."""
    use(world)
    for name, seconds in world["rounds"]:
        with time_machine.travel(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds), tick=True):
            for step in steps.sealing(name, lambda _: None).values():
                step()
    return {"faults": []}


def attempt(at: str, step: Callable[[], None]) -> Iterator[str]:
    """A step that meets a fault may fail as the weather makes it fail; a source is always told to send again."""
    try:
        step()
    except errors.StoreUnavailable:
        pass
    except Exception as error:  # noqa: BLE001 - told as a fault
        if at == "append" or not isinstance(error, WEATHER):
            yield f"{at}: {type(error).__name__}: {error}"


def restart(world: dict[str, Any]) -> dict[str, Any]:
    """As after a crash: the source and the people go on, the keeper runs, nobody repairs; then everything is looked at."""
    use(world)
    earlier = world["notes"] + list(signer_notes())
    steps.begin()
    acknowledged = [json.loads(line) for line in Path(world["told"]).read_text().splitlines()]
    names = [name for name, _ in world["rounds"]]
    for name in [*names, "afterwards"]:
        acknowledged += steps.append(name)
    if world["chain"] == "erasing":
        for name in names:
            steps.ask(name)
        steps.approve()
    steps.become("store")
    if world["chain"] == "renewing":
        steps.come_back()
    size, covered, sealed, alarm = keep()
    if world["chain"] == "extracting":
        steps.extract()
    faults = [f"size {size}, signed {covered}, sealed {sealed}, alarm {alarm}"] if size != sealed or alarm else []
    return {"faults": faults + list(look(acknowledged, earlier, size))}


def keep() -> tuple[int, int, int, str | None]:
    """The keeper's turns, as its loop makes them: the second one seals what an erasure said last."""
    for _ in range(2):
        with keeper.lock():
            turns.Rounds([each for each in keeper.rounds() if not each.apart]).once(time.monotonic())
        size, covered, sealed, alarm = standing()
        if size == sealed:
            break
    return size, covered, sealed, alarm


def standing() -> tuple[int, int, int, str | None]:
    """Records, those under a checkpoint, those sealed, and what alarms say."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select size, (select coalesce(max(size), 0) from ledger_checkpoint), ledger_sealed_to(), "
            "(select string_agg(code || ': ' || message, '; ') from ledger_alarm where cleared_at is null) "
            "from ledger_head"
        )
        size, covered, sealed, alarm = cursor.fetchone()
        return size, covered, sealed, alarm


ACTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    each.__name__: each
    for each in (make, count, rounds, restart, write, keepers, stewards, sealed, out_of_space, clock)
}
