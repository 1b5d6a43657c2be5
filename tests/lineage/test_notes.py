"""Signed notes, checkpoints, cosignatures, receipts and policy files against the public vectors and their rules."""

from __future__ import annotations

import base64
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage import merkle, notes
from lineage.errors import NoteInvalid
from tests import vectors

LOG = notes.generate_key("log.example/orders")
OTHER = notes.generate_key("log.example/other")
WITNESSES = [notes.generate_key(f"witness.example/{n}", 4) for n in range(3)]
ROOT = merkle.leaf_hash(b"root")
TEXT = notes.make_checkpoint("log.example/orders", 5, ROOT)


def test_every_public_signed_note_is_judged_as_its_source_says() -> None:
    cases = vectors.load("note/signed_note.json")["notes"]
    assert len(cases) == 14
    for case in cases:
        data = base64.b64decode(case["note_b64"])
        if case["accept"]:
            note = notes.verify(data, case["trusted_vkeys"])
            assert [each.name for each in note.verified] == case["verified_key_names"], case["name"]
        else:
            with pytest.raises(NoteInvalid):
                notes.verify(data, case["trusted_vkeys"])


def test_every_public_verifier_key_is_judged_as_its_source_says() -> None:
    cases = [*vectors.load("note/signed_note.json")["vkeys"], *vectors.load("note/cosignature.json")["vkeys"]]
    for case in cases:
        if case.get("accept"):
            assert str(notes.parse_vkey(case["vkey"])) == case["vkey"]
        elif "vkey" in case:
            with pytest.raises(NoteInvalid):
                notes.parse_vkey(case["vkey"])


def test_no_substring_and_no_one_byte_change_of_a_verifier_key_is_a_key() -> None:
    good = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    damaged = [good[low:high] for low in range(len(good)) for high in range(low + 1, len(good) + 1)]
    damaged.remove(good)
    damaged += [good[:at] + chr(ord(good[at]) + 1) + good[at + 1 :] for at in range(len(good))]
    for text in damaged:
        with pytest.raises(NoteInvalid):
            notes.parse_vkey(text)


def test_public_checkpoint_bodies_are_judged_by_the_strict_rules() -> None:
    for case in vectors.load("note/checkpoint_body.json")["cases"]:
        # The accepted ones of the source have short roots, which we refuse whatever else they hold.
        with pytest.raises(NoteInvalid):
            notes.parse_checkpoint(case["body"])
        body = case["body"].split("\n")
        if len(body) > 3 and case["accept"] and "trailing newlines" not in case["name"]:
            body[2] = base64.b64encode(ROOT).decode()
            checkpoint = notes.parse_checkpoint("\n".join(body))
            assert (checkpoint.origin, checkpoint.size, checkpoint.root) == (body[0], int(body[1]), ROOT)
            assert checkpoint.extensions == tuple(body[3:-1])


def test_all_sixteen_checkpoints_of_a_published_log_verify_under_its_key() -> None:
    folder = vectors.path("tlog-tiles/small15")
    key = (folder / "vkey.txt").read_text().strip()
    hashes = (folder / "tile/0/000.p/15").read_bytes()
    for size in range(16):
        note = notes.verify((folder / f"checkpoint.{size}").read_bytes(), [key])
        checkpoint = notes.parse_checkpoint(note.text)
        assert (checkpoint.origin, checkpoint.size) == ("example.com/log/testdata", size)
        assert checkpoint.root == merkle.root([hashes[at * 32 : at * 32 + 32] for at in range(size)])


def test_a_published_cosignature_verifies_and_tells_its_time() -> None:
    case = vectors.load("note/cosignature.json")["cosigned_note"]
    data = vectors.path("tlog-tiles/full256/checkpoint").read_bytes()
    note = notes.verify(data, [case["cosigner_vkey"]])
    assert notes.parse_checkpoint(note.text).size == 300
    assert [each.timestamp for each in note.verified] == [1767139200]
    damaged = data.replace(b"\n300\n", b"\n301\n")
    with pytest.raises(NoteInvalid):
        notes.verify(damaged, [case["cosigner_vkey"]])


def test_public_ed25519_edge_cases_are_judged_as_published() -> None:
    groups = vectors.load("ed25519/wycheproof_ed25519_test.json")["testGroups"]
    for group in groups:
        key = notes.VerifierKey("edge", b"edge", 1, bytes.fromhex(group["publicKey"]["pk"]))
        for case in group["tests"]:
            valid = key.verifies(bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"]))
            assert valid == (case["result"] == "valid"), case["comment"]


def test_a_note_that_we_sign_verifies_under_its_key_only() -> None:
    note = notes.sign(TEXT, LOG)
    checkpoint = notes.parse_checkpoint(notes.verify(note, [notes.vkey_of(LOG)]).text)
    assert checkpoint == notes.Checkpoint("log.example/orders", 5, ROOT)
    with pytest.raises(NoteInvalid):
        notes.verify(note, [notes.vkey_of(OTHER)])
    with pytest.raises(NoteInvalid):
        notes.verify(note, [])


@given(at=st.integers(0, len(notes.sign(TEXT, LOG)) - 1), change=st.integers(1, 255))
def test_a_note_with_one_byte_changed_never_verifies(at: int, change: int) -> None:
    damaged = bytearray(notes.sign(TEXT, LOG))
    damaged[at] ^= change
    with pytest.raises(NoteInvalid):
        notes.verify(bytes(damaged), [notes.vkey_of(LOG)])


@pytest.mark.parametrize("text", ["", "no newline", "tab\t\n", "nul\0\n", "half \ud800\n", "cr\r\n"])
def test_text_that_no_note_can_hold_is_not_signed(text: str) -> None:
    with pytest.raises(NoteInvalid):
        notes.sign(text, LOG)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\n", "a\u2003b"])
def test_a_key_with_an_impossible_name_is_not_made(name: str) -> None:
    with pytest.raises(NoteInvalid):
        notes.generate_key(name)


def test_a_signer_key_with_another_name_is_refused_and_not_repeated_in_the_message() -> None:
    renamed = LOG.replace("orders", "orderz")
    with pytest.raises(NoteInvalid) as caught:
        notes.parse_skey(renamed)
    assert renamed[-20:] not in str(caught.value)
    assert LOG[-20:] not in repr(notes.parse_skey(LOG))


def test_signatures_of_two_keys_are_joined_under_one_text() -> None:
    both = notes.join(notes.sign(TEXT, LOG), notes.sign(TEXT, OTHER))
    note = notes.verify(both, [notes.vkey_of(LOG), notes.vkey_of(OTHER)])
    assert len(note.verified) == 2
    assert notes.join(both, both) == both
    with pytest.raises(NoteInvalid):
        notes.join(both, notes.sign("other\n", OTHER))


def test_one_wrong_signature_of_a_known_key_refuses_the_whole_note() -> None:
    both = notes.join(notes.sign(TEXT, LOG), notes.sign(TEXT, OTHER))
    forged = notes.sign("another\n", OTHER).decode().splitlines()[-1]
    lines = both.decode().splitlines()[:-1]
    with pytest.raises(NoteInvalid, match="wrong"):
        notes.verify("\n".join([*lines, forged, ""]), [notes.vkey_of(LOG), notes.vkey_of(OTHER)])


def test_a_witness_key_signs_cosignatures_and_nothing_else() -> None:
    with pytest.raises(NoteInvalid):
        notes.sign(TEXT, WITNESSES[0])
    with pytest.raises(NoteInvalid):
        notes.cosign(notes.sign(TEXT, LOG), LOG, 1)


def policy_of(rule: str) -> notes.Policy:
    lines = [f"log {notes.vkey_of(LOG)}"]
    lines += [f"witness w{n} {notes.vkey_of(key)}" for n, key in enumerate(WITNESSES)]
    return notes.parse_policy("\n".join([*lines, rule, ""]))


@pytest.mark.parametrize(
    ("rule", "cosigners", "met"),
    [
        ("quorum none", [], True),
        ("quorum w0", [], False),
        ("quorum w0", [0], True),
        ("quorum w0", [1], False),
        ("group g any w0 w1\nquorum g", [1], True),
        ("group g all w0 w1\nquorum g", [1], False),
        ("group g all w0 w1\nquorum g", [0, 1], True),
        ("group g 2 w0 w1 w2\nquorum g", [0, 2], True),
        ("group g 2 w0 w1 w2\nquorum g", [2], False),
        ("group a any w0 w1\ngroup b all a w2\nquorum b", [0, 1], False),
        ("group a any w0 w1\ngroup b all a w2\nquorum b", [1, 2], True),
    ],
)
def test_a_quorum_is_met_by_valid_cosignatures_only(rule: str, cosigners: list[int], met: bool) -> None:
    policy = policy_of(rule)
    note = notes.sign(TEXT, LOG)
    for n in cosigners:
        note = notes.cosign(note, WITNESSES[n], 1_700_000_000 + n)
    assert policy.quorum_met(notes.verify(note, policy.checkpoint_keys)) is met


def test_public_policies_are_judged_by_the_strict_rules() -> None:
    for case in vectors.load("witness/policy.json"):
        if case["accept"] and "c2sp" not in case:
            assert len(notes.parse_policy(case["policy"]).witnesses) == 2
        else:
            with pytest.raises(NoteInvalid):
                notes.parse_policy(case["policy"])


def test_a_policy_that_we_print_is_read_back_with_its_three_keys() -> None:
    keys = [
        notes.vkey_of(notes.generate_key(name)) for name in ("log.example", "log.example/receipt", "log.example/report")
    ]
    policy = notes.parse_policy("# noted on day one\n" + notes.make_policy(*keys, certificate_sha256="ab" * 32))
    assert [str(key) for key in (*policy.logs, *policy.receipts, *policy.reports)] == keys
    assert policy.fingerprints == ["ab" * 32]
    assert policy.quorum == "none"


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "quorum none\nquorum none",
        "quorum g\ngroup g any w0",
        "group g 0 w0\nquorum g",
        "group g 3 w0 w1\nquorum g",
        "group g any\nquorum g",
        "group g any w0 w0\nquorum g",
        "group g any w0\ngroup h any w0\nquorum g",
        "group g any none\nquorum g",
        f"log {notes.vkey_of(LOG)}\nquorum none",
        f"log {notes.vkey_of(WITNESSES[0])}\nquorum none",
        f"receipt {notes.vkey_of(OTHER)} extra\nquorum none",
        f"report {notes.vkey_of(OTHER)} sha256:short\nquorum none",
        "trust everyone\nquorum none",
        "quorum none\r",
    ],
    # The lines hold new keys each time; their names must not, or parallel runs would not agree on what there is.
    ids=map(str, itertools.count()),
)
def test_a_policy_with_a_doubtful_line_is_refused(rule: str) -> None:
    with pytest.raises(NoteInvalid):
        policy_of(rule)


RECEIPT = notes.Receipt(
    "log.example/orders",
    "2026-11-21T01:49:33.000000Z",
    (notes.Promise(7, ROOT, b"k" * 16), notes.Promise(8, merkle.leaf_hash(b"8"), b"l" * 16)),
)


def test_a_receipt_says_which_records_were_promised_which_places() -> None:
    key = notes.generate_key("log.example/receipt")
    note = notes.sign_receipt(RECEIPT, key)
    assert notes.verify_receipt(note, [notes.vkey_of(key)]) == RECEIPT
    with pytest.raises(NoteInvalid):
        notes.verify_receipt(note, [notes.vkey_of(LOG)])


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        "touchstone receipt v1\nlog\n2026-11-21T01:49:33.000000Z\n10\n",
        f"touchstone receipt v2\nlog\n2026-11-21T01:49:33.000000Z\n10\n7 {'a' * 64} {'b' * 32}\n",
        f"touchstone receipt v1\nlog\nyesterday\n10\n7 {'a' * 64} {'b' * 32}\n",
        f"touchstone receipt v1\nlog\n2026-11-21T01:49:33.000000Z\n10\n07 {'a' * 64} {'b' * 32}\n",
        f"touchstone receipt v1\nlog\n2026-11-21T01:49:33.000000Z\n10\n7 {'a' * 63} {'b' * 32}\n",
        f"touchstone receipt v1\nlog\n2026-11-21T01:49:33.000000Z\n10\n7 {'a' * 64} {'b' * 32}\n\n",
    ],
)
def test_a_signed_note_that_is_not_a_receipt_is_refused_as_one(text: str) -> None:
    with pytest.raises(NoteInvalid):
        notes.verify_receipt(notes.sign(text, LOG), [notes.vkey_of(LOG)])


def test_tlog_proofs_agree_with_the_vectors() -> None:
    cases = vectors.load("note/tlog_proof.json")
    for case in cases:
        if not case["accept"]:
            with pytest.raises(NoteInvalid):
                notes.parse_proof(case["text"])
            continue
        found = notes.parse_proof(case["text"])
        assert (found.index, found.checkpoint) == (case["index"], case["checkpoint"])
        assert [base64.b64encode(node).decode() for node in found.path] == case["hashes"]
        assert found.extra == (base64.b64decode(case["extra"]) if case["extra"] else None)
        assert notes.write_proof(found) == case["text"]
    assert {case["accept"] for case in cases} == {True, False}


@pytest.mark.parametrize("index", ["05", "+5", "9223372036854775808", " 5", "5 "])
def test_a_tlog_proof_names_its_index_in_one_way(index: str) -> None:
    with pytest.raises(NoteInvalid):
        notes.parse_proof(f"c2sp.org/tlog-proof@v1\nindex {index}\n\ncheckpoint\n")
