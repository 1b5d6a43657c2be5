"""The log as tiles: addresses, bytes, and who may read them."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from lineage import access, errors, keeper, ledger, merkle, notes, queries, segments, tiles
from lineage.events import Event
from lineage.models import ApiToken, Role, Source, User
from tests import vectors

pytestmark = pytest.mark.slow

SIZE = 600


@pytest.fixture
def log(store: str) -> None:
    """A log of 600 records, most of them sealed, under one checkpoint."""
    source = Source.objects.create(name="shop", format="events", environment="prod")
    entries = []
    for number in range(SIZE):
        event_id = ledger.event_id()
        event = Event(
            kind="query",
            class_="read",
            event_id=event_id,
            received_at="2026-11-21T01:00:00.000000Z",
            source_id="shop",
            source_event_id=str(number),
            environment="prod",
            purpose="support",
        )
        entries.append(ledger.entry_of(event, ledger.dedupe_key(source.pk, str(number), None), bytes(32)))
    ledger.append(source.pk, entries[:500])
    with keeper.lock():
        keeper.checkpoints.checkpoint()
        segments.seal()
    ledger.append(source.pk, entries[500:])
    keeper.once()


def client(role: str, **scope: Any) -> Client:
    user = User.objects.create(email=f"{role}{len(scope)}@example.test", role=role, **scope)
    ApiToken.objects.create(user=user, token_hash=access.token_hash(f"tsu_{user.pk}"))
    return Client(headers={"authorization": f"Bearer tsu_{user.pk}"})


def hashes_of(body: bytes) -> list[bytes]:
    return [body[at : at + 32] for at in range(0, len(body), 32)]


def last_reads(count: int) -> list[dict[str, Any]]:
    viewer = access.Viewer(email="test", role=Role.ADMIN)
    return queries.events(viewer, "kind:decision source:touchstone", limit=count).items


def test_addresses_are_those_of_the_specification() -> None:
    published = vectors.load("tlog-tiles/paths_and_partials.json")
    for index, path in published["index_to_path"]:
        assert tiles.path(tiles.Tile(0, index)) == f"0/{path}"
        assert tiles.parse(f"0/{path}") == tiles.Tile(0, index)
    size, stated = 70_000, published["tree_size_70000"]
    assert (size // 256, size % 256) == (stated["full_level0"], stated["partial_level0_width"])
    assert tiles.parse(f"0/273.p/{stated['partial_level0_width']}") == tiles.Tile(0, 273, 112)


@given(st.builds(tiles.Tile, st.integers(-1, 5), st.integers(0, 10**12), st.integers(1, 256)))
def test_an_address_leads_back_to_its_tile(tile: tiles.Tile) -> None:
    assert tiles.parse(tiles.path(tile)) == tile


@pytest.mark.parametrize(
    "text",
    ["", "0", "0/0", "0/1000", "0/x000/001", "0/001.p/0", "0/001.p/256", "0/001.p/01", "0/001.p", "6/000", "-1/000",
     "entries", "0/../000", "0/001\n", "00/000", "0/٠٠٠", "0/x001/x23/067", "entries/000.p/257"],
)  # fmt: skip
def test_another_spelling_is_no_address(text: str) -> None:
    with pytest.raises(errors.NotFound):
        tiles.parse(text)


def test_a_published_log_has_the_files_that_we_would_serve_under_its_addresses() -> None:
    small, full = vectors.path("tlog-tiles/small15"), vectors.path("tlog-tiles/full256")
    for width in range(1, 16):
        assert (small / "tile" / tiles.path(tiles.Tile(0, 0, width))).stat().st_size == 32 * width
        assert (small / "tile" / tiles.path(tiles.Tile(tiles.ENTRIES, 0, width))).exists()
    for tile in (tiles.Tile(0, 0), tiles.Tile(0, 1, 44), tiles.Tile(1, 0, 1)):
        assert (full / "tile" / tiles.path(tile)).stat().st_size == 32 * tile.width


def test_the_tiles_lead_to_the_checkpoint_s_root_and_the_records_to_the_tiles(log: None) -> None:
    reader = client("auditor")
    note = notes.read_note(reader.get("/checkpoint").content)
    point = notes.parse_checkpoint(note.text)
    assert point.size >= SIZE
    leaves: list[bytes] = []
    for number in range(point.size // 256 + 1):
        width = min(256, point.size - 256 * number)
        suffix = f"{number:03d}" if width == 256 else f"{number:03d}.p/{width}"
        answer = reader.get(f"/tile/0/{suffix}")
        assert answer["Content-Type"] == "application/octet-stream"
        found = hashes_of(answer.content)
        assert len(found) == width
        leaves += found
        bundle, at, records = reader.get(f"/tile/entries/{suffix}").content, 0, []
        while at < len(bundle):
            length = int.from_bytes(bundle[at : at + 2], "big")
            records.append(bundle[at + 2 : at + 2 + length])
            at += 2 + length
        assert [merkle.leaf_hash(record) for record in records] == found
    assert merkle.root(leaves) == point.root
    level_1 = hashes_of(reader.get("/tile/1/000.p/2").content)
    assert level_1 == [merkle.root(leaves[:256]), merkle.root(leaves[256:512])]


@pytest.mark.parametrize("path", ["0/003", "0/002.p/200", "1/000", "1/000.p/3", "2/000.p/1", "entries/003"])
def test_what_no_checkpoint_covers_is_not_found(log: None, path: str) -> None:
    answer = client("auditor").get(f"/tile/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_a_witness_reads_hashes_and_proofs_but_no_record_and_the_refusal_is_recorded(log: None) -> None:
    witness = client("witness")
    paths = ("/checkpoint", "/tile/0/000", "/api/v1/proof/inclusion?index=3", "/api/v1/proof/consistency?from=1&to=500")
    assert [witness.get(path).status_code for path in paths] == [200] * 4
    for path in ("/api/v1/events", "/tile/entries/000", "/reports/", "/"):
        assert witness.get(path).status_code == 403, path
    refusals = last_reads(4)
    assert {row["who_id"] for row in refusals} == {"witness0@example.test"}
    viewer = access.Viewer(email="witness0@example.test", role=Role.WITNESS)
    assert queries.events(viewer).items == []


def test_a_viewer_of_one_database_reads_hashes_but_no_bundle_and_the_refusal_is_recorded(log: None) -> None:
    narrow = client("auditor", datasources=["orders"])
    assert narrow.get("/tile/0/000").status_code == 200
    answer = narrow.get("/tile/entries/000")
    assert (answer.status_code, answer.json()["code"]) == (403, "access-denied")
    (refusal,) = last_reads(1)
    assert "403 access-denied" in str(refusal["decision"])


def test_the_log_is_closed_to_strangers_until_it_is_made_public(log: None, settings: Any) -> None:
    stranger = Client()
    paths = ("/checkpoint", "/tile/0/000", "/api/v1/proof/inclusion?index=3")
    assert [stranger.get(path).status_code for path in paths] == [401] * 3
    settings.PUBLIC_LOG = True
    assert [stranger.get(path).status_code for path in paths] == [200] * 3
    assert stranger.get("/tile/entries/000").status_code == 401


def test_a_proof_from_the_api_verifies_under_the_checkpoint(log: None) -> None:
    reader = client("auditor")
    point = notes.parse_checkpoint(notes.read_note(reader.get("/checkpoint").content).text)
    for index in (0, 255, 256, 511, point.size - 1):
        answer = reader.get(f"/api/v1/proof/inclusion?index={index}&size={point.size}").json()
        proof = [base64.b64decode(each) for each in answer["proof"]]
        merkle.verify_inclusion(base64.b64decode(answer["leaf_hash"]), index, point.size, proof, point.root)
