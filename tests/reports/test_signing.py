"""The signature of reports: valid for those who trust the certificate, broken by one flipped byte, unknown to others."""

from __future__ import annotations

import stat
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from demo import authority
from lineage import errors, notes, packfile
from lineage.verify import pdf, verify
from reports import render, signing, timestamping
from tests import evidence
from tests.reports import made

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _own_keys(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path / "data"


@pytest.fixture
def unsigned(tmp_path: Path) -> bytes:
    render.pdf("<html lang=en><title>t</title><body>Report</body></html>", [], made.END, tmp_path / "unsigned.pdf")
    return (tmp_path / "unsigned.pdf").read_bytes()


def test_a_signed_report_is_the_unsigned_file_with_a_valid_signature_behind_it(unsigned: bytes, tmp_path: Path) -> None:
    signed = signing.sign(unsigned)
    assert signed.startswith(unsigned)
    assert signing.check(signed) == signing.Verdict(True, True, True, signing.fingerprint(), 1)
    (tmp_path / "signed.pdf").write_bytes(signed)
    told = subprocess.run(["pdfsig", tmp_path / "signed.pdf"], capture_output=True, text=True, check=False).stdout
    assert "Signature Validation: Signature is Valid." in told
    assert "ETSI.CAdES.detached" in told
    assert "Total document signed" in told


def test_one_flipped_byte_anywhere_in_the_signed_bytes_breaks_the_signature(unsigned: bytes) -> None:
    signed = signing.sign(unsigned)
    for position in (len(unsigned) // 3, len(unsigned) // 2, len(unsigned) - 40):
        broken = bytearray(signed)
        broken[position] ^= 1
        assert not signing.check(bytes(broken)).intact


def test_an_authority_stamps_the_signature_and_no_byte_of_its_token_can_be_another(
    unsigned: bytes, settings: Any, tmp_path: Path
) -> None:
    server = authority.serve(authority.Authority(tmp_path / "tsa"))
    settings.TSA = ["down=http://127.0.0.1:9/tsr", f"local=http://127.0.0.1:{server.server_address[1]}/tsr"]
    signed = signing.sign(unsigned)
    server.shutdown()
    server.server_close()
    policy = notes.Policy(fingerprints=[signing.fingerprint()])
    state, told = pdf.signature(signed, policy)
    assert (state, signing.stamped_at(signed) is not None) == ("pass", True)
    assert "UTC, says an authority that your policy does not name." in told
    assert signing.check(signed) == signing.Verdict(True, True, True, signing.fingerprint(), 1)
    container = signed.index(b"/Contents <") + 11
    token = signed.index(b"060B2A864886F70D010910020E", container)
    end = signed.index(b"000000000000000000000000", token)
    for at in range(token, end, 37):
        broken = bytearray(signed)
        broken[at] ^= 1
        assert not _holds(bytes(broken), policy), at - token


def _holds(signed: bytes, policy: notes.Policy) -> bool:
    try:
        return pdf.signature(signed, policy)[0] == "pass"
    except errors.PackInvalid:
        return False


def test_where_no_authority_answers_a_report_goes_out_without_a_timestamp(unsigned: bytes, settings: Any) -> None:
    settings.TSA = ["down=http://127.0.0.1:9/tsr"]
    signed = signing.sign(unsigned)
    assert signing.check(signed).trusted
    assert timestamping.told(signing.stamped_at(signed)) == "pending"
    settings.TSA = []
    assert timestamping.told(signing.stamped_at(signed)) is None


def test_what_is_added_behind_the_signature_is_seen(unsigned: bytes) -> None:
    assert not signing.check(signing.sign(unsigned) + b"\n% more").whole_file


def test_a_signature_by_another_key_is_intact_but_not_trusted(unsigned: bytes, settings: Any, tmp_path: Path) -> None:
    ours = signing.certificate_pem()
    settings.DATA_DIR = tmp_path / "other"
    verdict = signing.check(signing.sign(unsigned), ours)
    assert (verdict.intact, verdict.trusted) == (True, False)


def test_an_unsigned_file_is_not_intact(unsigned: bytes) -> None:
    assert signing.check(unsigned) == signing.Verdict(False, False, False, "")


def test_the_key_is_made_once_by_many_at_once_and_only_its_owner_reads_it() -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(signing.fingerprint())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert stat.S_IMODE(signing.key_path().stat().st_mode) == 0o600


def with_pack(folder: Path, pack: bytes) -> bytes:
    (folder / "evidence.touchstone.zip").write_bytes(pack)
    attached = render.Attached(
        str(folder / "evidence.touchstone.zip"), "evidence.touchstone.zip", "Pack", "application/zip", "Supplement"
    )
    page = "<html lang=en><title>t</title><body>Report</body></html>"
    render.pdf(page, [attached], made.END, folder / "with-pack.pdf")
    return (folder / "with-pack.pdf").read_bytes()


def test_the_verifier_confirms_a_report_as_a_whole_and_notices_what_is_not_ours(tmp_path: Path, settings: Any) -> None:
    unsigned = with_pack(tmp_path, packfile.write(evidence.ranged()))
    signed = signing.sign(unsigned)
    policy = notes.parse_policy(evidence.POLICY_TEXT.replace("ab" * 32, signing.fingerprint()))

    def found(data: bytes, by: notes.Policy = policy) -> tuple[int, str]:
        verdict = verify(data, by)
        return verdict.exit, next((check.state for check in verdict.checks if check.name == "pdf"), "unreadable")

    assert found(signed) == (0, "pass")
    assert found(unsigned) == (2, "missing")
    assert found(signed + b"\n% more") == (2, "missing")
    assert found(signed, evidence.POLICY) == (2, "missing")
    gap = signed.index(b"000000000000000000000000")
    for at in (signed.index(b"Title") - 300, signed.index(b"/ByteRange") + 14, gap, gap + 9):
        broken = bytearray(signed)
        broken[at] ^= 1
        assert found(bytes(broken))[0] in (1, 3), at
    assert found(signing.sign(with_pack(tmp_path, packfile.write(evidence.ranged(proofs=((),)))))) == (1, "pass")
    settings.DATA_DIR = tmp_path / "other"
    assert found(signing.sign(unsigned)) == (2, "missing")
