"""The insider at the store against those who hold a checkpoint: what they notice, and what nobody notices without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.conf import settings as store_settings
from django.db import connection

from lineage import checkpoints, drops, errors, fsck, keys, merkle, notes, outside, segments, tree, witnesses, words
from lineage.witness import __main__ as witness_command
from lineage.witness.pull import Contradiction, Server, pull
from lineage.witness.state import State
from tests import signing
from tests.signing import Log
from tests.witnesses import Witness

pytestmark = pytest.mark.slow


@pytest.fixture
def log(store: str, server: Callable[..., dict[str, Any]]) -> Iterator[Log]:
    """A log of three records under a checkpoint."""
    with signing.log(server) as made:
        made.add()
        checkpoints.checkpoint()
        yield made


@pytest.fixture
def witness(log: Log, settings: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    """A witness that the insider cannot reach; its policy file lies outside the data folder too."""
    folder = tmp_path_factory.mktemp("auditor")
    with Witness(folder / "witness.json", keys.vkey("checkpoint")) as running:
        (folder / "policy").write_text(f"witness north {running.vkey} {running.url}\nquorum north\n")
        settings.WITNESS_POLICY = str(folder / "policy")
        yield running


def rewritten(log: Log) -> None:
    """One record changed, and everything over it made anew with the log's own key: hashes, checkpoint, signer's state."""
    log.tamper(
        "update ledger_journal set leaf = convert_to(replace(convert_from(leaf, 'utf8'), 'read', 'dear'), 'utf8')",
        "delete from ledger_checkpoint",
        "delete from ledger_tile",
        "delete from ledger_cosignature",
    )
    size = tree.head()
    hashes = [merkle.leaf_hash(leaf) for _, leaf in segments.leaves(0, size)]
    edge = merkle.CompactRange()
    edge.extend(hashes)
    text = notes.make_checkpoint(store_settings.ORIGIN, size, edge.root())
    note = notes.sign(text, keys.load("checkpoint")).decode()
    log.hashes.write_bytes(b"".join(hashes))
    state = msgspec.json.decode(log.state.read_bytes(), type=checkpoints.Signed)
    log.state.write_bytes(msgspec.json.encode(msgspec.structs.replace(state, size=size, edge=edge.hashes, note=note)))
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into ledger_checkpoint (size, root, note) values (%s, %s, %s)", [size, edge.root(), note]
        )


def test_a_log_rewritten_with_its_own_key_is_noticed_by_nobody_while_nobody_outside_holds_a_checkpoint(
    log: Log,
) -> None:
    rewritten(log)
    log.add()
    checkpoints.checkpoint()
    assert list(fsck.check()) == []
    assert log.alarms() == []
    assert outside.sentence(tree.head()) == words.NOTHING_OUTSIDE


def test_a_log_rewritten_with_its_own_key_is_refused_by_the_witness_that_held_a_checkpoint(
    log: Log, witness: Witness
) -> None:
    assert witnesses.show_all() == {}
    rewritten(log)
    for _ in range(2):
        assert "north" in witnesses.show_all()
        assert log.alarms() == ["witness-refused"]
        log.add()
        checkpoints.checkpoint()
    assert outside.held().holdings == ()
    assert "witness-refused" in str(log.rows("select code from ledger_alarm where record is not null"))


@pytest.mark.parametrize("records", [0, 1, 9], ids=["at once", "with fewer records", "with more records"])
def test_database_and_signer_set_back_together_are_refused_by_the_witness(
    log: Log, witness: Witness, records: int
) -> None:
    assert witnesses.show_all() == {}
    database, data = log.copy_database(), log.copy_data()
    log.add(5)
    checkpoints.checkpoint()
    assert witnesses.show_all() == {}
    log.restore_database(database)
    log.restore_data(data)
    log.add(records + 1)
    # The signer's own memory was set back with the rest: it signs.
    checkpoints.checkpoint()
    assert "north" in witnesses.show_all()
    assert log.alarms() == ["witness-refused"]


def test_a_log_rewritten_or_set_back_does_not_fit_the_drop_folder(
    log: Log, settings: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings.DROP_FOLDER = str(tmp_path_factory.mktemp("worm"))
    assert len(drops.drop()) == 1
    kept = {path: path.read_bytes() for path in Path(settings.DROP_FOLDER).iterdir()}
    rewritten(log)
    with pytest.raises(errors.SignerRefused):
        drops.drop()
    assert log.alarms() == ["checkpoint-unknown"]
    assert {path: path.read_bytes() for path in Path(settings.DROP_FOLDER).iterdir()} == kept


class Shown(Server):
    """The log as it is shown to one auditor."""

    def ask(self, path: str, body: bytes | None = None) -> bytes:
        if path == "/checkpoint":
            return tree.newest_note().encode()
        old, new = (int(part.partition("=")[2]) for part in path.partition("?")[2].split("&"))
        return msgspec.json.encode(tree.consistency(old, new))


def test_two_auditors_who_were_shown_two_histories_find_it_with_the_next_checkpoint(
    log: Log, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("auditors")
    first, second = State(folder / "first.json"), State(folder / "second.json")
    logs = witness_command.known_logs(None, [keys.vkey("checkpoint")])
    server = Shown("http://log.example", "")
    for each in (first, second):
        with each.open("audit.example"):
            pass
    pull(server, first, logs)
    rewritten(log)
    pull(server, second, logs)
    log.add()
    checkpoints.checkpoint()
    pull(server, second, logs)
    with first.open() as book:
        kept = book.logs[store_settings.ORIGIN].note
    before = first.path.read_bytes()
    with pytest.raises(Contradiction, match="forked") as refusal:
        pull(server, first, logs)
    assert refusal.value.kept == kept
    assert refusal.value.shown == tree.newest_note()
    assert first.path.read_bytes() == before
    # Two notes under one key, of which one does not continue the other: anybody can see it.
    for note in (refusal.value.kept, refusal.value.shown):
        notes.verify(note, [keys.vkey("checkpoint")])
