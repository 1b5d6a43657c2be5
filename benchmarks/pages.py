"""How long each page takes until its first byte: `bin/bench pages --data DIR`, the worst first.

DIR is the data folder of any store, one that `bin/bench generate` filled for one; without it a passing store of 100,000 lean
records is made. What is asked for are the addresses of the product (tests/addresses.py), by an administrator, in this
process, which opens first what a web process does, and without the network: time is that of the program. Rows, people, sessions
and texts are drawn from the store, as often as they occur there. Reading is recorded, as always. The seat that reads is closed at the end.

The steward judges records by the rules of findings as they come; a made store has none judged, so that findings and the first
page judge 20,000 at each look. `--judge` does that before anything is asked, and writes what is found into the store.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import os
import random
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from benchmarks import generate
from benchmarks._history import Plan
from benchmarks._running import machine
from benchmarks.query import QUERY_SECONDS
from config import workers
from tests.addresses import ADDRESSES, OPEN

TURNS, LEAST, SECONDS = 20, 3, 10.0
HALF_A_DAY, MINUTE = dt.timedelta(hours=12), "%Y-%m-%dT%H:%M"
SEEN = 400
"""So many records are looked at for what to ask for."""
READER = "bench@touchstone.example"
Names = dict[str, str]
"""What stands for `{datasource}` and the like in an address."""


def _search(by: str = "event", q: str = "", **more: str) -> str:
    return "/search?" + urlencode({"q": q, "by": by, **more}, safe="{}")


MONTH = {"since": "{until_30}", "until": "{until}"}
PAGES = (
    _search(),
    _search(q="relation:{relation}"),
    _search(q="actor:{identity}", **MONTH),
    _search(q='text:"{text}"', **MONTH),
    _search("touch", "datasource:{datasource} relation:{relation} key:{key}"),
    _search("touch", "datasource:{datasource} relation:{relation}", since="{row_until_1}", until="{row_until}"),
    _search("session", "actor:{identity}"),
    _search("identity", "relation:{relation}"),
    _search("relation", "actor:{identity}"),
    "/?since={until_30}&until={until}",
    "/identities/{identity}/?since={until_30}&until={until}",
    "/tables/{datasource}/{relation}/?since={row_until_30}&until={row_until}",
)
"""What people look for, beside the addresses as they stand."""


class Taken(NamedTuple):
    """Seconds until the first byte in each turn, those of this process's CPU, and what was answered where it was not the page."""

    seconds: list[float]
    cpu_seconds: list[float]
    refused: set[int]

    @property
    def p95(self) -> float:
        return sorted(self.seconds)[max(0, -(-len(self.seconds) * 95 // 100) - 1)]

    def line(self, path: str) -> str:
        told = (self.p95, statistics.median(self.seconds), self.seconds[0], statistics.median(self.cpu_seconds))
        figures = " | ".join(f"{each * 1e3:,.0f}" for each in told)
        said = f" **answered {', '.join(map(str, sorted(self.refused)))}**" if self.refused else ""
        return f"| `{path}`{said} | {figures} | {len(self.seconds)} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bin/bench pages", description=__doc__)
    parser.add_argument("--data", type=Path, help="the data folder of a store")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for one page; at least three turns")
    parser.add_argument("--judge", action="store_true", help="judge all records by the rules of findings first")
    parser.add_argument("--only", default="", help="only addresses that hold this text")
    options = parser.parse_args()
    os.environ["TOUCHSTONE_QUERY_SECONDS"] = QUERY_SECONDS
    with opened(options.data) as size:
        if options.judge:
            judge()
        waiting = unjudged()
        paths = [path for path in asked() if options.only in path]
        workers.warm()
        with reader() as client:
            drawn = draw(size, options.turns)
            found = {path: measured(client, path, drawn, options.seconds) for path in paths}
        print(f"{machine()}; {size:,} records, {waiting:,} of them not judged; milliseconds until the first byte\n")
        print("| page | p95 | p50 | first | CPU, p50 | turns |")
        print("|---|---|---|---|---|---|")
        for path, taken in sorted(found.items(), key=lambda each: -each[1].p95 if each[1].seconds else 0):
            if taken.seconds:
                print(taken.line(path))
        print(
            f"\nNothing to ask for in this store: {', '.join(p for p, taken in found.items() if not taken.seconds) or '–'}\n"
        )


@contextlib.contextmanager
def opened(folder: Path | None) -> Iterator[int]:
    """The store with its server; gives how many records it holds."""
    plan = None if folder else Plan(generate.EVENTS)
    with generate.store(folder, plan) as data:
        if plan:
            generate.fill(plan, data)
        from lineage import tree

        yield tree.head()


def judge() -> None:
    """As the steward does it, look by look, until nothing waits; what is found is sealed, extracted and looked at too."""
    from lineage.findings import judging

    waiting = 0
    while waiting != (waiting := unjudged()):
        while judging.judge(again=False) < 0:
            time.sleep(0.1)
        generate.tidy(generate.Stages(), lambda: True)


def unjudged() -> int:
    """How many records wait to be judged."""
    from lineage import tree
    from lineage.finding_models import FindingProgress

    progress = FindingProgress.objects.filter(pk=1).first()
    return max(0, tree.head() - (progress.judged_to if progress else 0))


def asked() -> list[str]:
    """Every address that is read, once; of lists in several forms the first."""
    read = [
        one for one in ADDRESSES if one.post is None and not one.is_again and not (one.kind == OPEN and one.stranger)
    ]
    return list(dict.fromkeys([*PAGES, *(one.path for one in read)]))


@contextlib.contextmanager
def reader() -> Iterator[Any]:
    """A browser of an administrator without a password, whose seat ends with the block."""
    from django.conf import settings
    from django.test import Client

    from lineage.models import User

    settings.ALLOWED_HOSTS = ["testserver"]
    user, _ = User.objects.update_or_create(email=READER, defaults={"role": "admin", "is_active": True})
    client = Client(raise_request_exception=False)
    client.force_login(user, backend=settings.AUTHENTICATION_BACKENDS[0])
    try:
        yield client
    finally:
        User.objects.filter(pk=user.pk).update(is_active=False)


def draw(size: int, count: int) -> list[Names]:
    """What `count` turns ask for, from records drawn by chance."""
    from lineage.engine import Question

    drawn = random.Random(11)
    places = ", ".join(str(drawn.randrange(size)) for _ in range(SEEN if size else 0)) or "-1"
    with Question(joined=False) as question:
        events = question.rows(
            "select index, datasource, actor_id, agent_run, ticket, coalesce(session_id, db_session_id) as session, statement, "
            f"occurred_at from raw_events where index in ({places}) and environment is distinct from 'touchstone'"
        )
        touches = question.rows(
            f"select datasource, relation, key, access, occurred_at from raw_touches where index in ({places})"
        )
    own = _registered() | {"size": str(size)}
    return [own | _drawn(drawn, events, touches) for _ in range(count)]


def _drawn(drawn: random.Random, events: Sequence[Any], touches: Sequence[Any]) -> Names:
    """Each name from a record that has it: they need not be of one. Windows end half a day after what they are about."""

    def one(rows: Iterable[Any], *names: str) -> Any:
        some = [row for row in rows if all(row[name] for name in names)]
        return drawn.choice(some) if some else {}

    changed = [touch for touch in touches if touch["access"] == "changed"]
    row = one(changed or touches, "datasource", "relation", "key")
    did, session = one(events, "actor_id", "statement"), one(events, "datasource", "session")
    found = {name: row.get(name) for name in ("datasource", "relation", "key")} | {
        "identity": did.get("actor_id"),
        "text": _part(drawn, did.get("statement", "")),
        "session": f"{session['datasource']}~{session['session']}" if session else None,
        "run": one(events, "agent_run").get("agent_run"),
        "ticket": one(events, "ticket").get("ticket"),
        "index": one(events).get("index"),
    }
    for about, name in ((did, "until"), (row, "row_until")):
        if about:
            until = about["occurred_at"] + HALF_A_DAY
            found |= {name: f"{until:{MINUTE}}"}
            found |= {f"{name}_{days}": f"{until - dt.timedelta(days=days):{MINUTE}}" for days in (1, 30)}
    return {name: str(value) for name, value in found.items() if value is not None}


def _part(drawn: random.Random, text: str) -> str | None:
    """A word or two of a statement, without what search would take for more than letters."""
    parts = [part.strip() for part in text.replace('"', "'").replace("*", "'").split("'") if len(part.strip()) > 8]
    return drawn.choice(parts)[:24].strip() if parts else None


def _registered() -> Names:
    """The newest of each thing that has a page of its own."""
    from django.db import connection
    from django.db.models import Model

    from lineage import models
    from lineage.finding_models import Finding
    from reports.models import Report, Schedule

    kinds: dict[str, type[Model]] = {
        "finding": Finding, "report": Report, "live": models.GatewaySession, "saved": models.SavedSearch,
        "seat": models.User, "schedule": Schedule,
    }  # fmt: skip
    found = {
        name: kind._default_manager.order_by("-pk").values_list("pk", flat=True).first() for name, kind in kinds.items()
    }
    found["held"] = models.HeldStatement.objects.order_by("-pk").values_list("request_id", flat=True).first()
    with connection.cursor() as cursor:
        for name, table in (("item", "ledger_quarantine"), ("erasure", "ledger_erasure"), ("check", "integrity_check")):
            cursor.execute(f"select max(id) from {table}")
            found[name] = cursor.fetchone()[0]
    return {name: str(value) for name, value in found.items() if value is not None}


def measured(client: Any, path: str, drawn: Sequence[Names], seconds: float) -> Taken:
    """Each turn with other names; none where the store has nothing by them."""
    taken, began = Taken([], [], set()), time.monotonic()
    for names in drawn:
        if len(taken.seconds) >= LEAST and time.monotonic() - began > seconds:
            break
        try:
            place = path.format(**{name: quote(value, safe="") for name, value in names.items()})
        except KeyError:
            continue
        started, used = time.perf_counter(), time.process_time()
        answer = client.get(place)
        taken.seconds.append(time.perf_counter() - started)
        taken.cpu_seconds.append(time.process_time() - used)
        if answer.status_code != 200:
            taken.refused.add(answer.status_code)
        answer.close()
    return taken


if __name__ == "__main__":
    main()
