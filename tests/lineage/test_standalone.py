"""The verifier that is one file of Python: public vectors, the same answers as lineage.verify, and nothing else needed."""

from __future__ import annotations

import ast
import base64
import datetime as dt
import hashlib
import importlib.util
import io
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import cffi
import cryptography
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from django.core.management import call_command

from demo import authority as local
from lineage import notes, timestamps
from lineage.errors import TouchstoneError
from lineage.events import format_time
from lineage.verify import verify
from lineage.verify.__main__ import _notes
from tests import evidence, packs, vectors
from tests.packs import CASES, HOSTILE, Case

pytestmark = pytest.mark.slow

BASE = Path(__file__).resolve().parent.parent.parent
FILE = BASE / "lineage/verify/release/touchstone_verify.py"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("touchstone_verify", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


ALONE: Any = loaded()


def judged(case: Case) -> dict[str, Any]:
    """The single file's answer, in the form of --json."""
    try:
        policy = None if case.policy is None else ALONE.Policy(case.policy.encode())
        receipts = [] if case.receipts is None else ALONE.read_receipts(case.receipts.encode())
        return ALONE.verify(ALONE.Evidence(case.pack, policy, receipts, case.leaves))  # type: ignore[no-any-return]
    except ALONE.Unreadable as error:
        return {"exit": 3, "sentence": str(error), "checks": []}


def judged_by_ours(case: Case) -> dict[str, Any]:
    try:
        policy = None if case.policy is None else notes.parse_policy(case.policy)
        receipts = [] if case.receipts is None else _notes(case.receipts)
    except TouchstoneError:
        return {"exit": 3, "checks": []}
    leaves = None if case.leaves is None else io.BytesIO(case.leaves)
    return verify(case.pack, policy, receipts, leaves=leaves).as_dict()


def states(answer: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["state"] for each in answer["checks"]}


def agreed(ours: dict[str, Any], other: dict[str, Any]) -> None:
    """The same exit code and states; of an invalid pack a check that failed in both, since damage reaches further in one."""
    assert other["exit"] == ours["exit"], (ours, other)
    if ours["exit"] == 1:
        assert failed(ours) & failed(other), (ours, other)
    else:
        assert states(other) == states(ours)


def failed(answer: dict[str, Any]) -> set[str]:
    return {name for name, state in states(answer).items() if state == "fail"}


@pytest.mark.parametrize("name", CASES)
def test_both_verifiers_answer_alike_and_as_expected(name: str) -> None:
    code, make = CASES[name]
    case = make()
    answer, ours = judged(case), judged_by_ours(case)
    assert answer["exit"] == code, answer
    agreed(ours, answer)


def test_the_checks_have_the_numbers_and_names_of_the_page() -> None:
    ours, other = judged_by_ours(Case(packs.ranged())), judged(Case(packs.ranged()))
    assert [(each["number"], each["name"]) for each in other["checks"]] == [
        (each["number"], each["name"]) for each in ours["checks"]
    ]


def test_no_byte_and_no_bit_of_the_smallest_pack_can_be_changed() -> None:
    data = packs.smallest()
    assert judged(Case(data))["exit"] == 0
    assert [at for at, each in enumerate(packs.mutations(data)) if judged(Case(each))["exit"] in (0, 2)] == []


def test_no_mutation_of_a_pack_with_every_kind_of_member_is_confirmed() -> None:
    data = packs.small()
    assert judged(Case(data))["exit"] == 0
    spread = itertools.islice(packs.mutations(data), 0, None, 11)
    assert [at for at, each in enumerate(spread) if judged(Case(each))["exit"] in (0, 2)] == []


def test_a_bit_changed_under_a_manifest_that_fits_is_never_valid_and_both_verifiers_agree() -> None:
    for data in packs.inner_mutations(packs.small(), 7):
        answer = judged(Case(data))
        assert answer["exit"] != 0, answer
        agreed(judged_by_ours(Case(data)), answer)


def test_packs_rewritten_by_somebody_who_knows_the_format_are_judged_alike() -> None:
    exits = Counter[int]()
    for case in packs.rewritten(500, seed=1):
        answer = judged(case)
        agreed(judged_by_ours(case), answer)
        exits[answer["exit"]] += 1
    # Not all is refused: who made a pack and when, say, is said by nobody else.
    assert exits[1] > 300
    assert exits[0] > 0


def test_no_part_of_a_small_pack_is_confirmed() -> None:
    data = packs.small()
    assert {judged(Case(data[:end]))["exit"] for end in range(0, len(data), 17)} <= {1, 3}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_pack_made_to_harm_is_refused_in_words(name: str) -> None:
    answer = judged(Case(HOSTILE[name]()))
    assert answer["exit"] in (1, 3)
    said = [answer["sentence"], *(each["sentence"] for each in answer["checks"])]
    assert all(each.isprintable() and len(each) < 600 for each in said)


def test_markup_and_control_characters_never_reach_the_terminal() -> None:
    answer = judged(Case(packs.scripted()))
    assert answer["exit"] == 0
    assert all(each["sentence"].isprintable() for each in answer["checks"])


# ---- timestamps ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> local.Authority:
    if not local.openssl():
        pytest.skip("needs openssl")
    return local.Authority(tmp_path_factory.mktemp("tsa") / "one")


def stamped(clock: local.Authority, message: bytes) -> bytes:
    return clock.answer(timestamps.request(message).body)


def under(clock: local.Authority) -> str:
    return (
        f"{timestamps.parse_authority('clock', [clock.certificate.public_bytes(Encoding.DER)])}\n{evidence.POLICY_TEXT}"
    )


@pytest.mark.parametrize(
    ("code", "first", "second", "selected"),
    [
        (0, 0, 0, (0,)),
        (0, -9_000, 60, (0, 1)),
        (2, 0, 3_000, (0, 1)),
        (1, 0, -60, (0, 1)),
        (1, 60, 0, (0,)),
    ],
    ids=["covered", "one came later", "one came days later", "dated back", "dated forward"],
)
def test_stated_times_are_compared_with_those_of_the_records(
    clock: local.Authority, code: int, first: int, second: int, selected: tuple[int, ...]
) -> None:
    now = dt.datetime.now(dt.UTC)
    times = [format_time(now + dt.timedelta(minutes=minutes)) for minutes in (first, second)]
    case = Case(packs.received(*times, selected=selected, stamp=lambda text: stamped(clock, text)), under(clock))
    answer = judged(case)
    assert answer["exit"] == code, answer
    agreed(judged_by_ours(case), answer)
    named = next(each["sentence"] for each in answer["checks"] if each["name"] == "time")
    assert f"{now:%Y-%m-%dT}" in named


def test_tokens_that_do_not_fit_are_judged_alike(clock: local.Authority, tmp_path: Path) -> None:
    now = format_time(dt.datetime.now(dt.UTC))
    stranger = local.Authority(tmp_path / "stranger", name="Another")
    makers: list[tuple[int, Any, str]] = [
        (1, lambda text: stamped(clock, text + b"."), under(clock)),
        (1, lambda text: b"no token", under(clock)),
        (1, lambda text: stamped(clock, text)[:-1], under(clock)),
        (2, lambda text: stamped(stranger, text), under(clock)),
        (0, lambda text: stamped(stranger, text), evidence.POLICY_TEXT),
        (0, lambda text: b"no token", evidence.POLICY_TEXT),
    ]
    for code, stamp, policy in makers:
        case = Case(packs.received(now, now, selected=(0,), stamp=stamp), policy)
        assert judged(case)["exit"] == code
        agreed(judged_by_ours(case), judged(case))


def test_a_certificate_that_could_not_judge_a_token_refuses_the_policy(clock: local.Authority, tmp_path: Path) -> None:
    other = local.Authority(tmp_path / "other").certificate
    tls = local.certificate("not for stamping", clock.key, stamping=False)
    for chain in ([clock.certificate, other], [tls], [], [clock.certificate] * 9):
        line = " ".join(["tsa clock", *(base64.b64encode(each.public_bytes(Encoding.DER)).decode() for each in chain)])
        case = Case(packs.ranged(), f"{line}\n{evidence.POLICY_TEXT}")
        assert (judged(case)["exit"], judged_by_ours(case)["exit"]) == (3, 3), line[:200]
    for line in ("tsa clock MIIB", "tsa clock !", "tsa"):
        assert judged(Case(packs.ranged(), f"{line}\n{evidence.POLICY_TEXT}"))["exit"] == 3
    assert judged(Case(packs.ranged(), under(clock)))["exit"] == 2


def test_a_policy_that_names_an_authority_asks_for_a_timestamp(clock: local.Authority) -> None:
    case = Case(packs.ranged(), under(clock))
    assert states(judged(case))["time"] == "missing"
    agreed(judged_by_ours(case), judged(case))


# ---- public vectors -----------------------------------------------------------------------------------------------


def accepted(check: Any, *arguments: Any) -> bool:
    try:
        check(*arguments)
    except ALONE.Bad:
        return False
    return True


def unpacked(texts: list[str] | None) -> list[bytes]:
    return [base64.b64decode(each) for each in texts or []]


def test_every_public_inclusion_vector_is_judged_as_its_source_says() -> None:
    cases = vectors.load("merkle/inclusion.json")
    assert len(cases) == 98
    for case in cases:
        leaf, root = unpacked([case["leafHash"], case["root"]])
        arguments = (leaf, case["leafIdx"], case["treeSize"], unpacked(case["proof"]), root)
        assert accepted(ALONE.check_inclusion_proof, *arguments) is not case["wantErr"], case["file"]


def test_every_public_consistency_vector_is_judged_as_its_source_says_but_the_one_with_short_roots() -> None:
    cases = vectors.load("merkle/consistency.json")
    assert len(cases) == 98
    for case in cases:
        old, new = unpacked([case["root1"], case["root2"]])
        arguments = (case["size1"], old, case["size2"], new, unpacked(case["proof"]))
        wanted = not case["wantErr"] and "sizes-are-equal-one-and-proof-is-empty" not in case["file"]
        assert accepted(ALONE.check_consistency_proof, *arguments) is wanted, case["file"]


def test_every_public_signed_note_is_judged_as_its_source_says() -> None:
    for case in vectors.load("note/signed_note.json")["notes"]:
        keys = [ALONE.parse_key(each) for each in case["trusted_vkeys"]]
        try:
            found = [
                each.key.name for each in ALONE.verified(ALONE.split_note(base64.b64decode(case["note_b64"])), keys)
            ]
        except ALONE.Bad:
            found = []
        assert found == (case["verified_key_names"] if case["accept"] else []), case["name"]


def test_every_public_key_checkpoint_and_policy_is_judged_by_the_strict_rules() -> None:
    for case in [*vectors.load("note/signed_note.json")["vkeys"], *vectors.load("note/cosignature.json")["vkeys"]]:
        if "vkey" in case:
            assert accepted(ALONE.parse_key, case["vkey"]) is case["accept"], case
    root = base64.b64encode(b"r" * 32).decode()
    for case in vectors.load("note/checkpoint_body.json")["cases"]:
        body = (
            case["body"]
            .replace("YmFuYW5hcw==", root)
            .replace("dGhlIHZpZXcgZnJvbSB0aGUgdHJlZSB0b3BzIGlzIGdyZWF0IQ==", root)
        )
        wanted = case["accept"] and "trailing newlines" not in case["name"]
        assert accepted(ALONE.parse_checkpoint, body) is wanted, case["name"]
    for case in vectors.load("witness/policy.json"):
        try:
            read = bool(ALONE.Policy(case["policy"].encode()))
        except ALONE.Unreadable:
            read = False
        assert read is (case["accept"] and "c2sp" not in case), case["name"]


def test_a_published_cosignature_verifies_and_its_note_changed_does_not() -> None:
    case = vectors.load("note/cosignature.json")["cosigned_note"]
    data = vectors.path("tlog-tiles/full256/checkpoint").read_bytes()
    key = ALONE.parse_key(case["cosigner_vkey"])
    assert [each.at for each in ALONE.verified(ALONE.split_note(data), [key])] == [1767139200]
    assert not accepted(ALONE.verified, ALONE.split_note(data.replace(b"\n300\n", b"\n301\n")), [key])


# ---- the file by itself ---------------------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path) -> Any:
    """Runs the file isolated: no site-packages but cryptography and what it needs, no environment, an empty folder."""
    packages = tmp_path / "packages"
    packages.mkdir()
    site = Path(cryptography.__file__).parent.parent
    for name in ("cryptography", "cffi", "pycparser"):
        if (site / name).exists():
            (packages / name).symlink_to(site / name)
    for path in Path(cffi.__file__).parent.parent.glob("_cffi_backend*"):
        (packages / path.name).symlink_to(path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "touchstone_verify.py").write_bytes(FILE.read_bytes())
    start = (
        f"import sys, runpy; sys.path.append({str(packages)!r}); sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        given = [sys.executable, "-I", "-S", "-W", "error", "-c", start, tmp_path / "touchstone_verify.py", *arguments]
        return subprocess.run(
            list(map(str, given)), cwd=tmp_path / "empty", env={}, capture_output=True, text=True, check=False
        )

    return run


def test_it_runs_with_python_and_cryptography_alone(command: Any, tmp_path: Path) -> None:
    pack, policy, receipts = (tmp_path / name for name in ("pack", "policy", "receipts"))
    pack.write_bytes(packs.ranged())
    policy.write_text(evidence.POLICY_TEXT)
    receipts.write_bytes(evidence.receipt((5, evidence.HASHES[5])))
    done = command(pack, "--policy", policy, "--receipts", receipts)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split(".")[0].strip() for line in lines[:-1]] == [str(number) for number in range(1, 15)]
    assert lines[-1] == "Valid: every check holds, under the keys of your policy."
    assert os.listdir(tmp_path / "empty") == []
    done = command(pack, "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["exit"]) == (2, 2)
    assert set(answer) == {"exit", "sentence", "checks"}
    assert set(answer["checks"][0]) == {"number", "name", "state", "sentence"}


def test_it_ends_with_3_and_without_a_traceback_for_whatever_it_cannot_read(command: Any, tmp_path: Path) -> None:
    odd, pack = tmp_path / "odd", tmp_path / "pack"
    odd.write_bytes(b"\xff\xfe")
    pack.write_bytes(packs.ranged())
    for arguments in (
        [tmp_path / "absent"],
        [odd],
        [pack, "--policy", odd],
        [pack, "--policy", pack],
        [pack, "--receipts", odd],
        [pack, "--unknown"],
        [],
    ):
        done = command(*arguments)
        assert (done.returncode, "Traceback" in done.stderr) == (3, False), arguments


def test_without_cryptography_it_says_what_is_missing_and_judges_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", FILE, tmp_path], cwd=tmp_path, env={}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "cryptography" in done.stderr


def test_a_folder_of_receipts_is_read_whole(tmp_path: Path) -> None:
    for number in (5, 6):
        (tmp_path / str(number)).write_bytes(evidence.receipt((number, evidence.HASHES[number])))
    assert len(ALONE.receipts_at(str(tmp_path))) == 2


def test_it_imports_nothing_of_ours_and_no_way_out() -> None:
    tree = ast.parse(FILE.read_text())
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    outside = {name for name in named if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name.split(".")[0] for name in outside} == {"cryptography", "rfc3161_client"}
    assert not {name.split(".")[0] for name in named} & {"socket", "urllib", "http", "subprocess", "ssl", "ctypes"}
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not calls & {"eval", "exec", "compile", "__import__", "os.system"}


def test_its_grammar_is_that_of_python_3_9() -> None:
    ast.parse(FILE.read_text(), feature_version=(3, 9))


def test_the_events_that_it_knows_are_those_of_the_model() -> None:
    from lineage.events import GROUP_FIELDS, GROUPS, model

    assert ALONE.GROUPS == GROUPS
    assert {group: tuple(fields.split()) for group, fields in ALONE.FIELDS.items()} == GROUP_FIELDS
    for fields in GROUP_FIELDS.values():
        assert " ".join(fields) in FILE.with_name("verify.html").read_text().replace('" +\n    "', "")
    assert set(get_args(model.Kind)) == ALONE.KINDS
    assert set(get_args(model.Class)) == ALONE.CLASSES


def test_the_command_hands_out_both_files_with_their_hashes(tmp_path: Path) -> None:
    told = io.StringIO()
    call_command("verifier", out=tmp_path / "new", stdout=told)
    sums = dict(line.split("  ")[::-1] for line in (tmp_path / "new/SHA256SUMS").read_text().splitlines())
    assert told.getvalue() == (tmp_path / "new/SHA256SUMS").read_text()
    assert (
        set(sums) == {"touchstone_verify.py", "verify.html"} == {p.name for p in FILE.parent.iterdir() if p.is_file()}
    )
    for name, said in sums.items():
        data = (tmp_path / "new" / name).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), data) == (said, (FILE.parent / name).read_bytes())
