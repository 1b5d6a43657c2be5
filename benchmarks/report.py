"""Seconds and peak memory of one report against the size of its population: 1 k, 10 k, 100 k, 500 k accesses.

The product runs as `bin/serve` runs it; the log grows from size to size, and `bin/manage report` makes a report over all
of it, as a person would. One access in twenty is a direct write by a human, on an approved ticket but for one in twenty-five.
Memory is what that process and its renderer hold together, looked at every 20 ms. Beside it the same file is checked as its
reader checks it, every test run and every sample drawn again (`lineage.verify`). `bin/bench report 20000` takes one size.

`bin/bench report --data DIR` makes it of the year of a store that `bin/bench generate` filled, which nothing else uses then; of one
database with `--datasource`. There every direct write of a person or agent is a privileged act.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import _feeding, generate
from benchmarks._running import ROOT, Product, machine, native, wait_for

SIZES = (1_000, 10_000, 100_000, 500_000)
BATCH = 1_000
KIND = "privileged-access"
PERIOD_SECONDS = 8 * 3600
SOURCE = ("source", "add", "--format", "events", "--environment", "production")
UNSEALED_MOST = 5_000
"""As many records lie in the journal at most (`TOUCHSTONE_SEAL_EVENTS`)."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bin/bench report", description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--data", type=Path, help="the data folder of a store that bin/bench generate filled")
    parser.add_argument(
        "--datasource", action="append", default=[], help="of this database alone; may stand more than once"
    )
    told = parser.parse_args()
    if told.data:
        of_a_year(told.data, told.datasource)
    else:
        of_new_logs(told.sizes)


def of_a_year(folder: Path, datasources: Sequence[str]) -> None:
    """A report of the last year of a made store: in how many seconds, with how much memory at most, what its file says."""
    with generate.store(folder, None) as data:
        until = generate.planned(data).until
        since = until - dt.timedelta(days=365)
        from lineage import checkpoints

        checkpoints.checkpoint()
        out = Path(tempfile.mkdtemp(prefix="touchstone-bench-"))
        named = [word for name in datasources for word in ("--datasource", name)]
        environment = {**os.environ, "TOUCHSTONE_QUERY_SECONDS": "600"}
        seconds, peak = watched(environment, *asked(since, until, out), *named)
        summary = msgspec.json.decode(next(out.glob("*.json")).read_bytes())
        counts = summary["counts"]
        names = ("accesses", "population", "tested", "deviating")
        print(f"{machine()}; {KIND} of {', '.join(datasources) or 'all databases'}, log size {summary['as_of']:,}\n")
        print("| accesses | frozen | tested | deviating | made in s | peak MiB |\n|---|---|---|---|---|---|")
        print(f"| {' | '.join(f'{counts[name]:,}' for name in names)} | {seconds:.1f} | {peak / 2**20:,.0f} |")
        shutil.rmtree(out)


def asked(since: dt.datetime, until: dt.datetime, out: Path) -> list[str]:
    return ["manage.py", "report", KIND, "--from", since.isoformat(), "--to", until.isoformat(), "--out", str(out)]


def of_new_logs(sizes: Sequence[int]) -> None:
    """Reports of a log that grows from size to size."""
    data = Path(tempfile.mkdtemp(prefix="touchstone-bench-"))
    data.chmod(0o711)
    product = Product(data, TOUCHSTONE_QUERY_SECONDS="600")
    try:
        product.start()
        token = product.manage(*SOURCE, "bench", "--datasource", "bench", "--asserts", "actor")
        (data / "policy.txt").write_text(product.manage("policy"))
        since = dt.datetime.now(dt.UTC).replace(microsecond=0) - dt.timedelta(seconds=PERIOD_SECONDS + 3600)
        approve(product, since)
        print(f"{machine()}; one report of kind {KIND}, of the whole log\n")
        print(
            "| accesses | tested | deviating | made in s | peak MiB | checked in s | peak MiB | PDF bytes | archive bytes |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        done = 0
        for size in sizes:
            _feeding.send(product.port, token, bodies(done, size, since), 4)
            done = size
            line(product, since, size)
    finally:
        product.stop()
        shutil.rmtree(data, ignore_errors=True)


def approve(product: Product, since: dt.datetime) -> None:
    """A hundred tickets, each approved by somebody else before the period."""
    at = (since - dt.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    token = product.manage(*SOURCE, "desk", "--asserts", "approval,actor")
    said = [
        {
            "kind": "decision", "source_event_id": f"CHG-{number}", "occurred_at": at, "occurred_at_quality": "source",
            "ticket": f"CHG-{number}", "decision": {"type": "approval", "subject": f"CHG-{number}", "decided_by": "eve@bench.example"},
            "approval": {
                "state": "approved", "approvers": ["eve@bench.example"], "requested_by": "desk@bench.example", "decided_at": at,
            },
        }
        for number in range(100)
    ]  # fmt: skip
    _feeding.send(product.port, token, iter([msgspec.json.encode(said)]), 1)


def bodies(first: int, following: int, since: dt.datetime) -> Iterator[bytes]:
    """Ready-made request bodies of events number `first` up to `following`."""
    for start in range(first, following, BATCH):
        yield msgspec.json.encode([event(number, since) for number in range(start, min(start + BATCH, following))])


def event(number: int, since: dt.datetime) -> dict[str, Any]:
    at = since + dt.timedelta(seconds=number * 7919 % PERIOD_SECONDS)
    more: dict[str, Any] = {"occurred_at": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "source_event_id": f"bench-{number}"}
    if number % 20 == 0:
        person = f"person-{number % 40}"
        more |= {
            "op": "update", "class": "write", "command": "UPDATE", "rows": {"affected": 1},
            "actor": {"id": f"{person}@bench.example", "name": person, "type": "human", "db_user": person},
            "statement": {"text": f"update orders set amount = {number} where id = {number}", "state": "whole"},
            "transaction": {"id": str(number), "outcome": "committed"},
            "resources": [{"schema": "public", "relation": "orders", "columns": ["amount"], "access": "write"}],
        }  # fmt: skip
        if number % 500:
            more["ticket"] = f"CHG-{number % 100}"
    return native(f"bench-{number}", **more)


def line(product: Product, since: dt.datetime, size: int) -> None:
    """Makes one report and prints what it took. The log is all there, and sealed but for its newest records, before the clock starts."""
    written = (product.ready() or {}).get("size", 0)
    wait_for(lambda: sealed(product) + UNSEALED_MOST >= written > 0, 900, "the log is sealed")
    out = product.data / "out"
    shutil.rmtree(out, ignore_errors=True)
    until = since + dt.timedelta(seconds=PERIOD_SECONDS)
    seconds, peak = watched(product.environment, *asked(since, until, out))
    archive = [word for path in out.glob("*.zip") for word in ("--archive", str(path))]
    policy = str(product.data / "policy.txt")
    file = str(next(out.glob("*.pdf")))
    checked, held = watched(product.environment, "-m", "lineage.verify", file, "--policy", policy, *archive)
    summary = msgspec.json.decode(next(out.glob("*.json")).read_bytes())
    counts = summary["counts"]
    sizes = [sum(path.stat().st_size for path in out.glob(f"*.{form}")) for form in ("pdf", "zip")]
    print(
        f"| {counts['population']:,} | {counts['tested']:,} | {counts['deviating']:,} | {seconds:.1f} | {peak / 2**20:,.0f} "
        f"| {checked:.1f} | {held / 2**20:,.0f} | {sizes[0]:,} | {sizes[1]:,} |",
        flush=True,
    )
    assert (counts["population"], counts["deviating"]) == (size, size // 500), counts


def sealed(product: Product) -> int:
    """Up to which record the log lies in sealed files."""
    told = product.request("GET", "/metrics")[1].decode()
    return int(next(line.split()[1] for line in told.splitlines() if line.startswith("touchstone_sealed_to ")))


def watched(environment: dict[str, str], *words: str) -> tuple[float, int]:
    """Seconds, and the most bytes that the command and its children held at one time."""
    started = time.perf_counter()
    command = subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    peak, over = [0], threading.Event()
    watch = threading.Thread(target=_watch, args=(command.pid, peak, over))
    watch.start()
    told, _ = command.communicate()
    over.set()
    watch.join()
    if command.returncode != 0:
        raise RuntimeError(told[-2000:])
    return time.perf_counter() - started, peak[0]


def _watch(pid: int, peak: list[int], over: threading.Event) -> None:
    while not over.wait(0.02):
        peak[0] = max(peak[0], sum(_resident(each) for each in [pid, *_children(pid)]))


def _children(pid: int) -> list[int]:
    try:
        found = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [each for child in found for each in (child, *_children(child))]


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except OSError:
        return 0


if __name__ == "__main__":
    main()
