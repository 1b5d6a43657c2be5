"""Work that a process does again and again: what is due when, under which lock, and what a fault makes of it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import sys
import threading
import time
from collections.abc import Callable

import psycopg
from django.db import DatabaseError, IntegrityError, ProgrammingError, connection

from config import garbage
from lineage import alarms, errors, locks

APART_PACE_SECONDS = 1.0
log = logging.getLogger("touchstone.keeper")


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """Work that is due every `seconds`: 0 each time, infinity once.

    With `apart` it runs in a thread of its own under its own lock, in one process at a time: for what waits for others,
    such as a witness, or takes long. An alarm that it must raise is its own affair; a fault is logged and it is tried again.
    """

    name: str
    seconds: float
    work: Callable[[], object]
    apart: bool = False


class Rounds:
    """What is due when. The lock is taken for each turn, so that a command can do the work in between."""

    def __init__(self, every: list[Round]) -> None:
        self.every = every
        self.begun_at: dict[str, float] = {}

    def due(self, now: float) -> list[Round]:
        return [r for r in self.every if now - self.begun_at.get(r.name, -math.inf) >= r.seconds]

    def once(self, now: float) -> None:
        """Does what is due at `now` (monotonic seconds)."""
        for each in self.due(now):
            # What is done once is done when it has come to its end, not when it failed.
            self.begun_at[each.name] = now if each.seconds < math.inf else -math.inf
            each.work()
            self.begun_at[each.name] = now


def begin() -> None:
    """Call it first in a process that takes turns."""
    # As in a web worker: beside one busy thread the default makes each row that is read wait (docs/decisions/003).
    sys.setswitchinterval(0.0005)
    garbage.leave_loaded()


def beside(every: list[Round]) -> None:
    """Starts those that run apart; they end with the process."""
    for each in every:
        if each.apart:
            threading.Thread(target=_apart, args=(each,), name=each.name, daemon=True).start()


def _apart(each: Round) -> None:
    one = Rounds([each])
    while True:
        if one.due(time.monotonic()):
            try:
                time.sleep(turn(lambda: locks.alone(each.name), one))
            except Exception:
                # A thread that ends is missed by nobody: it says what happened and tries again.
                log.exception("%s failed; trying again", each.name)
                connection.close()
        time.sleep(APART_PACE_SECONDS)


def turn(held: Callable[[], contextlib.AbstractContextManager[None]], due: Rounds) -> float:
    """One turn under a lock; returns how many seconds to wait after a fault."""
    try:
        with held():
            due.once(time.monotonic())
    except (errors.SignerRefused, errors.LedgerBroken) as error:
        log.error("%s: %s", error.code, error.message)
        alarms.sound(error.fields.get("alarm", error.code), error.message)
        return 5
    except errors.StoreUnavailable as error:
        log.info("%s", error.message)
    except errors.TouchstoneError as error:
        log.error("%s: %s", error.code, error.message)
        return 5
    except OSError as error:
        # A full disk, for one: nothing was signed, and what was half written is written again.
        log.error("the data folder cannot be used (%s); trying again", error.strerror or type(error).__name__)
        return 5
    except (ProgrammingError, IntegrityError) as error:
        log.error("the database refuses the keeper's work (%s): %s", type(error).__name__, str(error).split("\n")[0])
        connection.close()
        return 5
    except (DatabaseError, psycopg.Error) as error:
        log.warning("the database does not answer (%s); trying again", type(error).__name__)
        connection.close()
        return 1
    return 0
