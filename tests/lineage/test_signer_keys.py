"""Keys: who opens which, how they are exchanged; alarms: who sees them and how they end; fsck by night."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg.conninfo
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.core.management import call_command
from django.db import connection
from django.test import Client

from lineage import alarms, checkpoints, errors, fsck, keys, nightly, notes, rotation
from lineage.models import Role, User
from tests import signing
from tests.signing import Log

pytestmark = pytest.mark.slow

MONTH = dt.timedelta(days=30)


@pytest.fixture
def log(store: str, server: Callable[..., dict[str, Any]]) -> Iterator[Log]:
    """A log of three records under a checkpoint."""
    with signing.log(server) as made:
        made.add()
        checkpoints.checkpoint()
        yield made


def policy(capsys: pytest.CaptureFixture[str]) -> notes.Policy:
    capsys.readouterr()
    call_command("policy")
    return notes.parse_policy(capsys.readouterr().out)


def newest(log: Log) -> str:
    return log.notes()[max(log.notes())]


def signers_of(note: str) -> set[str]:
    return {each.key_id.hex() for each in notes.read_note(note.encode()).unverified}


def end_overlap(name: str = "checkpoint") -> None:
    """As if the overlap had passed."""
    over = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=1)
    keys.write_publics(name, [each._replace(until=over) if each.until else each for each in keys.publics(name)])


def pem_pair(folder: Path) -> tuple[Path, Path]:
    private = Ed25519PrivateKey.generate()
    secret, public = folder / "log.pem", folder / "log.pub.pem"
    secret.touch(mode=0o600)
    secret.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return secret, public


def test_everyone_but_the_keeper_does_without_the_private_key(log: Log) -> None:
    keys.path("checkpoint").unlink()
    assert notes.verify(newest(log), [keys.vkey("checkpoint")])
    assert Client().get("/log/key").content.decode().strip() == keys.vkey("checkpoint")
    assert list(fsck.check()) == []
    log.add()
    with pytest.raises(errors.SettingsInvalid, match="has gone"):
        checkpoints.checkpoint()
    assert sorted(log.notes()) == [3]


def test_a_lost_public_file_is_made_again_from_the_private_one(log: Log) -> None:
    before = keys.vkey("checkpoint")
    keys.public_path("checkpoint").unlink()
    assert keys.vkey("checkpoint") == before
    assert keys.public_path("checkpoint").read_text() == before + "\n"


def test_the_key_of_receipts_is_read_once_and_again_when_a_file_of_it_changes(log: Log) -> None:
    keys.load("receipt")
    first = keys.signer("receipt")
    assert keys.signer("receipt") is first
    rotation.rotate("receipt", overlap=MONTH, who="dana@shop.example")
    assert str(keys.signer("receipt").verifier) == keys.vkey("receipt") != str(first.verifier)
    private = keys.held("receipt", keys.publics("receipt")[0])
    assert private is not None
    private.chmod(0o644)
    with pytest.raises(errors.SettingsInvalid):
        keys.signer("receipt")
    private.unlink()
    with pytest.raises(errors.SettingsInvalid, match="key rotate receipt"):
        keys.signer("receipt")


def test_a_lost_private_key_is_never_made_anew_in_silence(log: Log) -> None:
    keys.load("receipt")
    keys.path("receipt").unlink()
    with pytest.raises(errors.SettingsInvalid, match="key rotate receipt"):
        keys.load("receipt")
    rotation.rotate("receipt", overlap=MONTH, who="dana@shop.example")
    assert notes.vkey_of(keys.load("receipt")) == keys.vkey("receipt")


def test_during_the_overlap_both_keys_sign_and_either_policy_is_enough(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    old = policy(capsys)
    call_command("key", "rotate", "checkpoint")
    new = policy(capsys)
    assert [key.key_id.hex() for key in new.logs] == [each.key_id for each in keys.publics("checkpoint")]
    page = Client()
    page.force_login(User.objects.create(email="aud@x.example", role=Role.AUDITOR))
    shown = page.get("/integrity/").content.decode()
    assert all(f"<code>{each.key_id}</code>" in shown for each in keys.publics("checkpoint"))
    assert {key.name for key in new.logs} == {"touchstone.local/log"}
    note = newest(log)
    assert len(signers_of(note)) == 2
    for trusted in (old.logs, new.logs, new.logs[:1]):
        assert notes.verify(note, trusted).verified
    assert log.told("key_rotation") == log.told(keys.vkey("checkpoint")) == 1
    assert list(fsck.check()) == []


def test_after_the_overlap_only_the_new_key_signs_and_the_old_one_is_destroyed(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    old = keys.publics("checkpoint")[0]
    call_command("key", "rotate", "checkpoint")
    both = max(log.notes())
    end_overlap()
    log.add()
    checkpoints.checkpoint()
    assert signers_of(newest(log)) == {keys.publics("checkpoint")[0].key_id}
    assert not keys.path("checkpoint").exists()
    assert policy(capsys).until == {("touchstone.local/log", bytes.fromhex(old.key_id)): both}
    capsys.readouterr()
    call_command("key", "list")
    listed = capsys.readouterr().out
    assert "in use" in listed
    assert "ended" in listed
    # What the old key signed stays good.
    assert list(fsck.check()) == []


def test_with_no_overlap_a_stolen_key_signs_nothing_more(log: Log) -> None:
    stolen = keys.path("checkpoint").read_text()
    call_command("key", "rotate", "checkpoint", "--overlap-hours", "0")
    assert notes.vkey_of(stolen) == keys.publics("checkpoint")[1].vkey
    assert signers_of(newest(log)) == {keys.publics("checkpoint")[0].key_id}


def test_a_rotation_that_cannot_be_recorded_does_not_happen(log: Log) -> None:
    before = keys.vkey("checkpoint")
    log.stuff()
    with pytest.raises(errors.StoreUnavailable):
        rotation.rotate("checkpoint", overlap=MONTH, who="dana@shop.example")
    log.unstuff()
    assert keys.vkey("checkpoint") == before
    log.add()
    checkpoints.checkpoint()
    assert signers_of(newest(log)) == {keys.publics("checkpoint")[0].key_id}


@pytest.mark.parametrize("name", ["receipt", "report"])
def test_other_keys_change_at_once_and_the_policy_lists_both(
    log: Log, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old = keys.load(name)
    call_command("key", "rotate", name)
    assert keys.load(name) != old
    assert not keys.path(name).exists()
    found = policy(capsys)
    listed = found.receipts if name == "receipt" else found.reports
    assert [str(key) for key in listed] == [notes.vkey_of(keys.load(name)), notes.vkey_of(old)]
    end_overlap(name)
    found = policy(capsys)
    assert len(found.receipts if name == "receipt" else found.reports) == 1


def test_a_key_that_lies_elsewhere_signs_and_its_own_file_is_judged_too(
    log: Log, settings: Any, tmp_path: Path
) -> None:
    secret, public = pem_pair(tmp_path)
    settings.CHECKPOINT_SIGNER = [f"file2:{secret}"]
    call_command("key", "rotate", "checkpoint", "--public", str(public))
    assert len(signers_of(newest(log))) == 2
    end_overlap()
    log.add()
    checkpoints.checkpoint()
    assert not list((log.data / "keys").glob("checkpoint*.key"))
    assert notes.verify(newest(log), [keys.vkey("checkpoint")]).verified
    assert list(fsck.check()) == []
    secret.chmod(0o644)
    log.add()
    with pytest.raises(errors.SettingsInvalid, match="chmod 600"):
        checkpoints.checkpoint()


@pytest.mark.parametrize("uri", ["file2:/nowhere/at/all.pem", "gcpkms:projects/x", "nonsense"])
def test_a_key_elsewhere_that_cannot_be_used_is_not_taken_into_use(
    log: Log, settings: Any, tmp_path: Path, uri: str
) -> None:
    before = keys.publics("checkpoint")
    settings.CHECKPOINT_SIGNER = [uri]
    with pytest.raises(errors.SettingsInvalid, match="TOUCHSTONE_CHECKPOINT_SIGNER"):
        rotation.rotate("checkpoint", overlap=MONTH, who="x@y", public_pem=pem_pair(tmp_path)[1].read_bytes())
    assert keys.publics("checkpoint") == before


def test_a_key_elsewhere_that_is_not_the_stated_one_is_refused(log: Log, settings: Any, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    settings.CHECKPOINT_SIGNER = [f"file2:{pem_pair(tmp_path)[0]}"]
    with pytest.raises(errors.SettingsInvalid, match="KeyMismatchError"):
        rotation.rotate("checkpoint", overlap=MONTH, who="x@y", public_pem=pem_pair(tmp_path / "other")[1].read_bytes())
    assert len(keys.publics("checkpoint")) == 1


def test_an_alarm_is_on_every_page_and_the_store_is_not_ready_until_somebody_ends_it(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Client()
    page.force_login(User.objects.create(email="aud@x.example", role=Role.AUDITOR))
    assert page.get("/readyz").status_code == 200
    backup = log.copy_database()
    log.add(30)
    checkpoints.checkpoint()
    log.restore_database(backup)
    assert log.refused() == "log-set-back"
    assert page.get("/readyz").status_code == 503
    assert page.get("/readyz").json()["alarms"] == ["log-set-back"]
    for address in ("/", "/search", "/integrity/"):
        assert b"<strong>log-set-back</strong>" in page.get(address).content
    call_command("alarm", "list")
    number = capsys.readouterr().out.split()[0]
    with pytest.raises(SystemExit):
        call_command("alarm", "clear", "999", "--reason", "no such one")
    call_command("alarm", "clear", number, "--reason", "compared with the auditor's checkpoint")
    assert log.alarms() == []
    assert page.get("/readyz").status_code == 200
    assert log.told("compared with the auditor") == 1
    assert b"<strong>log-set-back</strong>" not in page.get("/").content
    # It is not gone for good: what it told of still stands.
    assert log.refused() == "log-set-back"
    assert log.alarms() == ["log-set-back"]


def test_alarms_about_tampering_do_not_end_by_themselves(log: Log) -> None:
    alarms.sound("witness-late", "none answers")
    assert Client().get("/readyz").status_code == 200
    alarms.sound("log-rewritten", "records changed")
    page = Client().get("/readyz")
    assert (page.status_code, page.json()["alarms"]) == (503, ["log-rewritten", "witness-late"])
    alarms.clear("witness-late")
    with pytest.raises(errors.AccessDenied):
        alarms.clear("log-rewritten")
    assert log.alarms() == ["log-rewritten"]


def test_an_alarm_stands_even_where_the_log_takes_no_record_and_is_noted_later(log: Log) -> None:
    log.stuff()
    alarms.sound("log-rewritten", "records changed")
    assert log.alarms() == ["log-rewritten"]
    assert log.told("log-rewritten") == 0
    log.unstuff()
    alarms.sound("log-rewritten", "records changed again")
    alarms.sound("log-rewritten", "and again")
    assert log.told("log-rewritten") == 1


def test_by_night_fsck_runs_as_a_process_of_its_own_and_a_fault_is_an_alarm(
    log: Log, settings: Any, server: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = psycopg.conninfo.make_conninfo(**server(dbname=connection.settings_dict["NAME"]))
    monkeypatch.setenv("DATABASE_URL", url)
    nightly.check_when_due()
    marker = log.data / "log" / "fsck"
    os.utime(marker, (0, 0))
    nightly.check_when_due()
    assert marker.stat().st_mtime > 0
    assert log.alarms() == []
    log.hashes.write_bytes(b"\0" * 96)
    nightly.check_when_due()
    assert log.alarms() == []
    os.utime(marker, (0, 0))
    nightly.check_when_due()
    assert log.alarms() == ["fsck-failed"]
    assert log.told("The file of leaf hashes does not hold") == 1
    settings.FSCK_HOURS = 0
    os.utime(marker, (0, 0))
    nightly.check_when_due()
    assert marker.stat().st_mtime == 0
