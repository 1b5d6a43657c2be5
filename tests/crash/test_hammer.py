"""Writers, readers and nonsense at once: each acknowledged record is proved against a common checkpoint."""

from __future__ import annotations

import base64
import queue
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from lineage import merkle, notes
from tests.crash.running import Product, native, wait_for

pytestmark = pytest.mark.slow
WRITERS, READERS = 3, 3
BATCHES_OF_EACH = 12
BATCH_MOST = 8
BAD_IN_TEN = 3
"""Of ten requests of a writer, how many are bad ones."""
SECONDS_AT_MOST = 180


class Hammer:
    """What all threads share: the promises that wait to be checked, and the newest checkpoint, verified."""

    def __init__(self, product: Product, source: str, auditor: str) -> None:
        self.product, self.source, self.auditor = product, source, auditor
        policy = notes.parse_policy(product.manage("policy"))
        self.logs, self.receipts = policy.logs, policy.receipts
        self.promised: queue.Queue[tuple[int, bytes]] = queue.Queue()
        self.acknowledged: list[str] = []
        self.proved: list[int] = []
        self.refused: Counter[str] = Counter()
        self.checkpoint: notes.Checkpoint | None = None
        self.until = time.monotonic() + SECONDS_AT_MOST
        self.writing = WRITERS

    def get(self, path: str, **asked: int) -> tuple[int, Any]:
        query = "&".join(f"{name}={value}" for name, value in asked.items())
        return self.product.request("GET", f"{path}?{query}".rstrip("?"), self.auditor)

    def write(self, number: int) -> None:
        """Sends its batches, each until it is answered; between them what must be refused."""
        try:
            for batch in range(BATCHES_OF_EACH):
                while random.randrange(10) < BAD_IN_TEN:
                    random.choice(VANDALISM)(self)
                ids = [f"hammer-{number}-{batch}-{one}" for one in range(random.randint(1, BATCH_MOST))]
                answer = self.send(msgspec.json.encode([native(one) for one in ids]))
                receipt = notes.verify_receipt(answer["receipt"], self.receipts)
                assert [each.index for each in receipt.promises] == [item["index"] for item in answer["items"]]
                for each in receipt.promises:
                    self.promised.put((each.index, each.leaf_hash))
                self.acknowledged += ids
        finally:
            self.writing -= 1

    def send(self, body: bytes) -> dict[str, Any]:
        status, answer = self.product.request("POST", "/api/v1/ingest/events", self.source, body)
        assert status == 200, answer
        assert answer["accepted"] == len(answer["items"]), answer
        return dict(answer)

    def follow(self) -> None:
        """Takes each newer checkpoint, once it is signed by the log and continues the one before."""
        while self.unfinished():
            status, raw = self.get("/checkpoint")
            assert status in (200, 404), raw
            if status == 200:
                newer = notes.parse_checkpoint(notes.verify(raw, self.logs).text)
                if self.checkpoint is not None:
                    self.check_continues(self.checkpoint, newer)
                self.checkpoint = newer
            time.sleep(0.1)

    def check_continues(self, older: notes.Checkpoint, newer: notes.Checkpoint) -> None:
        status, answer = self.get("/api/v1/proof/consistency", **{"from": older.size, "to": newer.size})
        assert status == 200, answer
        merkle.verify_consistency(older.size, older.root, newer.size, newer.root, decoded(answer["proof"]))

    def read(self, _: int) -> None:
        """Takes promises and asks for their proofs under the common checkpoint."""
        while self.unfinished():
            try:
                index, leaf_hash = self.promised.get(timeout=0.1)
            except queue.Empty:
                continue
            wait_for(lambda index=index: self.covers(index), 60, f"a checkpoint over {index}")
            under = self.checkpoint
            assert under is not None
            status, answer = self.get("/api/v1/proof/inclusion", index=index, size=under.size)
            assert status == 200, answer
            assert answer["leaf_hash"] == base64.b64encode(leaf_hash).decode()
            merkle.verify_inclusion(leaf_hash, index, under.size, decoded(answer["proof"]), under.root)
            self.proved.append(index)

    def covers(self, index: int) -> bool:
        return self.checkpoint is not None and self.checkpoint.size > index

    def unfinished(self) -> bool:
        assert time.monotonic() < self.until, "not done in time"
        return self.writing > 0 or len(self.proved) < len(self.acknowledged)

    def refuse(self, what: str, status: int, code: str, got: tuple[int, Any]) -> None:
        assert (got[0], got[1]["code"]) == (status, code), f"{what}: {got}"
        self.refused[what] += 1


def decoded(proof: list[str]) -> list[bytes]:
    return [base64.b64decode(each) for each in proof]


def _size(hammer: Hammer) -> int:
    return hammer.checkpoint.size if hammer.checkpoint else 1


def _index_far_away(hammer: Hammer) -> None:
    got = hammer.get("/api/v1/proof/inclusion", index=_size(hammer) + 1_000_000_000)
    hammer.refuse("index far away", 400, "query-invalid", got)


def _index_below_zero(hammer: Hammer) -> None:
    hammer.refuse("index -1", 400, "query-invalid", hammer.get("/api/v1/proof/inclusion", index=-1))


def _index_at_the_end(hammer: Hammer) -> None:
    size = _size(hammer)
    got = hammer.get("/api/v1/proof/inclusion", index=size, size=size)
    hammer.refuse("index is the size", 400, "query-invalid", got)


def _from_nothing(hammer: Hammer) -> None:
    got = hammer.get("/api/v1/proof/consistency", **{"from": 0, "to": _size(hammer)})
    hammer.refuse("from size 0", 400, "query-invalid", got)


def _backwards(hammer: Hammer) -> None:
    got = hammer.get("/api/v1/proof/consistency", **{"from": _size(hammer) + 1, "to": _size(hammer)})
    hammer.refuse("backwards", 400, "query-invalid", got)


def _wrong_token(hammer: Hammer) -> None:
    body = msgspec.json.encode([native("hammer-intruder")])
    got = hammer.product.request("POST", "/api/v1/ingest/events", "x" * 43, body)
    hammer.refuse("wrong token", 401, "token-invalid", got)


def _no_json(hammer: Hammer) -> None:
    got = hammer.product.request("POST", "/api/v1/ingest/events", hammer.source, b'[{"kind": "query"')
    hammer.refuse("no JSON", 400, "body-unreadable", got)


def _strict(hammer: Hammer) -> None:
    body = msgspec.json.encode([native("hammer-strict"), {"kind": "nothing known"}])
    got = hammer.product.request("POST", "/api/v1/ingest/events?strict=1", hammer.source, body)
    hammer.refuse("strict", 422, "batch-refused", got)


VANDALISM: list[Callable[[Hammer], None]] = [
    _index_far_away, _index_below_zero, _index_at_the_end, _from_nothing, _backwards, _wrong_token, _no_json, _strict,
]  # fmt: skip


def test_each_acknowledged_record_is_proved_under_a_common_checkpoint(product: Product, auditor: str) -> None:
    hammer = Hammer(product, product.add_source("hammer"), auditor)
    hammer.send(msgspec.json.encode([native("hammer-first")]))
    work = [*((hammer.write, n) for n in range(WRITERS)), *((hammer.read, n) for n in range(READERS))]
    with ThreadPoolExecutor(len(work) + 1) as pool:
        jobs = [pool.submit(hammer.follow), *(pool.submit(each, number) for each, number in work)]
        for job in jobs:
            job.result()
    assert len(hammer.proved) == len(set(hammer.proved)) == len(hammer.acknowledged)
    for each in VANDALISM:
        each(hammer)
    stored = Counter(row["correlation_id"] for row in product.rows("events", auditor, q="source:hammer"))
    assert stored == Counter(["hammer-first", *hammer.acknowledged])
    assert "All agrees" in product.manage("fsck")
