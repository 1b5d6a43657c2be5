"""The insider rewrites, cuts, restores and forks the log: rows of the first table of docs/threat-model.md."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from demo import authority as local
from lineage import authorities, checkpoints, fsck, keys, packfile, segments, tree, witnesses
from tests.tamper.insider import Insider, failed, faults, judged, pack, policy
from tests.witnesses import Witness

pytestmark = pytest.mark.slow


@pytest.fixture
def witness(insider: Insider, settings: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    """A witness process outside the insider's hands that has cosigned the present checkpoint."""
    folder = tmp_path_factory.mktemp("auditor")
    with Witness(folder / "w1.json", keys.vkey("checkpoint")) as running:
        (folder / "policy").write_text(f"witness w1 {running.vkey} {running.url}\nquorum w1\n")
        settings.WITNESS_POLICY = str(folder / "policy")
        assert witnesses.show_all() == {}
        yield running


@pytest.fixture
def stamped(insider: Insider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A timestamp of the present checkpoint; the `tsa` line of a policy that trusts who gave it."""
    server = local.serve(local.Authority(tmp_path_factory.mktemp("tsa") / "one"))
    authorities.ask("here", f"http://127.0.0.1:{server.server_address[1]}/tsr")
    yield "\n".join(authorities.policy_lines())
    server.shutdown()
    server.server_close()


def shown(insider: Insider) -> list[str]:
    """The alarms after the newest checkpoint was shown to the witnesses."""
    witnesses.show_all()
    return insider.alarms()


# changes a stored leaf, group, hash, tile or checkpoint


def test_a_changed_leaf_is_found_by_fsck_by_sealing_and_by_its_inclusion_proof(insider: Insider) -> None:
    insider.rewrite(2, b"select 3", b"select 9")
    assert "The checkpoint of 6 does not match the stored records." in faults()
    assert failed(pack("index:2"), policy()) == (1, ["inclusion"])
    assert insider.refused(segments.seal) == "log-rewritten"
    assert insider.rows("select count(*) from ledger_segment") == [(0,)]


def test_a_leaf_changed_between_the_two_readings_is_not_signed(
    insider: Insider, monkeypatch: pytest.MonkeyPatch
) -> None:
    insider.add()
    real = tree.Hashes.write_from

    def then_changed(self: tree.Hashes, size: int, parts: Any) -> None:
        monkeypatch.setattr(tree.Hashes, "write_from", real)
        real(self, size, parts)
        insider.rewrite(7, b"select 8", b"select 9")

    monkeypatch.setattr(tree.Hashes, "write_from", then_changed)
    assert insider.refused() == "log-rewritten"
    assert insider.alarms() == ["log-rewritten"]


def test_a_changed_group_does_not_open_its_digest_and_is_never_sealed(insider: Insider) -> None:
    _, _, value = insider.held(2, "statement")
    insider.put(2, statement=value.replace(b"select 3", b"select 9"))
    assert "Record 2: the group statement is not what was accepted." in faults()
    assert failed(pack("index:2"), policy()) == (1, ["disclosures"])
    assert insider.refused(segments.seal) == "log-rewritten"
    assert insider.rows("select count(*) from ledger_segment") == [(0,)]


def test_a_changed_sealed_file_is_found_by_fsck_also_when_the_manifest_is_made_to_fit(insider: Insider) -> None:
    segments.seal()
    table = pq.read_table(insider.folder() / "disclosures.parquet")
    changed = [value.replace(b"person-3", b"person-4") for value in table["value"].to_pylist()]
    forged = table.set_column(3, "value", pa.array(changed, pa.binary()))
    pq.write_table(forged, insider.folder() / "disclosures.parquet")
    assert faults() == "Segment 0: its file disclosures was changed."
    insider.restate("disclosures")
    assert "Record 2: the group actor is not what was accepted." in faults()
    assert failed(pack("index:2"), policy()) == (1, ["disclosures"])


def test_changed_hashes_tiles_and_checkpoints_are_found_by_fsck_and_the_signer(insider: Insider) -> None:
    insider.sign(260)
    whole = insider.hashes.read_bytes()
    insider.hashes.write_bytes(whole[:64] + bytes(32) + whole[96:])
    assert "The file of leaf hashes does not hold what the records from 0 on lead to." in faults()
    assert "inclusion" in failed(pack("index:3"), policy())[1]
    insider.hashes.write_bytes(whole)
    insider.act("update ledger_tile set hash = decode(repeat('00', 32), 'hex')")
    assert "The upper hash 0 of level 1 is not what the records lead to." in faults()
    insider.rehash()
    assert faults() == ""
    insider.act("update ledger_checkpoint set note = replace(note, E'\\n266\\n', E'\\n265\\n') where size = 266")
    assert "The checkpoint of 266 is not signed by our key." in faults()
    insider.add()
    assert insider.refused() == "checkpoint-unknown"


# changes leaves and computes every hash and tile anew


def test_what_is_hashed_anew_without_the_key_is_refused_by_the_signer_and_cannot_be_repaired(insider: Insider) -> None:
    insider.sign(260)
    insider.rewrite(2, b"select 3", b"select 9")
    insider.rehash()
    assert "The signed note of 266 names another size or root." in faults()
    assert failed(pack("index:2"), policy()) == (1, ["inclusion"])
    insider.add()
    assert insider.refused_before_publishing() == "hashes-damaged"
    assert insider.refused(fsck.repair_hashes) == "log-rewritten"


# does all that and signs with the stolen key


def test_a_log_rewritten_with_the_stolen_key_looks_whole_from_inside(insider: Insider) -> None:
    insider.rewrite(2, b"select 3", b"select 9")
    insider.resign()
    insider.sign()
    segments.seal()
    assert faults() == ""
    assert insider.alarms() == []
    assert judged(pack("index:2"), policy())[0] == 0


def test_a_log_rewritten_with_the_stolen_key_fits_no_witness_no_saved_checkpoint_no_receipt(
    insider: Insider, witness: Witness
) -> None:
    saved, trusts = tree.newest_note(), f"witness w1 {witness.vkey}\nquorum w1"
    insider.rewrite(2, b"select 3", b"select 9")
    insider.resign()
    insider.sign()
    assert shown(insider) == ["witness-refused"]
    # The cosignature that he kept is over the true history: the pack that carries it is not even consistent.
    assert failed(pack("index:2"), policy(trusts))[0] == 1
    insider.act("delete from ledger_cosignature")
    assert failed(pack("index:2"), policy(trusts)) == (2, ["witnesses"])
    assert failed(pack("index:2", earlier=saved), policy()) == (1, ["consistency"])
    assert failed(pack("index:2"), policy(), receipts=tuple(insider.receipts)) == (1, ["receipts"])


def test_a_log_rewritten_with_the_stolen_key_does_not_fit_its_timestamps(insider: Insider, stamped: str) -> None:
    assert judged(pack("index:2"), policy(stamped, "quorum none"))[1]["time"] == "pass"
    insider.rewrite(2, b"select 3", b"select 9")
    insider.resign()
    code, checks = failed(pack("index:2"), policy(stamped, "quorum none"))
    assert (code, "time" in checks) == (1, True)


# deletes the newest records


def test_records_deleted_under_a_checkpoint_are_missed_by_the_signer_and_fsck(insider: Insider) -> None:
    insider.sign()
    cut(insider, 6)
    assert "A checkpoint covers 9 records, the log holds 6." in faults()
    insider.add(1)
    assert insider.refused() == "log-set-back"
    insider.act("update ledger_head set size = 9")
    assert insider.refused(segments.seal) == "record-missing"
    assert "Record 8 is missing." in faults()


def test_records_deleted_before_their_checkpoint_were_promised_and_are_missing(
    insider: Insider, time_machine: Any
) -> None:
    insider.add(2)
    cut(insider, 6)
    kept = tuple(insider.receipts)
    assert failed(pack("index:>=0"), policy(), receipts=kept) == (0, [])
    time_machine.move_to(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=11))
    code, states, said = judged(pack("index:>=0"), policy(), receipts=kept)
    assert (code, states["receipts"]) == (1, "fail")
    assert "Promised but missing: the log ends before place 6" in said["receipts"]
    # Others take their places.
    insider.sign()
    code, states, said = judged(pack("index:>=0"), policy(), receipts=kept)
    assert (code, states["receipts"]) == (1, "fail")
    assert "Promised but missing: place 6" in said["receipts"]


def cut(insider: Insider, size: int) -> None:
    """Takes everything from this place on out of the database, as if it had never come."""
    insider.act(
        "delete from ledger_journal j using ledger_batch b where b.slot = j.slot and b.batch = j.batch "
        "and b.first_index >= %s", size,
    )  # fmt: skip
    insider.act("delete from ledger_key k using ledger_batch b where b.batch = k.batch and b.first_index >= %s", size)
    insider.act("delete from ledger_batch where first_index >= %s", size)
    insider.act("update ledger_head set size = %s", size)


# restores an older database and goes on; restores database and signer state from the same backup


def test_an_older_database_is_not_signed_over_also_when_it_has_grown_again(insider: Insider) -> None:
    backup = insider.copy_database()
    insider.sign()
    insider.restore_database(backup)
    assert insider.refused() == "log-set-back"
    insider.add(3)
    assert insider.refused() == "log-rewritten"
    assert insider.alarms() == ["log-rewritten", "log-set-back"]


def test_database_and_data_folder_from_one_backup_are_told_by_witness_auditor_and_receipts(
    insider: Insider, witness: Witness
) -> None:
    database, data = insider.copy_database(), insider.copy_data()
    insider.sign()
    saved, kept = tree.newest_note(), tuple(insider.receipts)
    assert shown(insider) == []
    insider.restore_database(database)
    insider.restore_data(data)
    insider.sign()
    assert (faults(), insider.alarms()) == ("", [])
    assert shown(insider) == ["witness-refused"]
    insider.sign()
    assert shown(insider) == ["witness-refused"]
    assert failed(pack("index:>=0", earlier=saved), policy()) == (1, ["consistency"])
    assert failed(pack("index:>=0"), policy(), receipts=kept) == (1, ["receipts"])


# shows two auditors different histories


def test_of_two_histories_the_witness_cosigns_one_and_the_auditors_who_compare_find_both(
    insider: Insider, witness: Witness
) -> None:
    trusts = policy(f"witness w1 {witness.vkey}", "quorum w1")
    database, data = insider.copy_database(), insider.copy_data()
    insider.sign()
    assert shown(insider) == []
    first = pack("index:>=0", witnessed=True)
    assert judged(first, trusts)[0] == 0
    insider.restore_database(database)
    insider.restore_data(data)
    insider.sign()
    second = pack("index:>=0")
    # Either is sound in itself; each auditor alone without a witness is content.
    assert judged(first, policy())[0] == judged(second, policy())[0] == 0
    assert failed(second, trusts) == (2, ["witnesses"])
    insider.sign()
    theirs = packfile.read(first).checkpoint.decode()
    assert failed(pack("index:>=0", earlier=theirs), policy()) == (1, ["consistency"])


# removes or swaps the signer's state


def test_a_signers_state_that_is_gone_or_another_one_signs_nothing(insider: Insider) -> None:
    older = insider.state.read_bytes()
    insider.sign()
    newest = insider.state.read_bytes()
    insider.state.write_bytes(older)
    assert insider.refused() == "checkpoint-unknown"
    insider.state.unlink()
    assert insider.refused() == "signer-state-missing"
    insider.state.write_bytes(newest)
    assert checkpoints.checkpoint() > 9
