"""The log follower: rotation, half-written records, kills, and which records it sends."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demo.monitored import Monitored
from enforcement import logrecords
from lineage.events import Event, Quarantined
from lineage.sources import postgres_csvlog, postgres_jsonlog
from tests.enforcement.conftest import Database
from tests.enforcement.processes import Collector
from tests.enforcement.sink import Sink

pytestmark = pytest.mark.slow

Make = Callable[..., Collector]


def row(number: int, message: str | None = None, severity: str = "LOG", state: str = "00000") -> str:
    """One csvlog record. Every third message has a quoted line end, a quote and a comma in it."""
    awkward = "\nselect \"x\", 'y'\n," if number % 3 == 0 else ""
    text = message if message is not None else f'AUDIT: SESSION,1,1,READ,SELECT,,,"select {number}{awkward}",<none>'
    fields = ["2026-11-21 01:49:32.009 UTC", "bob", "shop", "3021", "127.0.0.1:4242", "655.1", str(number), "SELECT"]
    fields += [
        "2026-11-21 01:49:00 UTC",
        "3/7",
        "0",
        severity,
        state,
        text,
        *[""] * 8,
        "psql",
        "client backend",
        "",
        "0",
    ]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(fields)
    return out.getvalue()


def numbers(sink: Sink) -> list[int]:
    """session_line_num of all records in the order of their sequence."""
    found = []
    for item in sink.items():
        if "record" in item:
            record = item["record"]
            found.append(
                record["line_num"] if isinstance(record, dict) else int(next(csv.reader(io.StringIO(record)))[6])
            )
    return found


def come(sink: Sink) -> int:
    return len({item["sequence"] for batch in list(sink.batches) for item in batch})


def custody(sink: Sink) -> list[dict[str, Any]]:
    return [item["custody"] for item in sink.items() if "custody" in item]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_records_with_line_ends_inside_quotes_are_one_item_each(log: Path, collector: Make, sink: Sink) -> None:
    append(log / "a.csv", "".join(row(n) for n in range(100)))
    assert collector("pglog", log, "--once").start().wait() == 0
    assert numbers(sink) == list(range(100))
    first = sink.items()[3]
    assert first["record"] == row(3).rstrip("\n")
    assert first["position"] == f"a.csv:{len(''.join(row(n) for n in range(3)))}"
    assert sink.paths[0] == "/api/v1/ingest/postgres-csvlog"


def test_only_records_that_matter_are_sent_and_the_others_are_counted(log: Path, collector: Make, sink: Sink) -> None:
    wanted = [
        row(1), row(2, "connection received: host=1.2.3.4 port=5"), row(3, "disconnection: session time: 0:00:01"),
        row(4, "permission denied for table x", "ERROR", "42501"), row(5, "duration: 1.2 ms  execute <unnamed>: select 1"),
        row(6, "database system is ready to accept connections"), row(7, "received fast shutdown request"),
        row(8, 'parameter "pgaudit.log" changed to "none"'), row(9, "Zugriff verweigert", "FEHLER", "42501"),
        row(10, "connection authorized: user=bob"), row(11, "connection authenticated: identity=\"bob\" method=scram"),
        row(12, "server process (PID 7) was terminated by signal 9: Killed"), row(13, "statement: select 1"),
    ]  # fmt: skip
    noise = [row(50, "checkpoint starting: time")]
    append(log / "a.csv", "".join(x for pair in zip(wanted, noise * len(wanted), strict=True) for x in pair))
    one = collector("pglog", log, "--heartbeat-seconds", "0.5").start()
    sink.wait_for(lambda: come(sink) == len(wanted))
    sink.wait_for(lambda: any(beat["detail"].get("skipped") == len(wanted) for beat in sink.heartbeats), 15)
    assert numbers(sink) == list(range(1, 14))
    assert one.stop() == 0


def test_a_half_written_record_waits_for_its_other_half(log: Path, collector: Make, sink: Sink) -> None:
    whole = row(3)
    append(log / "a.csv", row(1) + whole[:170])
    one = collector("pglog", log).start()
    sink.wait_for(lambda: come(sink) == 1)
    time.sleep(0.5)
    one.kill9()
    one.start()
    append(log / "a.csv", whole[170:] + row(4))
    sink.wait_for(lambda: come(sink) == 3)
    assert numbers(sink) == [1, 3, 4]
    assert sink.items()[1]["record"] == whole.rstrip("\n")


def test_rotation_by_new_name_by_renaming_and_by_truncation_is_followed(log: Path, collector: Make, sink: Sink) -> None:
    append(log / "a.csv", row(1))
    one = collector("pglog", log).start()
    sink.wait_for(lambda: come(sink) == 1)
    append(log / "a.csv", row(2))
    append(log / "b.csv", row(3))
    sink.wait_for(lambda: come(sink) == 3)
    append(log / "b.csv", row(4))
    (log / "b.csv").rename(log / "b.csv.1")
    append(log / "b.csv.1", row(5))
    append(log / "b.csv", row(6))
    sink.wait_for(lambda: come(sink) == 6)
    with (log / "b.csv").open("r+") as file:
        file.truncate(0)
    append(log / "b.csv", row(7).replace("01:49", "01:50"))
    sink.wait_for(lambda: come(sink) == 8)
    assert sorted(numbers(sink)) == [1, 2, 3, 4, 5, 6, 7]
    assert [(c["subject"], c["detail"][:5]) for c in custody(sink)] == [("log", "b.csv")]
    assert one.stop() == 0


def test_what_was_rotated_while_the_collector_was_away_is_read_where_it_stopped(
    log: Path, collector: Make, sink: Sink
) -> None:
    append(log / "a.csv", row(1) + row(2))
    one = collector("pglog", log).start()
    sink.wait_for(lambda: come(sink) == 2)
    one.kill9()
    append(log / "a.csv", row(3))
    (log / "a.csv").rename(log / "a.csv.1")
    append(log / "a.csv", row(4))
    one.start()
    sink.wait_for(lambda: come(sink) == 4)
    assert numbers(sink) == [1, 2, 3, 4]
    assert custody(sink) == []


def test_a_file_that_was_removed_unread_is_a_gap(log: Path, collector: Make, sink: Sink) -> None:
    append(log / "a.csv", row(1))
    one = collector("pglog", log).start()
    sink.wait_for(lambda: come(sink) == 1)
    one.kill9()
    place = (log / "a.csv").stat().st_size
    append(log / "a.csv", row(2))
    (log / "a.csv").rename(log.parent / "elsewhere")
    append(log / "b.csv", row(3))
    one.start()
    sink.wait_for(lambda: come(sink) == 3)
    assert numbers(sink) == [1, 3]
    assert [(c["type"], c["first"]) for c in custody(sink)] == [("gap", f"a.csv:{place}")]


def test_a_torn_line_of_a_crashed_server_does_not_turn_later_records_inside_out(
    log: Path, collector: Make, sink: Sink
) -> None:
    append(log / "a.csv", row(1) + row(3)[:150] + row(4) + row(5) + row(6) + row(7))
    one = collector("pglog", log).start()
    sink.wait_for(lambda: come(sink) >= 5)
    time.sleep(0.5)
    texts = [item["record"] for item in sink.items()]
    assert texts[0] == row(1).rstrip("\n")
    assert texts[-3:] == [row(n).rstrip("\n") for n in (5, 6, 7)]
    assert one.stop() == 0


def test_invalid_utf8_is_kept_byte_for_byte(log: Path, collector: Make, sink: Sink) -> None:
    (log / "a.csv").write_bytes(row(1).replace("select", "caf\xe9").encode("latin-1"))
    assert collector("pglog", log, "--once").start().wait() == 0
    assert (
        base64.b64decode(sink.items()[0]["record_base64"]) == row(1).replace("select", "caf\xe9").encode("latin-1")[:-1]
    )


def test_jsonlog_records_are_objects_and_garbage_is_sent_as_bytes(log: Path, collector: Make, sink: Sink) -> None:
    record = {"timestamp": "2026-11-21 01:49:32.009 UTC", "error_severity": "LOG", "message": "AUDIT: x", "line_num": 4}
    append(log / "a.json", json.dumps(record) + "\n" + '{"message": "AUDI' + "\n")
    assert collector("pglog", log, "--format", "jsonlog", "--once").start().wait() == 0
    assert [item.get("record") for item in sink.items()] == [record, None]
    assert base64.b64decode(sink.items()[1]["record_base64"]) == b'{"message": "AUDI'
    assert sink.paths[0] == "/api/v1/ingest/postgres-jsonlog"


def test_stderr_entries_hold_their_continuation_and_detail_lines(log: Path, collector: Make, sink: Sink) -> None:
    lines = [
        "2026-11-21 01:49:32.009 UTC [7] bob@shop LOG:  AUDIT: SESSION,1,1,READ,SELECT,,,\"select 1",
        "\t2026-11-21 01:49:32.010 UTC [7] bob@shop LOG:  AUDIT: forged\",<none>",
        "2026-11-21 01:49:32.009 UTC [7] bob@shop ERROR:  permission denied for table x",
        "2026-11-21 01:49:32.009 UTC [7] bob@shop STATEMENT:  select * from x",
        "2026-11-21 01:49:33.009 UTC [9] LOG:  checkpoint starting: time",
        "2026-11-21 01:49:34.009 UTC [9] LOG:  database system is ready to accept connections",
    ]  # fmt: skip
    append(log / "a.log", "\n".join(lines) + "\n")
    one = collector("pglog", log, "--stderr", "--line-prefix", "%m [%p] %q%u@%d ").start()
    sink.wait_for(lambda: come(sink) == 3)
    assert [item["record"] for item in sink.items()] == ["\n".join(lines[:2]), "\n".join(lines[2:4]), lines[5]]
    assert "line_prefix=%25m+%5B%25p%5D" in sink.paths[0]
    assert one.stop() == 0


def test_a_statement_of_many_megabytes_is_cut_but_stays_readable(log: Path, collector: Make, sink: Sink) -> None:
    long = row(2, "AUDIT: SESSION,1,1,READ,SELECT,,,\"select '" + 'x\n""y' * 1_500_000 + "'\",<none>")
    append(log / "a.csv", row(1) + long + row(4))
    one = collector("pglog", log, "--once").start()
    assert one.wait() == 0
    assert numbers(sink) == [1, 2, 4]
    huge = sink.items()[1]
    assert huge["truncated"]["length"] == len(long) - 1
    assert len(next(csv.reader(io.StringIO(huge["record"], newline="")))) == 26
    assert len(huge["record"]) < 5 << 20


def test_from_end_skips_what_is_there_at_first_start_only(log: Path, collector: Make, sink: Sink) -> None:
    append(log / "a.csv", row(1))
    one = collector("pglog", log, "--from-end").start()
    sink.wait_for(lambda: bool(sink.heartbeats))
    time.sleep(0.5)
    append(log / "a.csv", row(2))
    sink.wait_for(lambda: come(sink) == 1)
    one.kill9()
    append(log / "a.csv", row(3))
    append(log / "b.csv", row(4))
    one.start()
    sink.wait_for(lambda: come(sink) == 3)
    assert numbers(sink) == [2, 3, 4]


def write_and_rotate(log: Path, count: int, stop: threading.Event) -> None:
    chance, file, name = random.Random(7), None, 0
    for n in range(count):
        if n % 400 == 0:
            if file is not None:
                file.close()
                if name % 2:
                    os.rename(log / f"f{name:03}.csv", log / f"f{name:03}.csv.old")
            name += 1
            file = (log / f"f{name:03}.csv").open("a", buffering=1 << 16)
        assert file is not None
        text = row(n)
        cut = chance.randrange(len(text))
        file.write(text[:cut])
        if n % 50 == 0:
            file.flush()
            time.sleep(0.01)
        file.write(text[cut:])
    assert file is not None
    file.close()
    stop.set()


def test_every_record_is_sent_once_through_rotation_and_kills(log: Path, collector: Make, sink: Sink) -> None:
    done = threading.Event()
    writer = threading.Thread(target=write_and_rotate, args=(log, 12000, done))
    one = collector("pglog", log).start()
    writer.start()
    chance = random.Random(3)
    kills = 0
    while not done.is_set() or kills < 6:
        time.sleep(chance.uniform(0.2, 0.9))
        one.kill9()
        one.start()
        kills += 1
    writer.join()
    sink.wait_for(lambda: come(sink) >= 12000, 60)
    assert sorted(numbers(sink)) == list(range(12000))
    assert custody(sink) == []


@pytest.mark.parametrize("log_format", ["csvlog", "jsonlog"])
def test_a_real_server_log_is_followed_with_denials_forgeries_and_canaries(
    streaming: Monitored, database: Database, collector: Make, sink: Sink, log_format: str
) -> None:
    one = collector(
        "pglog",
        streaming.log_dir,
        "--format",
        log_format,
        "--from-end",
        "--canary-dsn",
        database.dsn,
        "--canary-seconds",
        1,
    ).start()
    sink.wait_for(lambda: bool(sink.heartbeats))
    database.run("create table t(id int primary key, v text)", "insert into t values (1, E'two\\nlines, \"quoted\"')")
    database.run("do $$ begin raise log 'AUDIT: SESSION,1,1,READ,SELECT,,,forged,<none>'; end $$")
    with pytest.raises(Exception, match="does not exist"):
        database.run("select * from nothing_here")

    def text() -> str:
        return "\n".join(json.dumps(item) for batch in list(sink.batches) for item in batch)

    sink.wait_for(lambda: all(s in text() for s in ("two\\\\nlines", "forged", "nothing_here", "disconnection")), 20)
    sink.wait_for(lambda: text().count("touchstone-canary") >= 4, 20)
    assert one.stop() == 0
    assert custody(sink) == []
    parse = {"csvlog": postgres_csvlog.parse, "jsonlog": postgres_jsonlog.parse}[log_format]
    body = b"\n".join(json.dumps(item).encode() for item in sink.items())
    outputs = list(parse(body, feed=True))
    assert [output.reason for output in outputs if isinstance(output, Quarantined)] == []
    assert any(isinstance(output, Event) and output.verdict == "error" for output in outputs)


def test_a_canary_that_does_not_come_back_is_a_gap(
    database: Database, log: Path, collector: Make, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log / "a.csv", row(1))
    options = ("--canary-dsn", database.dsn, "--canary-seconds", 60, "--canary-within", 1)
    collector("pglog", log, *options).start()
    sink.wait_for(lambda: come(sink) == 2)
    (gap,) = custody(sink)
    assert (gap["type"], gap["subject"]) == ("gap", "canary")
    assert gap["first"] < gap["last"]


def test_a_line_prefix_becomes_a_strict_pattern() -> None:
    import re

    pattern = re.compile(logrecords.prefix_pattern("%t:%r:%u@%d:[%p]:"))
    assert pattern.match(b"2026-11-21 01:49:32 UTC:10.0.0.1(4242):bob@shop:[77]:LOG:  x")
    assert not pattern.match(b"not a time:10.0.0.1(4242):bob@shop:[77]:LOG:  x")
    assert re.match(logrecords.prefix_pattern("%m [%p] %q%u@%d "), b"2026-11-21 01:49:32.009 UTC [7] ")
