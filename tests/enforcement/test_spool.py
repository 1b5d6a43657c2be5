"""The spool: durable, bounded, without gap or reuse of sequence numbers, whatever the end of its file looks like."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import msgspec
import pytest

from enforcement import spool as spools
from enforcement.spool import Cursor, Spool, SpoolError


def item(text: str) -> bytes:
    return b'"position":"x","record":%b' % msgspec.json.encode(text)


def records(lines: list[bytes]) -> list[tuple[int, str]]:
    decoded = [msgspec.json.decode(line) for line in lines]
    return [(line["sequence"], line["record"]) for line in decoded]


def everything(queue: Spool) -> list[tuple[int, str]]:
    cursor, found = Cursor(queue), []
    while taken := cursor.take(7, 1 << 20)[1]:
        found += records(taken)
    return found


def test_items_come_back_in_order_with_sequence_numbers_from_one(tmp_path: Path) -> None:
    queue = Spool(tmp_path)
    for n in range(30):
        queue.append([item(f"a{n}"), item(f"b{n}")], {"n": n})
    queue.sync()
    found = everything(queue)
    assert [n for n, _ in found] == list(range(1, 61))
    assert found[:2] == [(1, "a0"), (2, "b0")]


def test_a_reader_continues_at_the_position_that_was_spooled_with_the_last_items(tmp_path: Path) -> None:
    queue = Spool(tmp_path)
    queue.append([item("one")], {"offset": 10})
    queue.append([item("two")], {"offset": 20})
    queue.append([item("a statement of the collector itself")])
    queue.close()
    again = Spool(tmp_path)
    assert (again.position, again.last) == ({"offset": 20}, 3)
    assert everything(again)[1] == (2, "two")


def test_nothing_is_handed_out_before_it_is_durable(tmp_path: Path) -> None:
    queue = Spool(tmp_path)
    cursor = Cursor(queue)
    queue.append([item("one")], {})
    assert cursor.take(10, 1 << 20) == (1, [])
    queue.sync()
    assert records(cursor.take(10, 1 << 20)[1]) == [(1, "one")]


@pytest.mark.parametrize("cut", [1, 5, 9, 20, 41])
def test_a_torn_last_frame_is_cut_and_its_numbers_are_given_again(tmp_path: Path, cut: int) -> None:
    queue = Spool(tmp_path)
    queue.append([item("kept")], {"offset": 1})
    queue.append([item("torn in the middle of this text")], {"offset": 2})
    queue.close()
    path = queue.segments[-1].path
    path.write_bytes(path.read_bytes()[:-cut])
    again = Spool(tmp_path)
    assert (again.last, again.position) == (1, {"offset": 1})
    again.append([item("read again")], {"offset": 2})
    again.sync()
    assert everything(again) == [(1, "kept"), (2, "read again")]


def test_a_damaged_last_frame_is_cut_like_a_torn_one(tmp_path: Path) -> None:
    queue = Spool(tmp_path)
    queue.append([item("kept")], {"offset": 1})
    queue.append([item("damaged")], {"offset": 2})
    queue.close()
    path = queue.segments[-1].path
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert everything(Spool(tmp_path)) == [(1, "kept")]


def test_a_new_segment_killed_before_its_first_frame_is_forgotten(tmp_path: Path) -> None:
    queue = Spool(tmp_path)
    queue.append([item("kept")], {"offset": 1})
    queue.close()
    (tmp_path / "segments" / f"{2:020d}.seg").write_bytes(b"\x05\x00")
    again = Spool(tmp_path)
    assert (again.last, again.position, len(again.segments)) == (1, {"offset": 1}, 1)


def test_acknowledged_segments_are_removed_and_the_state_stays(tmp_path: Path) -> None:
    queue = Spool(tmp_path, limit_bytes=1 << 20)
    for n in range(40):
        queue.append([item("x" * 10000)], {"offset": n})
    queue.sync()
    assert len(queue.segments) > 2
    queue.acknowledge(40)
    assert len(queue.segments) == 1
    queue.close()
    again = Spool(tmp_path)
    assert (again.last, again.acknowledged, again.position) == (40, 40, {"offset": 39})
    assert everything(again) == []


def test_only_what_is_not_acknowledged_is_handed_out_after_a_restart(tmp_path: Path) -> None:
    queue = Spool(tmp_path, limit_bytes=1 << 20)
    for n in range(40):
        queue.append([item("x" * 10000), item(str(n))], {})
    queue.sync()
    queue.acknowledge(55)
    queue.close()
    assert [n for n, _ in everything(Spool(tmp_path, limit_bytes=1 << 20))] == list(range(56, 81))


def test_numbers_that_were_acknowledged_are_never_given_again_even_when_the_disk_forgot_the_items(
    tmp_path: Path,
) -> None:
    queue = Spool(tmp_path)
    queue.append([item("one")], {"offset": 1})
    queue.append([item("two")], {"offset": 2})
    queue.sync()
    queue.acknowledge(2)
    queue.close()
    path = queue.segments[-1].path
    path.write_bytes(path.read_bytes()[:-10])
    again = Spool(tmp_path)
    assert again.append([item("three")], {"offset": 2}) == 3
    again.sync()
    assert everything(again) == [(3, "three")]
    again.close()
    assert Spool(tmp_path).last == 3


def test_a_full_spool_makes_the_reader_wait_until_the_store_took_something(tmp_path: Path) -> None:
    queue = Spool(tmp_path, limit_bytes=1 << 20)
    while queue.has_room():
        queue.append([item("x" * 50000)], {})
    waited = threading.Event()
    done = threading.Event()

    def put() -> None:
        queue.put([item("last")], {"offset": 9}, while_waiting=waited.set)
        done.set()

    thread = threading.Thread(target=put)
    thread.start()
    assert waited.wait(5)
    assert not done.is_set()
    queue.acknowledge(queue.synced)
    assert done.wait(5)
    thread.join()
    queue.sync()
    assert everything(queue) == [(queue.last, "last")]


def test_a_full_disk_leaves_no_half_frame_and_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Spool(tmp_path)
    queue.append([item("before")], {"offset": 1})
    real, failures = queue._file, [1, 2]

    class FullDisk:
        def write(self, content: memoryview) -> int:
            if failures:
                failures.pop()
                real.write(content[:5])
                raise OSError(errno.ENOSPC, "No space left on device")
            return real.write(content) or 0

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

    monkeypatch.setattr(queue, "_file", FullDisk())
    waits: list[int] = []
    queue.put([item("after")], {"offset": 2}, while_waiting=lambda: waits.append(1), poll_seconds=0.01)
    queue.sync()
    assert len(waits) == 2
    assert everything(queue) == [(1, "before"), (2, "after")]
    queue.close()
    assert everything(Spool(tmp_path)) == [(1, "before"), (2, "after")]


def test_two_collectors_cannot_share_a_spool(tmp_path: Path) -> None:
    queue = Spool(tmp_path)
    with pytest.raises(SpoolError, match="in use"):
        Spool(tmp_path)
    queue.close()
    Spool(tmp_path).close()


def test_a_batch_is_bounded_in_items_and_bytes_but_never_empty(tmp_path: Path) -> None:
    queue = Spool(tmp_path)
    queue.append([item("x" * 1000)] * 10, {})
    queue.sync()
    cursor = Cursor(queue)
    assert len(cursor.take(3, 1 << 20)[1]) == 3
    assert len(cursor.take(10, 2500)[1]) == 2
    assert len(cursor.take(10, 1)[1]) == 1
    first, lines = cursor.take(10, 1 << 20)
    assert (first, len(lines)) == (7, 4)
    cursor.give_back(first, lines)
    assert cursor.take(10, 1 << 20) == (7, lines)


def test_a_segment_damaged_on_disk_is_refused_or_skipped_but_never_renumbered(tmp_path: Path) -> None:
    queue = Spool(tmp_path, limit_bytes=1 << 20)
    for n in range(40):
        queue.append([item("x" * 10000)], {"offset": n})
    queue.close()
    path = queue.segments[0].path
    content = bytearray(path.read_bytes())
    content[20500] ^= 1
    path.write_bytes(content)
    numbers = [n for n, _ in everything(Spool(tmp_path, limit_bytes=1 << 20))]
    assert numbers[:2] == [1, 2]
    assert numbers[-1] == 40
    assert len(numbers) < 40


def test_a_small_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    spools.write_durably(tmp_path / "note", b"1")
    spools.write_durably(tmp_path / "note", b"2")
    assert (tmp_path / "note").read_bytes() == b"2"
    assert [p.name for p in tmp_path.iterdir()] == ["note"]


def test_zeros_behind_the_last_frame_are_cut(tmp_path: Path) -> None:
    queue = Spool(tmp_path)
    queue.append([item("kept")], {"offset": 1})
    queue.close()
    with queue.segments[-1].path.open("ab") as file:
        file.write(bytes(4096))
    again = Spool(tmp_path)
    again.append([item("next")], {"offset": 2})
    again.sync()
    assert everything(again) == [(1, "kept"), (2, "next")]
