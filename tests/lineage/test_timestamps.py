"""RFC 3161 timestamps: the public vectors, and what a strict reader refuses of real tokens."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, strategies

from demo import authority as local
from lineage import errors, notes, timestamps
from lineage.events import format_time
from lineage.verify import stamps
from tests import vectors

Issuer = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]
FOLDER = "rfc3161"


def cases() -> list[dict[str, Any]]:
    """The cases of the vectors; none when they are absent, which a test then says."""
    if not (vectors.FOLDER / FOLDER).exists():
        return []
    return list(vectors.load(f"{FOLDER}/expected.json")["cases"])


def certificates(name: str) -> list[x509.Certificate]:
    """The chain that a case names; one of them is DER."""
    raw = vectors.path(f"{FOLDER}/{name.split(' ')[0]}").read_bytes()
    return x509.load_pem_x509_certificates(raw) if b"-----BEGIN" in raw else [x509.load_der_x509_certificate(raw)]


def authority(case: dict[str, Any], response: bytes) -> timestamps.Authority:
    """Whom the case trusts: its chain, without the signer's own certificate where the case says so.

    A required signer is, with us, a certificate that is pinned: the one of that name which the response carries.
    """
    chain = certificates(case["chain"])
    if case.get("tsa_certificate_given") is False:
        chain = [each for each in chain if each.issuer == each.subject]
    if "required_signer_name" in case:
        bag = carried(response)
        chain = [each for each in bag if each.subject.rfc4514_string() == case["required_signer_name"]] + chain[1:]
    return timestamps.parse_authority("tsa", [each.public_bytes(Encoding.DER) for each in chain])


def carried(response: bytes) -> list[x509.Certificate]:
    from rfc3161_client import decode_timestamp_response

    return [x509.load_der_x509_certificate(c) for c in decode_timestamp_response(response).signed_data.certificates]


def test_the_public_vectors_are_there() -> None:
    assert vectors.path(FOLDER).is_dir()
    assert len(cases()) == 14


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{Path(case['response']).stem} {case.get('why', '')}")
def test_every_public_vector_is_judged_as_it_says(case: dict[str, Any]) -> None:
    response = vectors.path(f"{FOLDER}/{case['response']}").read_bytes()
    message = case.get("message", "hello").encode()
    if "message_file" in case:
        message = vectors.path(f"{FOLDER}/{case['message_file']}").read_bytes()
    if not case["accept"]:
        with pytest.raises(errors.TimestampInvalid):
            timestamps.verify(response, message, authority(case, response))
        return
    stamp = timestamps.verify(response, message, authority(case, response))
    assert stamp.stated_at.utcoffset() is not None
    if "gen_time" in case:
        assert stamp.stated_at.strftime("%Y-%m-%dT%H:%M:%SZ") == case["gen_time"]


MESSAGE = b"log.example/orders\n4711\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"


@pytest.fixture(scope="module")
def root() -> Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    return local.certificate("Test root", key, ca=True), key


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory, root: Issuer) -> local.Authority:
    return local.Authority(tmp_path_factory.mktemp("tsa") / "one", issuer=root)


def trusted(*certificates: x509.Certificate) -> timestamps.Authority:
    return timestamps.parse_authority("here", [each.public_bytes(Encoding.DER) for each in certificates])


def stamped(tsa: local.Authority, message: bytes = MESSAGE) -> tuple[bytes, int]:
    request = timestamps.request(message)
    return tsa.answer(request.body), request.nonce


def refused(response: bytes, by: timestamps.Authority, nonce: int | None = None, message: bytes = MESSAGE) -> str:
    with pytest.raises(errors.TimestampInvalid) as fault:
        timestamps.verify(response, message, by, nonce)
    return fault.value.message


def test_a_real_token_states_a_time_for_exactly_this_message_and_nonce(tsa: local.Authority, root: Issuer) -> None:
    before = dt.datetime.now(dt.UTC).replace(microsecond=0)
    response, nonce = stamped(tsa)
    here = trusted(tsa.certificate, root[0])
    stamp = timestamps.verify(response, MESSAGE, here, nonce)
    assert before <= stamp.stated_at <= dt.datetime.now(dt.UTC)
    assert (stamp.authority, stamp.policy) == ("here", "1.3.6.1.4.1.99999.1")
    assert "Mismatch between messages" in refused(response, here, nonce, MESSAGE[:-1])
    assert "Mismatch between messages" in refused(response, here, nonce, MESSAGE + b"\n")
    assert "Nonce mismatch" in refused(response, here, nonce + 1)


def test_two_requests_over_one_message_differ_and_name_only_its_hash() -> None:
    one, other = timestamps.request(MESSAGE), timestamps.request(MESSAGE)
    assert one.nonce != other.nonce
    assert hashlib.sha256(MESSAGE).digest() in one.body
    assert MESSAGE not in one.body


def test_one_flipped_bit_anywhere_is_refused_but_for_the_name_of_the_algorithm_that_nothing_uses(
    tsa: local.Authority, root: Issuer
) -> None:
    response, nonce = stamped(tsa)
    here = trusted(tsa.certificate, root[0])
    stamp = timestamps.verify(response, MESSAGE, here, nonce)
    # CMS signs neither this name nor reads it: the key says how it signs. It is the last before the signature.
    name = response.rindex(bytes.fromhex("06082a8648ce3d040302")) + 2
    for place in range(len(response)):
        damaged = bytearray(response)
        damaged[place] ^= 1 << (place % 8)
        if place in range(name, name + 8):
            with contextlib.suppress(errors.TimestampInvalid):
                assert timestamps.verify(bytes(damaged), MESSAGE, here, nonce) == stamp
        else:
            refused(bytes(damaged), here, nonce)


@pytest.mark.parametrize("cut", [0, 1, 9, 400, -1])
def test_a_cut_or_lengthened_response_is_refused(tsa: local.Authority, root: Issuer, cut: int) -> None:
    response, nonce = stamped(tsa)
    refused(response[:cut], trusted(tsa.certificate, root[0]), nonce)
    refused(response + b"\0", trusted(tsa.certificate, root[0]), nonce)


@given(strategies.binary(max_size=400))
def test_no_bytes_at_all_make_the_reader_fail_otherwise_than_by_refusing(garbage: bytes) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    here = trusted(local.certificate("any", key))
    for body in (garbage, b"\x30\x05\x30\x03\x02\x01\x00" + garbage):
        refused(body, here)
        with pytest.raises(errors.TimestampInvalid):
            timestamps.made_by(body, here)
        with pytest.raises(errors.TimestampInvalid):
            timestamps.authority_of(body, "any", [])


def test_an_answer_that_grants_nothing_is_told_with_its_words(tsa: local.Authority, root: Issuer) -> None:
    answer = tsa.answer(b"no request")
    assert "status 2" in refused(answer, trusted(tsa.certificate, root[0]))


def test_the_words_of_an_authority_cannot_make_a_second_line_in_our_log() -> None:
    words = b"sorry\n2026-11-21 ALL FINE\x1b[2J"
    inner = b"\x02\x01\x02" + bytes([0x30, len(words) + 2, 0x0C, len(words)]) + words
    answer = bytes([0x30, len(inner) + 2, 0x30, len(inner)]) + inner
    told = refused(answer, trusted(local.certificate("any", ec.generate_private_key(ec.SECP256R1()))))
    assert told == "The authority did not grant a token: status 2 sorry?2026-11-21 ALL FINE?[2J."


def test_a_huge_response_is_refused_before_it_is_read(tsa: local.Authority, root: Issuer) -> None:
    response, nonce = stamped(tsa)
    assert "64 KiB" in refused(response + bytes(64 * 1024), trusted(tsa.certificate, root[0]), nonce)


def test_only_the_pinned_certificate_may_sign_not_another_below_the_same_root(
    tsa: local.Authority, root: Issuer, tmp_path: Path
) -> None:
    other = local.Authority(tmp_path / "other", issuer=root)
    response, nonce = stamped(other)
    assert "another certificate" in refused(response, trusted(tsa.certificate, root[0]), nonce)
    assert not timestamps.made_by(response, trusted(tsa.certificate, root[0]))
    any_below = trusted(root[0])
    assert timestamps.made_by(response, any_below)
    assert timestamps.verify(response, MESSAGE, any_below, nonce).authority == "here"


def test_an_authority_of_the_same_name_and_serial_with_a_key_of_its_own_is_refused(
    tsa: local.Authority, root: Issuer
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    forged_root = (local.certificate("Test root", key, ca=True), key)
    twin = local.certificate("Demo timestamps", key, issuer=forged_root, serial=tsa.certificate.serial_number)
    response, nonce = stamped(tsa)
    refused(response, trusted(twin, forged_root[0]), nonce)
    refused(response, trusted(forged_root[0]), nonce)


def test_a_token_outlives_its_certificate_but_is_not_made_after_it(root: Issuer, tmp_path: Path) -> None:
    # On a busy machine a short life may be over before the token is made: then a longer one.
    for seconds in (2, 8, 32, 128):
        brief = local.Authority(tmp_path / f"{seconds}", issuer=root, valid=dt.timedelta(seconds=seconds))
        response, nonce = stamped(brief)
        if dt.datetime.now(dt.UTC) < brief.certificate.not_valid_after_utc:
            break
    here = trusted(brief.certificate, root[0])
    while dt.datetime.now(dt.UTC) <= brief.certificate.not_valid_after_utc + dt.timedelta(seconds=1):
        time.sleep(0.2)
    assert timestamps.verify(response, MESSAGE, here, nonce).stated_at <= brief.certificate.not_valid_after_utc
    late, nonce = stamped(brief)
    assert "certificate has expired" in refused(late, here, nonce)


def test_a_certificate_that_is_not_for_time_stamping_alone_cannot_be_named_nor_sign(
    root: Issuer, tmp_path: Path
) -> None:
    tsa = local.Authority(tmp_path / "tsa", issuer=root)
    tls = local.certificate("Demo timestamps", tsa.key, issuer=root, stamping=False)
    with pytest.raises(errors.NoteInvalid, match="for time stamping only"):
        trusted(tls, root[0])
    # openssl does not sign with it; a token that leaves its certificate out can still claim it.
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    bare = TimestampRequestBuilder().data(MESSAGE).hash_algorithm(HashAlgorithm.SHA256).cert_request(cert_request=False)
    response = tsa.answer(bare.build().as_bytes())
    same_place = local.certificate(
        "Demo timestamps", tsa.key, issuer=root, stamping=False, serial=tsa.certificate.serial_number
    )
    assert timestamps.verify(response, MESSAGE, trusted(tsa.certificate, root[0])).authority == "here"
    assert "unsuitable certificate purpose" in refused(response, timestamps.Authority("here", (same_place, root[0])))
    assert refused(response, trusted(root[0]))


def test_a_ca_does_not_stamp_by_itself(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    ca = local.certificate("Test root", key, ca=True)
    tsa = local.Authority(tmp_path / "tsa", issuer=(ca, key))
    # What the CA's own key signed, claiming the CA's certificate: it is trusted to issue, not to state times.
    own = local.certificate("Test root", key, stamping=True, serial=ca.serial_number)
    (tsa.folder / "tsa.key").write_bytes(
        key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tsa.folder / "tsa.pem").write_bytes(own.public_bytes(Encoding.PEM))
    response, nonce = stamped(tsa)
    refused(response, trusted(tsa.certificate, ca), nonce)


def test_the_first_meeting_builds_the_chain_and_names_the_issuer_that_is_missing(
    tsa: local.Authority, root: Issuer
) -> None:
    response, nonce = stamped(tsa)
    with pytest.raises(errors.TimestampInvalid, match="CN=Test root, which is not among TOUCHSTONE_TSA_ROOTS"):
        timestamps.authority_of(response, "here", [])
    met = timestamps.authority_of(response, "here", [root[0]])
    assert met == trusted(tsa.certificate, root[0])
    assert timestamps.verify(response, MESSAGE, met, nonce)


def policy(*lines: str) -> notes.Policy:
    log = f"log {notes.vkey_of(KEY)}\n"
    return notes.parse_policy(log + "".join(f"{line}\n" for line in lines) + "quorum none\n")


KEY = notes.generate_key("log.example/orders")


def test_a_policy_names_authorities_and_refuses_lines_that_could_not_judge_a_token(
    tsa: local.Authority, root: Issuer
) -> None:
    line = str(trusted(tsa.certificate, root[0]))
    (found,) = policy(line).authorities
    assert (found.name, found.pinned, str(found)) == ("here", tsa.certificate, line)
    assert policy(f"tsa below {line.split(' ')[3]}").authorities[0].pinned is None
    other_root = base64.b64encode(local.certificate("x", tsa.key).public_bytes(Encoding.DER)).decode()
    words = line.split(" ")
    for bad in (
        "tsa", "tsa here", "tsa he+re " + words[2], "tsa here MIIB", "tsa here " + words[2] + "=", "tsa here " + words[2],
        f"{line} {words[3]}", f"{line}\n{line}", f"{line} {other_root}", "tsa here " + " ".join([words[3]] * 9),
    ):  # fmt: skip
        with pytest.raises(errors.NoteInvalid, match="of the policy is refused"):
            policy(bad)


class Anchor(NamedTuple):
    note: bytes
    responses: tuple[bytes, ...]


def anchor(tokens: Sequence[bytes], size: int = 4711) -> Anchor:
    text = notes.make_checkpoint("log.example/orders", size, bytes(range(32)))
    assert size != 4711 or text.encode() == MESSAGE
    return Anchor(notes.sign(text, KEY), tuple(tokens))


def test_the_verifier_says_who_states_which_time_for_how_many_records(
    tsa: local.Authority, root: Issuer, tmp_path: Path
) -> None:
    response, _ = stamped(tsa)
    stranger, _ = stamped(local.Authority(tmp_path / "stranger"))
    here = policy(str(trusted(tsa.certificate, root[0])))
    state, sentence = stamps.timestamps(here, [anchor([response, stranger]), anchor([], 5000)])
    assert state == "pass"
    at = timestamps.verify(response, MESSAGE, here.authorities[0]).stated_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert sentence.startswith(f"here states {at} for the first 4711 records.")
    assert "1 more are of no authority" in sentence


def test_what_the_page_tells_to_do_with_openssl_alone_gives_the_same_answer(
    tsa: local.Authority, root: Issuer, tmp_path: Path
) -> None:
    response, _ = stamped(tsa)
    (tmp_path / "roots.pem").write_bytes(root[0].public_bytes(Encoding.PEM))
    (tmp_path / "tsa.pem").write_bytes(tsa.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "000001.1.tsr").write_bytes(response)
    page = (Path(__file__).parent.parent.parent / "docs" / "timestamps.md").read_text()
    commands = [line.strip() for line in page.splitlines() if line.startswith(("    sed ", "    openssl ts "))]
    assert len(commands) == 2
    for size, said in ((4711, "Verification: OK"), (4712, "Verification: FAILED")):
        (tmp_path / "000001.note").write_bytes(anchor([], size).note)
        done = subprocess.run("\n".join(commands), shell=True, cwd=tmp_path, capture_output=True, text=True)
        assert said in done.stdout


def test_a_record_dated_back_behind_a_stamped_checkpoint_or_forward_before_one_fails(
    tsa: local.Authority, root: Issuer
) -> None:
    response, _ = stamped(tsa)
    here = policy(str(trusted(tsa.certificate, root[0])))
    now = dt.datetime.now(dt.UTC)

    def judged(index: int, minutes: float) -> str:
        received = {7: format_time(now - dt.timedelta(days=1)), index: format_time(now + dt.timedelta(minutes=minutes))}
        return stamps.timestamps(here, [anchor([response])], received)[0]

    assert judged(4710, -100) == judged(4710, 5) == "pass"
    assert judged(4711, -5) == judged(4711, 23 * 60) == "note"
    assert judged(4711, 25 * 60) == "missing"
    for index, minutes, said in ((4711, -30, "already, but here states"), (4710, 30, "Record 4710 says")):
        with pytest.raises(errors.TimestampInvalid, match=said):
            judged(index, minutes)


def test_tokens_of_strangers_are_said_and_trust_is_missing_only_where_an_authority_is_named(
    tsa: local.Authority, root: Issuer, tmp_path: Path
) -> None:
    stranger, _ = stamped(local.Authority(tmp_path / "stranger"))
    here = policy(str(trusted(tsa.certificate, root[0])))
    assert stamps.timestamps(here, [anchor([stranger])])[0] == "missing"
    assert stamps.timestamps(here, [anchor([])])[0] == "missing"
    assert stamps.timestamps(here, [])[0] == "missing"
    assert stamps.timestamps(policy(), [anchor([stranger])])[0] == "note"
    assert stamps.timestamps(policy(), [])[0] == "note"
    assert stamps.timestamps(None, [anchor([stranger])])[0] == "note"


def test_a_token_of_a_named_authority_over_another_checkpoint_or_damaged_fails(
    tsa: local.Authority, root: Issuer
) -> None:
    response, _ = stamped(tsa)
    here = policy(str(trusted(tsa.certificate, root[0])))
    damaged = response[:-1] + bytes([response[-1] ^ 1])
    for tokens in ([anchor([response], 4712)], [anchor([damaged])], [anchor([response, b"garbage"])]):
        with pytest.raises(errors.TimestampInvalid):
            stamps.timestamps(here, tokens)


def test_an_authority_that_renewed_its_root_is_believed_under_either_line(tsa: local.Authority, root: Issuer) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    renewed = local.certificate("Test root", key, ca=True)
    lines = [str(trusted(renewed)), str(trusted(root[0]))]
    response, _ = stamped(tsa)
    for order in (lines, lines[::-1]):
        assert stamps.timestamps(policy(*order), [anchor([response])])[0] == "pass"
    with pytest.raises(errors.TimestampInvalid):
        stamps.timestamps(policy(lines[0]), [anchor([response])])


def test_without_the_reader_of_tokens_the_verifier_says_what_to_install(tsa: local.Authority, root: Issuer) -> None:
    response, _ = stamped(tsa)
    program = (
        "import sys; sys.modules['rfc3161_client'] = None\n"
        "from types import SimpleNamespace; from lineage import notes; from lineage.verify import stamps\n"
        f"policy = notes.parse_policy({('tsa here ' + str(trusted(root[0])).split(' ')[2])!r} + '\\nquorum none\\n')\n"
        f"print(*stamps.timestamps(policy, [SimpleNamespace(note={anchor([]).note!r}, responses=({response!r},))]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("missing 1 timestamps were not read. Install the package rfc3161-client")
