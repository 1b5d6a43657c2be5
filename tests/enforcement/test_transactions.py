"""Putting a replication stream together, with messages as PostgreSQL writes them, without a server."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from enforcement import changes, transactions
from enforcement import pgoutput_decoder as decoder


class Catalog:
    def type_name(self, oid: int) -> str | None:
        return {20: "bigint", 25: "text"}.get(oid)

    def primary_key(self, relation: int) -> tuple[str, ...]:
        return ("id",)


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def message(kind: str, body: bytes, xid: int | None) -> bytes:
    return kind.encode() + (struct.pack(">I", xid) if xid is not None else b"") + body


def described(oid: int, xid: int | None = None, extra: tuple[str, ...] = ()) -> bytes:
    names = ("id", "v", *extra)
    columns = b"".join(
        bytes([n == 0]) + text(name) + struct.pack(">Ii", 25 if n else 20, -1) for n, name in enumerate(names)
    )
    body = struct.pack(">I", oid) + text("public") + text(f"t{oid}") + b"d" + struct.pack(">H", len(names)) + columns
    return message("R", body, xid)


def insert(oid: int, number: int, xid: int | None = None, value: str = "x") -> bytes:
    fields = [str(number).encode(), value.encode()]
    row = struct.pack(">H", 2) + b"".join(b"t" + struct.pack(">I", len(f)) + f for f in fields)
    return message("I", struct.pack(">I", oid) + b"N" + row, xid)


def start(xid: int) -> bytes:
    return b"S" + struct.pack(">IB", xid, 1)


def stop() -> bytes:
    return b"E"


def abort(xid: int, subtransaction: int) -> bytes:
    return b"A" + struct.pack(">II", xid, subtransaction)


def stream_commit(xid: int, lsn: int) -> bytes:
    return b"c" + struct.pack(">IBQQq", xid, 0, lsn, lsn + 8, 1_000_000)


def plain(xid: int, lsn: int, *messages: bytes) -> list[bytes]:
    return [
        b"B" + struct.pack(">QqI", lsn, 1_000_000, xid), *messages, b"C" + struct.pack(">BQQq", 0, lsn, lsn + 8, 1_000_000),
    ]  # fmt: skip


class Stream:
    def __init__(self, folder: Path, limit_bytes: int = 1 << 30) -> None:
        self.assembler = transactions.Assembler(folder, limit_bytes)
        self.writer = changes.ItemWriter(changes.Source("7", 1, "shop"), Catalog())
        self.done: list[Any] = []

    def feed(self, *messages: bytes) -> None:
        for one in messages:
            taken = self.assembler.take(one)
            if isinstance(taken, transactions.Committed):
                self.done.append(taken)

    def records(self, after: int = 0) -> list[dict[str, Any]]:
        found = []
        for committed in self.done:
            for _, _, item in self.writer.transaction(committed, after, lambda: None):
                found.append(json.loads(b"{" + item + b"}")["record"])
        return found


def rows(records: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(r["relation"]["name"], int(r["new"][0])) for r in records]


def test_parts_of_several_streamed_transactions_come_together_each_at_its_commit(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    stream.feed(start(5), described(1, 5), insert(1, 1, 5), stop(), start(6), described(1, 6), insert(1, 10, 6), stop())
    stream.feed(*plain(9, 100, described(1), insert(1, 50)))
    stream.feed(start(5), insert(1, 2, 5), stop(), start(6), insert(1, 11, 6), stop())
    stream.feed(stream_commit(6, 200), stream_commit(5, 300))
    found = stream.records()
    assert rows(found) == [("t1", 50), ("t1", 10), ("t1", 11), ("t1", 1), ("t1", 2)]
    assert [(r["xid"], r["commit_lsn"], r["ordinal"], r["of"]) for r in found[1:3]] == [
        (6, "0/C8", 1, 2),
        (6, "0/C8", 2, 2),
    ]
    assert found[0]["commit_at"] == "2000-01-01T00:00:01.000000Z"


def test_rolled_back_parts_and_transactions_are_left_out(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    stream.feed(start(5), described(1, 5), insert(1, 1, 5), insert(1, 2, 51), insert(1, 3, 52), stop())
    stream.feed(abort(5, 51), start(5), described(1, 5), insert(1, 4, 5), insert(1, 5, 53), stop(), abort(5, 54))
    stream.feed(start(6), described(1, 6), insert(1, 99, 6), stop(), abort(6, 6))
    stream.feed(stream_commit(5, 300))
    found = stream.records()
    assert rows(found) == [("t1", 1), ("t1", 3), ("t1", 4), ("t1", 5)]
    assert {r["of"] for r in found} == {4}
    assert stream.assembler.size == 0


def test_a_large_transaction_waits_on_disk_and_comes_back_in_order(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    stream.feed(start(5), described(1, 5))
    stream.feed(*(insert(1, n, 5, "x" * 500) for n in range(3000)), stop(), stream_commit(5, 300))
    pending = stream.done[0].pending
    assert pending._file is not None
    assert pending._parts == []
    assert rows(stream.records()) == [("t1", n) for n in range(3000)]
    assert rows(stream.records(after=2990)) == [("t1", n) for n in range(2990, 3000)]
    assert list(tmp_path.iterdir()) == []
    pending.close()


def test_transactions_beyond_the_limit_stop_the_reader_instead_of_the_machine(tmp_path: Path) -> None:
    stream = Stream(tmp_path, limit_bytes=10_000)
    stream.feed(start(5), described(1, 5))
    with pytest.raises(transactions.TooLarge):
        stream.feed(*(insert(1, n, 5, "x" * 500) for n in range(30)))


def test_a_transaction_that_is_not_sent_again_still_teaches_its_relations(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    stream.feed(*plain(5, 100, described(1), insert(1, 1)))
    stream.writer.learn(stream.done.pop())
    stream.feed(*plain(6, 200, insert(1, 2)))
    assert rows(stream.records()) == [("t1", 2)]


def test_a_truncate_counts_each_relation_and_can_be_resumed_between_them(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    truncate = b"T" + struct.pack(">IB3I", 3, 0, 1, 2, 3)
    stream.feed(*plain(5, 100, described(1), described(2), described(3), insert(1, 1), truncate, insert(2, 2)))
    told = [(r["type"], r["relation"]["name"], r["ordinal"], r["of"]) for r in stream.records(after=2)]
    assert told == [("truncate", "t2", 3, 5), ("truncate", "t3", 4, 5), ("insert", "t2", 5, 5)]


@pytest.mark.parametrize("raw", [b"?", b"E?"[:1] + b"c", b"C" + bytes(25), insert(1, 1)])
def test_messages_out_of_place_are_refused_not_guessed(tmp_path: Path, raw: bytes) -> None:
    stream = Stream(tmp_path)
    if raw == b"Ec":
        stream.feed(b"E")
        raw = stream_commit(5, 1)
    with pytest.raises(decoder.DecodeError):
        stream.feed(raw)


def test_log_positions_are_written_as_postgresql_does() -> None:
    assert decoder.lsn_text(0x16B3748F00) == "16/B3748F00"
    assert decoder.lsn_number("16/B3748F00") == 0x16B3748F00
