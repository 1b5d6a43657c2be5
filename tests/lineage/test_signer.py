"""The signer refuses anything but an append: each way by its name, with nothing signed and the alarm in the log."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from django.db import DatabaseError, connection
from django.test import override_settings

from lineage import checkpoints, errors, fsck, keeper, keys, merkle, notes, segments, tree
from tests import signing
from tests.signing import Log

pytestmark = pytest.mark.slow


@pytest.fixture
def log(store: str, server: Callable[..., dict[str, Any]]) -> Iterator[Log]:
    """A log of three records under a checkpoint."""
    with signing.log(server) as made:
        made.add()
        checkpoints.checkpoint()
        yield made


def edited(log: Log, **changes: Any) -> None:
    state = msgspec.json.decode(log.state.read_bytes(), type=checkpoints.Signed)
    log.state.write_bytes(msgspec.json.encode(msgspec.structs.replace(state, **changes)))


def test_without_its_state_it_signs_nothing_and_the_alarm_is_noted_once(log: Log) -> None:
    log.state.unlink()
    log.add()
    for _ in range(3):
        assert log.refused() == "signer-state-missing"
    assert log.refused(checkpoints.begin) == "signer-state-missing"
    assert log.alarms() == ["signer-state-missing"]
    assert log.told("signer-state-missing") == 1
    assert not log.state.exists()


def test_a_state_that_cannot_be_read_is_no_first_use(log: Log) -> None:
    log.state.write_bytes(b"{}")
    log.add()
    assert log.refused() == "signer-state-missing"


@pytest.mark.parametrize("left", ["records", "checkpoints", "leaf hashes", "a key"])
def test_a_log_of_which_anything_is_left_is_not_new(log: Log, left: str) -> None:
    log.state.unlink()
    if left != "leaf hashes":
        log.hashes.unlink()
    if left != "a key":
        for file in (log.data / "keys").glob("checkpoint*"):
            file.unlink()
    log.tamper(*(["delete from ledger_checkpoint"] * (left != "checkpoints")),
               *(["update ledger_head set size = 0"] * (left != "records")))  # fmt: skip
    with pytest.raises(errors.SignerRefused, match=left) as refusal:
        checkpoints.begin()
    assert refusal.value.fields["alarm"] == "signer-state-missing"
    assert not log.state.exists()


def test_a_log_of_which_nothing_is_left_begins_and_killed_halfway_it_still_begins(log: Log) -> None:
    for file in (log.state, log.hashes, *(log.data / "keys").glob("checkpoint*")):
        file.unlink()
    log.tamper("delete from ledger_checkpoint")
    checkpoints.begin(over_records=True)
    assert not log.notes()
    for file in (log.data / "keys").glob("checkpoint*"):
        file.unlink()
    checkpoints.begin()
    assert checkpoints.checkpoint() == 3


def test_the_state_of_another_log_is_refused(log: Log) -> None:
    stranger = notes.generate_key("touchstone.local/log")
    text = notes.read_note(log.notes()[3].encode()).text
    edited(log, note=notes.sign(text, stranger).decode())
    log.add()
    assert log.refused() == "checkpoint-unknown"


@pytest.mark.parametrize("changes", [{"size": 2}, {"edge": [b"\1" * 32, b"\2" * 32]}, {"note": "nothing\n"}])
def test_a_state_that_does_not_fit_its_own_note_is_refused(log: Log, changes: dict[str, Any]) -> None:
    edited(log, **changes)
    assert log.refused() == "checkpoint-unknown"


def test_an_older_database_is_refused_and_also_after_it_has_grown_again(log: Log) -> None:
    backup = log.copy_database()
    log.add()
    checkpoints.checkpoint()
    log.restore_database(backup)
    assert log.refused() == "log-set-back"
    assert log.alarms() == ["log-set-back"]
    log.add(5)
    assert log.refused() == "log-rewritten"
    assert log.alarms() == ["log-rewritten", "log-set-back"]


def test_an_older_data_folder_is_refused(log: Log) -> None:
    backup = log.copy_data()
    log.add()
    checkpoints.checkpoint()
    log.restore_data(backup)
    assert log.refused() == "checkpoint-unknown"


def test_when_both_come_from_one_backup_only_a_checkpoint_held_outside_tells(log: Log) -> None:
    database, data = log.copy_database(), log.copy_data()
    log.add()
    checkpoints.checkpoint()
    held = notes.parse_checkpoint(notes.read_note(log.notes()[6].encode()).text)
    log.restore_database(database)
    log.restore_data(data)
    log.number = 100
    log.add()
    checkpoints.checkpoint()
    assert log.alarms() == []
    now = notes.parse_checkpoint(notes.read_note(log.notes()[6].encode()).text)
    assert now.root != held.root


@pytest.mark.parametrize("change", ["note = replace(note, E'\\n3\\n', E'\\n4\\n')", "note = note || E'\\u2014 a b\\n'"])
def test_an_altered_checkpoint_is_refused(log: Log, change: str) -> None:
    log.tamper(f"update ledger_checkpoint set {change}")
    log.add()
    assert log.refused() == "checkpoint-unknown"


def test_a_checkpoint_that_it_did_not_sign_is_refused_even_under_its_own_key(log: Log) -> None:
    text = notes.make_checkpoint("touchstone.local/log", 9, b"\7" * 32)
    log.tamper(f"insert into ledger_checkpoint (size, root, note) values (9, decode('{'07' * 32}', 'hex'), "
               f"'{keys.sign('checkpoint', text)}')")  # fmt: skip
    log.add()
    assert log.refused() == "checkpoint-unknown"


def test_a_lost_checkpoint_is_published_again_byte_for_byte(log: Log) -> None:
    before = log.notes()
    log.tamper("delete from ledger_checkpoint")
    checkpoints.checkpoint()
    assert log.notes() == before


def test_a_record_changed_between_signing_and_publishing_is_refused(log: Log) -> None:
    log.tamper("delete from ledger_checkpoint", "update ledger_journal set leaf = leaf || 'x'::bytea where ordinal = 1")
    assert log.refused() == "log-rewritten"


def test_a_record_changed_after_signing_is_not_sealed_and_fsck_names_it(log: Log) -> None:
    log.tamper(
        "update ledger_journal set leaf = replace(encode(leaf, 'escape'), 'query', 'quera')::bytea where ordinal = 1"
    )
    assert log.refused(segments.seal) == "log-rewritten"
    assert "The checkpoint of 3 does not match the stored records." in list(fsck.check())
    assert log.rows("select count(*) from ledger_segment") == [(0,)]


def test_a_record_missing_before_signing_or_before_sealing_is_refused(log: Log) -> None:
    log.add()
    log.tamper("delete from ledger_journal where batch = (select max(batch) from ledger_batch) and ordinal = 1")
    assert log.refused() == "record-missing"
    log.tamper("delete from ledger_journal where ordinal = 2")
    assert log.refused(segments.seal) == "record-missing"


def test_a_cut_file_of_leaf_hashes_is_refused_and_mended_from_the_records(log: Log) -> None:
    whole = log.hashes.read_bytes()
    log.hashes.write_bytes(whole[:40])
    log.add()
    assert log.refused() == "hashes-damaged"
    assert fsck.repair_hashes() == 3
    assert log.hashes.read_bytes() == whole
    checkpoints.checkpoint()
    assert list(fsck.check()) == []


def test_a_flipped_bit_in_the_file_of_leaf_hashes_is_found_and_mended(log: Log) -> None:
    whole = log.hashes.read_bytes()
    log.hashes.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert list(fsck.check()) == ["The file of leaf hashes does not hold what the records from 0 on lead to."]
    log.add()
    assert log.refused_before_publishing() == "hashes-damaged"
    fsck.repair_hashes()
    checkpoints.checkpoint()
    assert list(fsck.check()) == []


def test_no_hashes_are_mended_from_records_that_were_changed(log: Log) -> None:
    log.tamper("update ledger_journal set leaf = leaf || ' '::bytea where ordinal = 1")
    before = log.hashes.read_bytes()
    assert log.refused(fsck.repair_hashes) == "log-rewritten"
    assert log.hashes.read_bytes() == before


def once_written(log: Log, monkeypatch: pytest.MonkeyPatch, deed: Callable[[], None]) -> None:
    """Has the deed done right after the new leaf hashes are on disk, before they are read back."""
    real = os.fsync

    def fsync(handle: int) -> None:
        real(handle)
        if os.readlink(f"/proc/self/fd/{handle}") == str(log.hashes):
            monkeypatch.setattr(os, "fsync", real)
            deed()

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_bit_flipped_by_the_disk_while_signing_is_refused_and_the_next_start_signs(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flip() -> None:
        raw = bytearray(log.hashes.read_bytes())
        raw[-1] ^= 1
        log.hashes.write_bytes(bytes(raw))

    log.add()
    expected = tree_root()
    once_written(log, monkeypatch, flip)
    assert log.refused() == "hashes-damaged"
    size = checkpoints.checkpoint()
    assert list(fsck.check()) == []
    assert size == 7  # the alarm is a record too
    assert expected == merkle.root(tree.hashes().read(0, 6))


def test_a_record_changed_while_it_is_being_signed_is_refused(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    log.add()
    change = "update ledger_journal set leaf = leaf || ' '::bytea where batch = (select max(batch) from ledger_batch)"
    once_written(log, monkeypatch, lambda: log.tamper(change))
    assert log.refused() == "log-rewritten"


def tree_root() -> bytes:
    return merkle.root([merkle.leaf_hash(leaf) for _, leaf in segments.leaves(0, tree.head())])


def test_killed_between_state_and_publishing_the_replay_gives_the_same_checkpoint(log: Log) -> None:
    log.add()
    checkpoints.checkpoint()
    state, before = log.state.read_bytes(), log.notes()
    log.tamper("delete from ledger_checkpoint where size = 6")
    with log.hashes.open("ab") as file:
        file.write(b"rubbish past the signed size")
    checkpoints.checkpoint()
    assert (log.state.read_bytes(), log.notes()) == (state, before)
    log.add()
    checkpoints.checkpoint()
    assert list(fsck.check()) == []


def test_a_tile_planted_before_its_time_is_refused(log: Log) -> None:
    log.tamper("insert into ledger_tile values (1, 0, decode(repeat('00', 32), 'hex'))")
    log.add(260)
    assert log.refused_before_publishing() == "hashes-damaged"


def test_fsck_names_an_upper_hash_that_was_changed(log: Log) -> None:
    log.add(300)
    checkpoints.checkpoint()
    assert list(fsck.check()) == []
    log.tamper("update ledger_tile set hash = decode(repeat('00', 32), 'hex')")
    assert list(fsck.check()) == ["The upper hash 0 of level 1 is not what the records lead to."]
    log.tamper("delete from ledger_tile")
    assert list(fsck.check()) == ["The upper hash 0 of level 1 is not what the records lead to."]


def test_while_one_signs_another_waits_and_signs_nothing_twice(log: Log) -> None:
    log.add()
    signed: list[int] = []

    def sign() -> None:
        try:
            # Without the keeper's lock, as after a lost connection.
            signed.append(checkpoints.checkpoint())
        finally:
            connection.close()

    with checkpoints.fence():
        other = threading.Thread(target=sign)
        other.start()
        time.sleep(0.2)
        assert not signed
        before = log.notes()
    other.join(60)
    assert signed == [6]
    assert sorted(log.notes()) == [3, 6]
    assert sorted(before) == [3]


def test_what_comes_during_a_long_turn_of_the_keeper_is_signed_beside_it(log: Log) -> None:
    turn = {each.name: each for each in keeper.rounds()}
    turn["checkpoint"].work()
    log.add()
    # A moment after the turn's own checkpoint there is nothing to do; the rest is what a seal would be in the middle of.
    turn["signing"].work()
    assert sorted(log.notes()) == [3]
    with keeper.lock(), override_settings(CHECKPOINT_SECONDS=0.0):
        signer = threading.Thread(target=lambda: (turn["signing"].work(), connection.close()))
        signer.start()
        signer.join(60)
    assert sorted(log.notes()) == [3, 6]
    assert turn["signing"].apart


def test_a_signer_that_loses_its_connection_in_the_middle_leaves_one_checkpoint(
    log: Log, server: Callable[..., dict[str, Any]]
) -> None:
    log.add()
    name, ended = connection.settings_dict["NAME"], threading.Event()

    def sign() -> None:
        try:
            with keeper.lock():
                checkpoints.checkpoint()
        except (DatabaseError, psycopg.Error):
            ended.set()
        finally:
            connection.close()

    with (
        psycopg.connect(**server(dbname=name)) as blocker,
        psycopg.connect(**server(dbname=name), autocommit=True) as admin,
    ):
        blocker.execute("lock table ledger_checkpoint in share mode")
        first = threading.Thread(target=sign)
        first.start()
        waiting = "select pid from pg_locks where not granted and relation = 'ledger_checkpoint'::regclass"
        while (row := admin.execute(waiting.encode()).fetchone()) is None:
            time.sleep(0.05)
        state = log.state.read_bytes()
        # Now the advisory lock is gone and another keeper may begin, while the first has signed and not published.
        admin.execute("select pg_terminate_backend(%s)", (row[0],))
        blocker.rollback()
        second = threading.Thread(target=sign)
        second.start()
        second.join(60)
        first.join(60)
    assert ended.is_set()
    signed = msgspec.json.decode(state, type=checkpoints.Signed)
    assert log.notes()[6] == signed.note
    assert sorted(log.notes()) == [3, 6]


@pytest.mark.parametrize(
    ("place", "mode", "mend"),
    [("keys/checkpoint.key", 0o640, "chmod 600"), ("keys", 0o750, "chmod 700"), ("signer", 0o711, "chmod 700")],
)
def test_a_key_or_folder_that_others_may_enter_is_refused_with_what_mends_it(
    log: Log, place: str, mode: int, mend: str
) -> None:
    log.add()
    path = log.data / place
    path.chmod(mode)
    with pytest.raises(errors.SettingsInvalid, match=f"{mend} .*{Path(place).name}"):
        checkpoints.checkpoint()
    assert sorted(log.notes()) == [3]
    path.chmod(0o700 if path.is_dir() else 0o600)
    assert checkpoints.checkpoint() == 6


def test_a_key_of_another_user_is_refused(log: Log) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file to somebody else")
    log.add()
    os.chown(keys.path("checkpoint"), 4711, -1)
    with pytest.raises(errors.SettingsInvalid, match="chown"):
        checkpoints.checkpoint()
