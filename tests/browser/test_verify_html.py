"""verify.html opened from disk: public vectors, the same answers as lineage.verify, and what its reader sees."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from demo import authority as local
from lineage.events import format_time
from tests import evidence, packs, vectors
from tests.lineage.test_standalone import agreed, judged_by_ours, stamped, under
from tests.packs import CASES, HOSTILE, Case
from tests.serving import ARGUMENTS, CHROMIUM

pytestmark = pytest.mark.slow

FILE = Path(__file__).resolve().parent.parent.parent / "lineage/verify/release/verify.html"

JUDGE = """async (cases) => {
  const unpack = (text) => text === null ? null : Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const answers = [];
  for (const each of cases) {
    const { exit, sentence, checks } = await verify(Object.fromEntries(Object.entries(each).map(([k, v]) => [k, unpack(v)])));
    answers.push({ exit, sentence, checks });
  }
  return answers;
}"""
TRY = """async ([name, cases]) => {
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const all = {
    inclusion: (c) => checkInclusion(bytes(c.leaf), c.index, c.size, c.proof.map(bytes), bytes(c.root)),
    consistency: (c) => checkConsistency(c.old, bytes(c.oldRoot), c.size, bytes(c.root), c.proof.map(bytes)),
    key: (c) => parseKey(c),
    checkpoint: (c) => parseCheckpoint(c),
    policy: (c) => parsePolicy(utf8(c)),
    note: async (c) => (await verified(splitNote(bytes(c.note)), c.keys.map(parseKey))).map((each) => each.key.name),
    signature: async (c) => need(await ed25519(unhex(c.key), unhex(c.message), unhex(c.signature)), "wrong"),
    hash: (c) => hex(sha256(bytes(c))),
  };
  const results = [];
  for (const each of cases) {
    try { results.push((await all[name](each)) ?? true); } catch (error) {
      if (!(error instanceof Bad || error instanceof Unreadable)) throw error;
      results.push(false);
    }
  }
  return results;
}"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """The page opened from disk in a browser without network; anything that it asks for, or complains of, is a failure."""
    if not Path(CHROMIUM).exists():
        pytest.skip("needs Debian's chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        opened = running.new_context(offline=True, viewport={"width": 1280, "height": 900}).new_page()
        asked: list[str] = []
        opened.on("request", lambda request: asked.append(request.url))
        opened.on("console", lambda message: asked.append(message.text))
        opened.on("pageerror", lambda error: asked.append(str(error)))
        opened.on("dialog", lambda dialog: asked.append(dialog.message))
        opened.goto(FILE.as_uri())
        yield opened
        running.close()
        assert set(asked) == {FILE.as_uri()}


def packed(data: bytes | str | None) -> str | None:
    return None if data is None else base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def judged(page: Page, *cases: Case) -> list[dict[str, Any]]:
    given = [{name: packed(value) for name, value in vars(case).items()} for case in cases]
    return page.evaluate(JUDGE, given)  # type: ignore[no-any-return]


def test_the_page_answers_as_the_other_verifiers_do(page: Page) -> None:
    cases = {name: (code, make()) for name, (code, make) in CASES.items()}
    answers = judged(page, *(case for _, case in cases.values()))
    for (name, (code, case)), answer in zip(cases.items(), answers, strict=True):
        assert answer["exit"] == code, (name, answer)
        agreed(judged_by_ours(case), answer)


def test_no_mutation_of_a_small_pack_is_confirmed(page: Page) -> None:
    smallest, small = packs.smallest(), packs.small()
    spread = [
        *itertools.islice(packs.mutations(smallest), 0, None, 17),
        *itertools.islice(packs.mutations(small), 5, None, 97),
    ]
    assert len(spread) >= 300
    answers = judged(page, *map(Case, [smallest, small, *spread]))
    assert [answer["exit"] for answer in answers[:2]] == [0, 0]
    for data, answer in zip(spread, answers[2:], strict=True):
        assert answer["exit"] in (1, 3)
        assert judged_by_ours(Case(data))["exit"] in (1, 3)


def test_a_bit_changed_under_a_manifest_that_fits_is_never_valid(page: Page) -> None:
    cases = list(map(Case, packs.inner_mutations(packs.small(), 13)))
    for case, answer in zip(cases, judged(page, *cases), strict=True):
        assert answer["exit"] != 0, answer
        agreed(judged_by_ours(case), answer)


def test_packs_rewritten_by_somebody_who_knows_the_format_are_judged_alike(page: Page) -> None:
    cases = list(packs.rewritten(300, seed=2))
    for case, answer in zip(cases, judged(page, *cases), strict=True):
        agreed(judged_by_ours(case), answer)


def test_packs_made_to_harm_are_refused_in_words(page: Page) -> None:
    for name, make in HOSTILE.items():
        (answer,) = judged(page, Case(make()))
        assert answer["exit"] in (1, 3), name
        said = [answer["sentence"], *(each["sentence"] for each in answer["checks"])]
        assert all(each.isprintable() and len(each) < 600 for each in said), name


def test_the_page_says_what_a_timestamp_states_and_that_it_did_not_check_it(page: Page, tmp_path: Path) -> None:
    if not local.openssl():
        pytest.skip("needs openssl")
    clock, now = local.Authority(tmp_path / "tsa"), dt.datetime.now(dt.UTC)
    pack = packs.received(format_time(now), format_time(now), selected=(0,), stamp=lambda text: stamped(clock, text))
    asked, not_asked = judged(page, Case(pack, under(clock)), Case(pack))
    assert (asked["exit"], not_asked["exit"]) == (2, 0)
    for answer in (asked, not_asked):
        said = answer["checks"][12]["sentence"]
        assert re.search(rf"{now:%Y-%m-%d}T..:..:..Z for the first 1 records.*does not check", said)


def test_every_public_vector_of_trees_is_judged_as_its_source_says(page: Page) -> None:
    cases = vectors.load("merkle/inclusion.json")
    given = [
        {
            "leaf": c["leafHash"],
            "index": c["leafIdx"],
            "size": c["treeSize"],
            "root": c["root"],
            "proof": c["proof"] or [],
        }
        for c in cases
    ]
    # The protocol to the browser has no whole numbers beyond 2^53; all such indexes are outside every tree.
    found = page.evaluate(TRY, ["inclusion", [{**c, "index": min(c["index"], 2**53 - 1)} for c in given]])
    assert [not each for each in found] == [case["wantErr"] for case in cases]
    cases = [
        c for c in vectors.load("merkle/consistency.json") if "sizes-are-equal-one-and-proof-is-empty" not in c["file"]
    ]
    assert len(cases) == 97
    given = [
        {"old": c["size1"], "oldRoot": c["root1"], "size": c["size2"], "root": c["root2"], "proof": c["proof"] or []}
        for c in cases
    ]
    assert [not each for each in page.evaluate(TRY, ["consistency", given])] == [case["wantErr"] for case in cases]


def test_every_public_signature_vector_is_judged_as_its_source_says(page: Page) -> None:
    groups = vectors.load("ed25519/wycheproof_ed25519_test.json")["testGroups"]
    cases = [(group["publicKey"]["pk"], case) for group in groups for case in group["tests"]]
    assert len(cases) == 151
    given = [{"key": key, "message": case["msg"], "signature": case["sig"]} for key, case in cases]
    assert page.evaluate(TRY, ["signature", given]) == [case["result"] == "valid" for _, case in cases]


def test_every_public_note_key_checkpoint_and_policy_is_judged_by_the_strict_rules(page: Page) -> None:
    notes = vectors.load("note/signed_note.json")["notes"]
    given = [{"note": case["note_b64"], "keys": case["trusted_vkeys"]} for case in notes]
    found = [each or [] for each in page.evaluate(TRY, ["note", given])]
    assert found == [case["verified_key_names"] if case["accept"] else [] for case in notes]
    listed = [*vectors.load("note/signed_note.json")["vkeys"], *vectors.load("note/cosignature.json")["vkeys"]]
    keys = [case for case in listed if "vkey" in case]
    found = page.evaluate(TRY, ["key", [case["vkey"] for case in keys]])
    assert [bool(each) for each in found] == [case["accept"] for case in keys]
    root = base64.b64encode(b"r" * 32).decode()
    bodies = vectors.load("note/checkpoint_body.json")["cases"]
    long = [
        re.sub("YmFuYW5hcw==|dGhlIHZpZXcgZnJvbSB0aGUgdHJlZSB0b3BzIGlzIGdyZWF0IQ==", root, c["body"]) for c in bodies
    ]
    wanted = [case["accept"] and "trailing newlines" not in case["name"] for case in bodies]
    assert [bool(each) for each in page.evaluate(TRY, ["checkpoint", long])] == wanted
    policies = vectors.load("witness/policy.json")
    found = page.evaluate(TRY, ["policy", [case["policy"] for case in policies]])
    assert [bool(each) for each in found] == [case["accept"] and "c2sp" not in case for case in policies]
    case = vectors.load("note/cosignature.json")["cosigned_note"]
    data = vectors.path("tlog-tiles/full256/checkpoint").read_bytes()
    given = [
        {"note": packed(each), "keys": [case["cosigner_vkey"]]} for each in (data, data.replace(b"\n300\n", b"\n301\n"))
    ]
    assert page.evaluate(TRY, ["note", given]) == [["mirror.example.org"], False]


def test_its_sha_256_is_sha_256_at_every_length_around_the_blocks(page: Page) -> None:
    texts = [bytes(at % 251 for at in range(length)) for length in [*range(200), 1_000, 65_535, 1_000_003]]
    found = page.evaluate(TRY, ["hash", [packed(each) for each in texts]])
    assert found == [hashlib.sha256(each).hexdigest() for each in texts]


def test_the_page_may_load_and_send_nothing() -> None:
    text = FILE.read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None

    def named(tag: str) -> str:
        (inline,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"

    assert policy[1] == (
        f"default-src 'none'; script-src {named('script')}; style-src {named('style')}; base-uri 'none'; form-action 'none'"
    )
    assert not re.findall(
        r"(?:src|href)=|https?://|\bimport\b\s*[({\"']|innerHTML|insertAdjacentHTML|\beval\b|Function\(", text
    )


# ---- what its reader sees -------------------------------------------------------------------------------------------


@pytest.fixture
def reader(page: Page) -> Page:
    page.reload()
    return page


def give(page: Page, pack: bytes, policy: str | None = evidence.POLICY_TEXT) -> str:
    """Chooses the files; the verdict's text once it stands."""
    if policy is not None:
        page.get_by_label("Your policy").set_input_files(
            {"name": "policy.txt", "mimeType": "", "buffer": policy.encode()}
        )
    page.get_by_label("Evidence pack").set_input_files({"name": "e.zip", "mimeType": "", "buffer": pack})
    page.locator("#verdict strong", has_text=re.compile("^[✓✕△]")).wait_for(timeout=60_000)
    return re.sub("\n+", "\n", page.get_by_role("status").inner_text())


def test_a_reader_sees_the_verdict_in_words_the_numbered_checks_and_the_records(reader: Page) -> None:
    assert "Nothing checked yet" in reader.get_by_role("status").inner_text()
    assert give(reader, packs.ranged()).startswith("✓ Valid\nValid: every check holds")
    assert reader.locator("#checks li").count() == 14
    assert reader.locator("#records tr").count() == 4
    assert "bob" in reader.locator("#records tr").first.inner_text()
    reader.locator("#records summary").first.click()
    reader.locator("#records details").first.get_by_text('"amount"').wait_for()
    assert reader.title().startswith("Valid")


def test_a_reader_of_an_invalid_pack_is_told_first_which_check_failed(reader: Page) -> None:
    said = give(reader, packs.changed("leaves.ndjson", b"orders-log", b"orders-lag"))
    assert said.startswith("✕ Invalid\nCheck 5, inclusion, failed: The leaves of the range do not lead")
    assert "is not evidence" in reader.locator("#records-note").inner_text()


def test_a_reader_without_a_policy_or_a_pack_is_told_what_is_missing(reader: Page) -> None:
    assert give(reader, packs.ranged(), None).startswith(
        "△ Trust is missing\nCheck 9, signature, lacks something: No policy"
    )
    assert give(reader, b"hello").startswith("✕ Unreadable\nUnreadable: The file is not an evidence pack")
    assert reader.locator("#result").is_hidden()


def test_files_may_be_dropped_together_and_are_told_apart_by_what_they_hold(reader: Page) -> None:
    given = {
        "a": packs.ranged(),
        "b": evidence.POLICY_TEXT.encode(),
        "c": evidence.receipt((5, evidence.HASHES[5])),
    }
    reader.evaluate(
        """(files) => {
          const moved = new DataTransfer();
          const bytes = (data) => Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
          for (const [name, data] of Object.entries(files)) moved.items.add(new File([bytes(data)], name));
          document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: moved, bubbles: true, cancelable: true }));
        }""",
        {name: packed(data) for name, data in given.items()},
    )
    reader.locator("#verdict strong", has_text="✓ Valid").wait_for(timeout=60_000)
    assert "Promises: 1 kept." in reader.locator("#checks").inner_text()


def test_markup_in_a_pack_stays_text(reader: Page) -> None:
    assert give(reader, packs.scripted()).startswith("✓ Valid")
    reader.locator("#records summary").first.click()
    reader.locator("#records pre").first.wait_for()
    assert reader.evaluate("document.querySelectorAll('main script, main img').length") == 0
    shown = reader.locator("main").inner_text()
    assert "<script>" in shown
    assert not re.search("[\u202e\x1b]", shown)
    assert reader.title() == "Valid · Check Touchstone evidence"


def test_the_page_is_worked_by_keys_alone_and_fits_a_narrow_window(reader: Page) -> None:
    give(reader, packs.ranged())
    reader.set_viewport_size({"width": 390, "height": 800})
    assert reader.evaluate("document.documentElement.scrollWidth") <= 390
    reader.locator("#pack").focus()
    stops = []
    for _ in range(9):
        reader.keyboard.press("Tab")
        stops.append(reader.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert stops[:3] == ["policy", "receipts", "leaves"]
    assert "SUMMARY" in stops
    reader.locator("#records summary").first.focus()
    reader.keyboard.press("Enter")
    reader.locator("#records details[open] pre").first.wait_for()
    reader.set_viewport_size({"width": 1280, "height": 900})
