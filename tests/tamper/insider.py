"""The insider: database superuser, all files, old backups, and, where a test says so, the log's key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from django.conf import settings
from django.db import connection

from lineage import checkpoints, commitment, fsck, ingest, keys, merkle, notes, packs, receipts, segments, tree
from lineage.access import Viewer
from lineage.queries import Window
from lineage.verify import Verdict, verify
from tests import signing

ADMIN = Viewer(email="audit@outside.example", role="admin")
GROUPS = ("actor", "action", "statement", "change")
PLACE = "from ledger_batch b where b.slot = j.slot and b.batch = j.batch and b.first_index + j.ordinal = %s"


class Insider(signing.Log):
    """A log, and what its insider can do to it. `receipts` are what the source kept."""

    def __init__(self, server: Callable[..., dict[str, Any]]) -> None:
        super().__init__(server)
        self.source.asserts = ["actor"]
        self.source.save()
        self.receipts: list[str] = []

    def add(self, count: int = 3, **fields: Any) -> None:
        """Records as a source sends them, in one batch, and the receipt that it keeps."""
        items = []
        for _ in range(count):
            self.number += 1
            items.append({
                "kind": "query", "op": "read", "source_event_id": f"e{self.number}", "sequence": self.number,
                "occurred_at": "2026-11-21T04:00:00.000000Z", "verdict": "allowed",
                "resources": [{"schema": "public", "relation": "customers"}],
                "actor": {"id": f"person-{self.number}", "type": "human"},
                "statement": {"text": f"select {self.number}", "state": "whole"},
            } | fields)  # fmt: skip
        accepted = ingest.accept(self.source, json.dumps(items).encode())
        assert {item.status for item in accepted.items} == {"accepted"}
        self.receipts.append(receipts.sign(accepted.promises) or "")

    def sign(self, count: int = 3) -> int:
        """So many records more, under a checkpoint; the log's size."""
        self.add(count)
        return checkpoints.checkpoint()

    def act(self, sql: str, *values: Any) -> list[Any]:
        """One statement as superuser, past every trigger."""
        with psycopg.connect(
            **self.server("postgres", dbname=connection.settings_dict["NAME"]), autocommit=True
        ) as root:
            root.execute("set session_replication_role = replica")
            done = root.execute(sql.encode(), values)
            return done.fetchall() if done.description else []

    def held(self, index: int, group: str) -> tuple[bytes, bytes, bytes]:
        """(leaf, salt, value) as the journal holds them."""
        ((leaf, salt, value),) = self.act(
            f"select j.leaf, j.{group}_salt, j.{group} from ledger_journal j, ledger_batch b "
            "where b.slot = j.slot and b.batch = j.batch and b.first_index + j.ordinal = %s",
            index,
        )
        return leaf, salt, value

    def put(self, index: int, **columns: bytes | None) -> None:
        """Writes over columns of a journal row."""
        sets = ", ".join(f"{name} = %s" for name in columns)
        self.act(f"update ledger_journal j set {sets} {PLACE}", *columns.values(), index)

    def swap(self, one: int, other: int, *columns: str) -> None:
        """Exchanges columns of two journal rows."""
        names = ", ".join(f"j.{name}" for name in columns)
        asked = (
            f"select {names} from ledger_journal j, ledger_batch b "
            "where b.slot = j.slot and b.batch = j.batch and b.first_index + j.ordinal = %s"
        )
        (first,), (second,) = self.act(asked, one), self.act(asked, other)
        self.put(one, **dict(zip(columns, second, strict=True)))
        self.put(other, **dict(zip(columns, first, strict=True)))

    def rewrite(self, index: int, old: bytes, new: bytes, group: str = "statement") -> None:
        """Another value and the leaf that commits to it: the record agrees with itself."""
        leaf, salt, value = self.held(index, group)
        changed = value.replace(old, new)
        assert changed != value
        fitting = leaf.replace(commitment.digest(salt, value).encode(), commitment.digest(salt, changed).encode())
        assert fitting != leaf
        self.put(index, leaf=fitting, **{group: changed})

    def rehash(self) -> None:
        """Makes the file of leaf hashes, the upper hashes and the roots fit the records."""
        size = tree.published()[0]
        hashes = [merkle.leaf_hash(leaf) for _, leaf in segments.leaves(0, size)]
        self.hashes.write_bytes(b"".join(hashes))
        self.act("delete from ledger_tile")
        for level, tile, value in tree.tiles(0, size):
            self.act("insert into ledger_tile (level, tile, hash) values (%s, %s, %s)", level, tile, value)
        for at in self.notes():
            self.act("update ledger_checkpoint set root = %s where size = %s", merkle.root(hashes[:at]), at)

    def resign(self) -> None:
        """Signs every checkpoint anew with the stolen key, and makes the signer's state fit."""
        self.rehash()
        hashes = tree.hashes().read(0, tree.published()[0])
        for at in self.notes():
            text = notes.make_checkpoint(settings.ORIGIN, at, merkle.root(hashes[:at]))
            note = notes.sign(text, keys.path("checkpoint").read_text().strip()).decode()
            self.act("update ledger_checkpoint set note = %s where size = %s", note, at)
        made = merkle.CompactRange()
        made.extend(hashes)
        self.state.write_bytes(msgspec.json.encode(checkpoints.Signed(made.size, made.hashes, note)))

    def folder(self, first: int = 0) -> Path:
        ((name,),) = self.act("select folder from ledger_segment where first_index = %s", first)
        return self.data / "segments" / str(name)

    def replace(self, name: str, table: pa.Table, first: int = 0, **stated: Any) -> None:
        """Another sealed file, with the manifest made to fit (and saying what is `stated`)."""
        path = self.folder(first) / f"{name}.parquet"
        pq.write_table(table, path, compression="zstd")
        self.restate(name, first, **stated)

    def restate(self, name: str, first: int = 0, **stated: Any) -> None:
        """The manifest says of this file what it now is."""
        data = segments.storage().path(self.folder(first).name, name).read_bytes()
        told = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **stated}
        self.act(
            "update ledger_segment set files = jsonb_set(files, %s, (files -> %s) || %s::jsonb) where first_index = %s",
            [name], name, json.dumps(told), first,
        )  # fmt: skip


def policy(*lines: str) -> str:
    """The policy file of day one, with these lines in the place of its quorum."""
    text = notes.make_policy(*(keys.vkey(name) for name in ("checkpoint", "receipt", "report")))
    return text.replace("quorum none\n", "\n".join(lines) + "\n") if lines else text


def pack(q: str = "kind:query", *, earlier: str | None = None, **more: Any) -> bytes:
    return packs.collect(ADMIN, q, Window(), earlier=earlier, **more)


def judged(data: bytes, text: str, **more: Any) -> tuple[int, dict[str, str], dict[str, str]]:
    """(exit code, check -> state, check -> sentence) of the offline verifier under a policy file."""
    verdict: Verdict = verify(data, notes.parse_policy(text), **more)
    return (
        verdict.exit,
        {check.name: check.state for check in verdict.checks},
        {check.name: check.sentence for check in verdict.checks},
    )


def failed(data: bytes, text: str, **more: Any) -> tuple[int, list[str]]:
    """(exit code, names of the checks that fail or miss something)."""
    code, states, _ = judged(data, text, **more)
    return code, [name for name, state in states.items() if state in ("fail", "missing")]


def faults() -> str:
    """What `fsck` says."""
    return "\n".join(fsck.check())
