"""The insider alters what is handed out: a pack, a report, the verifier; and rotates the key in silence."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pikepdf
import pytest
from django.core.management import call_command

from lineage import archive, keys, notes, packfile
from lineage.verify.pdf import ATTACHMENT
from reports import render, signing
from tests.reports import made
from tests.tamper.insider import Insider, failed, judged, pack, policy

pytestmark = pytest.mark.slow

# rotates the key in silence


def test_a_key_exchanged_in_silence_is_unknown_to_the_policy_of_day_one(insider: Insider) -> None:
    day_one, old = policy(), keys.publics("checkpoint")[0]
    secret = notes.generate_key(keys.key_name("checkpoint"))
    keys.path("checkpoint").write_text(secret)
    keys.write_publics("checkpoint", [keys.Public(notes.vkey_of(secret)), old._replace(until=made.START)])
    insider.sign()
    assert insider.alarms() == []
    assert insider.told("key_rotation") == 0
    assert judged(pack("index:2"), policy())[0] == 0
    assert failed(pack("index:2"), day_one) == (2, ["signature"])


def test_a_rotation_by_the_command_is_a_record_and_the_policy_of_day_one_does_not_know_its_key(
    insider: Insider,
) -> None:
    day_one = policy()
    call_command("key", "rotate", "checkpoint", "--overlap-hours", "0")
    insider.sign()
    assert insider.told("key_rotation") == 1
    assert failed(pack("index:2"), day_one) == (2, ["signature"])


# alters a pack, a report or the verifier


def test_a_pack_with_another_leaf_value_or_checkpoint_fails_by_the_name_of_the_check(insider: Insider) -> None:
    good = pack("index:2")
    assert judged(good, policy())[0] == 0
    assert failed(good + b"\0", policy()) == (1, ["archive"])
    members = archive.read(good)
    for name, old, new, check in (
        ("leaves.ndjson", b'"kind":"query"', b'"kind":"state"', "inclusion"),
        ("disclosures.ndjson", b"person-3", b"person-4", "disclosures"),
        ("checkpoint.note", b"\n6\n", b"\n7\n", "signature"),
    ):
        assert old in members[name]
        altered = {**members, name: members[name].replace(old, new)}
        assert failed(archive.write(altered), policy()) == (1, ["members"])
        code, checks = failed(packfile.write(packfile.parse(altered)), policy())
        assert (code, check in checks) == (1, True), (name, checks)


@pytest.fixture
def report(insider: Insider, tmp_path: Path) -> tuple[bytes, str]:
    """A signed PDF that carries a pack, and the policy of day one with the certificate's fingerprint."""
    carried = tmp_path / "carried.zip"
    carried.write_bytes(pack("index:2"))
    attached = render.Attached(str(carried), ATTACHMENT, "Evidence", "application/zip", "Data")
    render.pdf("<html lang=en><title>t</title><body>Report</body></html>", [attached], made.END, tmp_path / "r.pdf")
    log, receipt, own = (keys.vkey(name) for name in ("checkpoint", "receipt", "report"))
    return signing.sign((tmp_path / "r.pdf").read_bytes()), notes.make_policy(log, receipt, own, signing.fingerprint())


def with_pack(pdf: bytes, other: bytes) -> bytes:
    out = io.BytesIO()
    with pikepdf.open(io.BytesIO(pdf)) as document:
        del document.attachments[ATTACHMENT]
        document.attachments[ATTACHMENT] = other
        document.save(out)
    return out.getvalue()


def test_a_report_altered_after_signing_or_with_another_pack_in_it_fails_the_check_of_the_pdf(
    insider: Insider, report: tuple[bytes, str]
) -> None:
    pdf, trusts = report
    assert failed(pdf, trusts) == (0, [])
    at = pdf.index(b"/Title") + 3
    altered = pdf[:at] + bytes([pdf[at] ^ 1]) + pdf[at + 1 :]
    assert failed(altered, trusts) == (1, ["pdf"])
    assert failed(with_pack(pdf, pack("index:3")), trusts) == (1, ["pdf"])
    assert failed(pdf + b"\n% more", trusts) == (2, ["pdf"])
    # A signature of somebody else's over the altered file.
    signing.key_path().unlink()
    again = with_pack((insider.data / "r.pdf").read_bytes(), pack("index:3"))
    assert failed(signing.sign(again), trusts) == (2, ["pdf"])


def test_a_verifier_altered_on_the_server_does_not_fit_the_sums_of_day_one(tmp_path: Path) -> None:
    call_command("verifier", "--out", str(tmp_path), stdout=io.StringIO())

    def checked() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True, text=True)

    assert checked().returncode == 0
    for name in ("touchstone_verify.py", "verify.html"):
        file = tmp_path / name
        whole = file.read_text()
        file.write_text(whole.replace("fail", "pass", 1))
        assert file.read_text() != whole
        done = checked()
        assert (done.returncode, f"{name}: FAILED" in done.stdout) == (1, True)
        file.write_text(whole)
