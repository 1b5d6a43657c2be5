"""Packs of every kind, sound and not, and the mutations of one: what the three verifiers must judge alike."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from lineage import archive, commitment, events, merkle, notes, packfile
from tests import evidence
from tests.evidence import HASHES, LOG_KEY, ORIGIN, POLICY_TEXT, RECEIPT_KEY, SIZE, WITNESS_KEY, Event

ERASURE, COUNTS = SIZE - 2, SIZE - 1
QUORUM = POLICY_TEXT.replace("quorum none", f"witness w {notes.vkey_of(WITNESS_KEY)}\nquorum w")
OLD_KEY = notes.generate_key(ORIGIN)
OLD_PLACE = "+".join(notes.vkey_of(OLD_KEY).split("+")[:2])
ROTATED = f"log {notes.vkey_of(OLD_KEY)}\nlog-until {OLD_PLACE} 12\n{POLICY_TEXT}"


@dataclasses.dataclass(frozen=True)
class Case:
    """What a verifier is given."""

    pack: bytes
    policy: str | None = POLICY_TEXT
    receipts: str | None = None
    leaves: bytes | None = None


def ranged(**changes: Any) -> bytes:
    return packfile.write(evidence.ranged(**changes))


def sparse(*indexes: int, **changes: Any) -> bytes:
    return packfile.write(evidence.sparse(*indexes, **changes))


def resealed(members: dict[str, bytes], **manifest: Any) -> bytes:
    """The archive of these members under a manifest that names them as they are: only the content is odd."""
    head = json.loads(members["manifest.json"]) | manifest
    others = {name: data for name, data in members.items() if name != "manifest.json"}
    head["members"] = {n: {"bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in others.items()}
    return archive.write({**others, "manifest.json": commitment.canonical(head)})


def changed(name: str, old: bytes, new: bytes, **manifest: Any) -> bytes:
    """The range pack with one replacement in a member, its manifest made to fit."""
    members = archive.read(ranged())
    assert old in members[name]
    return resealed({**members, name: members[name].replace(old, new, 1)}, **manifest)


def with_members(**contents: bytes) -> bytes:
    return resealed({**archive.read(ranged()), **{name.replace("__", "."): data for name, data in contents.items()}})


def _group(index: int, group: events.Group, **changes: Any) -> dict[int, Any]:
    """The disclosures of the range pack with one of them changed."""
    good = evidence.ranged().disclosures
    return {**good, index: {**good[index], group: dataclasses.replace(good[index][group], **changes)}}


def _erased(index: int, *groups: events.Group, by: int | None = ERASURE) -> dict[int, Any]:
    return {index: {**evidence.disclosed(index), **{g: packfile.Disclosure("erased", erased_by=by) for g in groups}}}


def _fewer() -> dict[str, Any]:
    good = evidence.ranged()
    kept = tuple(index for index in good.selected if index != 9)
    return {"selected": kept, "disclosures": {index: good.disclosures[index] for index in kept}}


def _detached(leaves: bytes, first: int = 0, last: int = SIZE - 1) -> packfile.Detached:
    proof = tuple(merkle.range_proof(HASHES, first, last + 1, SIZE))
    return packfile.Detached("p.leaves.ndjson", first, last, len(leaves), hashlib.sha256(leaves).hexdigest(), proof)


ALL_LEAVES = b"".join(leaf + b"\n" for leaf, _ in evidence.COMMITTED)
CHANGES = dict.fromkeys(("headers",), packfile.Headers(kind=("change",)))


def _beside(last: int = SIZE - 1, **changes: Any) -> bytes:
    leaves = b"".join(leaf + b"\n" for leaf, _ in evidence.COMMITTED[: last + 1])
    return sparse(*range(0, SIZE - 2, 3), detached=_detached(leaves, last=last), hidden=False, **CHANGES, **changes)


def _counting(**changes: Any) -> bytes:
    """A range over a log whose last record commits to other counts than the log holds."""
    custody = events.Custody(**{"type": "count_commitment", "first": "0", "last": "1", "count": 2, **changes})
    log = [evidence.event(0), evidence.event(1)]
    common = {"source_id": "touchstone", "received_at": "2026-11-21T01:00:02.000000Z"}
    log.append(Event(kind="custody", class_="custody", custody=custody, **common))
    committed = [commitment.commit(each, evidence.SALTS[at]) for at, each in enumerate(log)]
    hashes = [merkle.leaf_hash(leaf) for leaf, _ in committed]
    shown = {g: packfile.Disclosure("disclosed", evidence.SALTS[2][g], d) for g, d in committed[2][1].items()}
    content = evidence.ranged(
        leaves={at: leaf for at, (leaf, _) in enumerate(committed)},
        selected=(2,),
        disclosures={2: shown},
        proofs=((),),
        headers=packfile.Headers(kind=("custody",)),
        checkpoint=notes.sign(notes.make_checkpoint(ORIGIN, 3, merkle.root(hashes)), LOG_KEY),
    )
    return packfile.write(content)


def _counts(*numbers: tuple[events.Class | None, int]) -> tuple[events.HeaderCount, ...]:
    return tuple(events.HeaderCount(source_id="orders-log", class_=each, count=n) for each, n in numbers)


def _cosigned(size: int = SIZE, at: int = 1_763_700_000) -> bytes:
    return notes.cosign(evidence.checkpoint(size), WITNESS_KEY, at)


def _stale() -> bytes:
    lines = _cosigned().decode().splitlines()
    return "\n".join([*lines[:-1], _cosigned(9).decode().splitlines()[-1], ""]).encode()


def _forged() -> bytes:
    good, other = evidence.checkpoint(), evidence.checkpoint(20)
    return good.replace(good.splitlines()[-1], other.splitlines()[-1])


def _receipt(*promises: tuple[int, bytes], **changes: Any) -> str:
    return evidence.receipt(*promises, **changes).decode()


def _other_log() -> str:
    given = (notes.Promise(5, HASHES[6], b"key-of-a-record!"),)
    return notes.sign_receipt(notes.Receipt("log.example/x", evidence.CREATED_AT, given), RECEIPT_KEY).decode()


def _leaf(index: int, old: bytes, new: bytes) -> bytes:
    leaves = dict(evidence.ranged().leaves)
    return ranged(leaves={**leaves, index: leaves[index].replace(old, new)})


def _odd(data: bytes) -> bytes:
    """A log of one record that really committed to these bytes as its statement."""
    salt = evidence.SALTS[0]["statement"]
    leaf = {"v": 1, "kind": "query", "groups": {"statement": commitment.digest(salt, data)}}
    content = evidence.ranged(
        leaves={0: commitment.canonical(leaf)},
        selected=(0,),
        disclosures={0: {"statement": packfile.Disclosure("disclosed", salt, data)}},
        proofs=((),),
        headers=packfile.Headers(),
        checkpoint=notes.sign(notes.make_checkpoint(ORIGIN, 1, merkle.leaf_hash(commitment.canonical(leaf))), LOG_KEY),
    )
    return packfile.write(content)


def received(*times: str, selected: tuple[int, ...], stamp: Callable[[bytes], bytes]) -> bytes:
    """A log of records that were received at these times; `stamp` makes the token over its first checkpoint, of size 1."""
    made = [Event(kind="query", received_at=time, actor=events.Actor(id="ann")) for time in times]
    committed = [commitment.commit(each, evidence.SALTS[at]) for at, each in enumerate(made)]
    hashes = [merkle.leaf_hash(leaf) for leaf, _ in committed]
    points = [notes.make_checkpoint(ORIGIN, size, merkle.root(hashes[:size])) for size in (1, len(hashes))]
    anchor = packfile.Anchor(
        notes.sign(points[0], LOG_KEY), tuple(merkle.consistency_proof(hashes, 1)), (stamp(points[0].encode()),)
    )
    salts, data = evidence.SALTS, {at: groups["actor"] for at, (_, groups) in enumerate(committed)}
    content = evidence.sparse(
        leaves={at: committed[at][0] for at in selected},
        selected=selected,
        disclosures={at: {"actor": packfile.Disclosure("disclosed", salts[at]["actor"], data[at])} for at in selected},
        proofs=tuple(tuple(merkle.inclusion_proof(hashes, at)) for at in selected),
        checkpoint=notes.sign(points[1], LOG_KEY),
        anchors=(anchor,),
    )
    return packfile.write(content)


def _respelt() -> bytes:
    members = archive.read(ranged())
    return archive.write({**members, "manifest.json": members["manifest.json"].replace(b":21", b": 21")})


def _moved() -> bytes:
    content = evidence.sparse(2)
    shown = {3: evidence.disclosed(2)}
    return packfile.write(
        dataclasses.replace(content, leaves={3: evidence.COMMITTED[2][0]}, selected=(3,), disclosures=shown)
    )


def _filtered(selected: tuple[int, ...], **headers: Any) -> Callable[[], Case]:
    shown = {index: evidence.disclosed(index) for index in selected}
    return lambda: Case(ranged(selected=selected, disclosures=shown, headers=packfile.Headers(**headers)))


PROOF_9 = tuple(merkle.consistency_proof(HASHES, 9))
SECOND = "2026-11-21T01:08:0"
KEPT, LATE = {"accepted_at": evidence.CREATED_AT}, {"accepted_at": "2026-11-21T03:59:49.000000Z"}

# Name -> (the exit code of every verifier, what they are given).
CASES: dict[str, tuple[int, Callable[[], Case]]] = {
    "a range": (0, lambda: Case(ranged())),
    "single records": (0, lambda: Case(sparse(1, 2, 20))),
    "one record of a log": (0, lambda: Case(sparse(0))),
    "no policy": (2, lambda: Case(ranged(), None)),
    "an unknown key signed": (2, lambda: Case(ranged(checkpoint=evidence.checkpoint(key=evidence.STRANGER_KEY)))),
    "a wrong signature": (1, lambda: Case(ranged(checkpoint=_forged()))),
    "another log's name": (1, lambda: Case(ranged(checkpoint=evidence.checkpoint(origin="log.example/shadow")))),
    "a retired key in its time": (
        0,
        lambda: Case(ranged(earlier=evidence.checkpoint(9, key=OLD_KEY), consistency=PROOF_9), ROTATED),
    ),
    "a retired key too late": (1, lambda: Case(ranged(checkpoint=evidence.checkpoint(key=OLD_KEY)), ROTATED)),
    "a changed leaf": (1, lambda: Case(_leaf(7, b"orders-log", b"orders-lag"))),
    "a leaf of another version": (1, lambda: Case(_leaf(7, b'"v":1', b'"v":3'))),
    "a leaf that is not canonical": (1, lambda: Case(_leaf(7, b'"v":1', b'"v": 1'))),
    "a record at another index": (1, lambda: Case(_moved())),
    "changed bytes": (1, lambda: Case(ranged(disclosures=_group(6, "change", data=b'{"after":[]}')))),
    "a changed salt": (1, lambda: Case(ranged(disclosures=_group(6, "change", salt=b"0" * 16)))),
    "a withheld group": (
        0,
        lambda: Case(ranged(disclosures=_group(6, "actor", state="withheld", salt=None, data=None))),
    ),
    "a group left out": (
        1,
        lambda: Case(
            ranged(disclosures={**evidence.ranged().disclosures, 6: {"actor": evidence.disclosed(6)["actor"]}})
        ),
    ),
    "an erasure on record": (
        0,
        lambda: Case(sparse(2, disclosures=_erased(2, "actor"), cited={ERASURE: evidence.cited(ERASURE, "actor")})),
    ),
    "an erasure among the selected": (
        0,
        lambda: Case(sparse(2, ERASURE, disclosures={**_erased(2, "actor"), ERASURE: evidence.disclosed(ERASURE)})),
    ),
    "an erasure without a record": (2, lambda: Case(sparse(2, disclosures=_erased(2, "actor")))),
    "an erasure that names no record": (2, lambda: Case(sparse(2, disclosures=_erased(2, "actor", by=None)))),
    "an erasure of another group": (
        2,
        lambda: Case(sparse(2, disclosures=_erased(2, "statement"), cited={ERASURE: evidence.cited(ERASURE, "actor")})),
    ),
    "an erasure of another record": (
        2,
        lambda: Case(sparse(8, disclosures=_erased(8, "actor"), cited={ERASURE: evidence.cited(ERASURE, "actor")})),
    ),
    "an erasure that is not disclosed": (
        2,
        lambda: Case(sparse(2, disclosures=_erased(2, "actor"), cited={ERASURE: evidence.cited(ERASURE)})),
    ),
    "an erasure by a record that is none": (
        2,
        lambda: Case(sparse(2, disclosures=_erased(2, "actor", by=4), cited={4: evidence.cited(4, "actor")})),
    ),
    "a matching record left out": (1, lambda: Case(ranged(**_fewer()))),
    "a record left out by hidden fields": (0, lambda: Case(ranged(**_fewer(), hidden=True))),
    "a record that does not match": (1, lambda: Case(ranged(headers=packfile.Headers(kind=("session",)), hidden=True))),
    "a single record that does not match": (1, lambda: Case(sparse(1, headers=packfile.Headers(kind=("session",))))),
    "no filter": (0, _filtered(tuple(range(4, 16)))),
    "a filter on class": (0, _filtered((6, 9, 12, 15), class_=("write", "ddl"))),
    "a filter that nothing matches": (0, _filtered((), source_id=("other",))),
    "a filter from a time": (0, _filtered(tuple(range(8, 16)), occurred_from=SECOND + "0.000000Z")),
    "a filter until a time": (0, _filtered((4, 5, 6, 7), occurred_until=SECOND + "0.000000Z")),
    "a filter on receipt": (0, _filtered((9, 12, 15), received_from=SECOND + "0.000000Z", kind=("change",))),
    "a filter until receipt": (0, _filtered((6,), received_until=SECOND + "1.000000Z", kind=("change",))),
    "an earlier checkpoint": (0, lambda: Case(ranged(earlier=evidence.checkpoint(9), consistency=PROOF_9))),
    "the same checkpoint as earlier": (0, lambda: Case(ranged(earlier=evidence.checkpoint(), consistency=()))),
    "a forked earlier checkpoint": (
        1,
        lambda: Case(
            ranged(
                earlier=notes.sign(notes.make_checkpoint(ORIGIN, 9, merkle.root(HASHES[1:10])), LOG_KEY),
                consistency=PROOF_9,
            )
        ),
    ),
    "an unsigned earlier checkpoint": (
        2,
        lambda: Case(ranged(earlier=evidence.checkpoint(9, key=evidence.STRANGER_KEY), consistency=PROOF_9)),
    ),
    "an earlier checkpoint of another log": (
        1,
        lambda: Case(ranged(earlier=evidence.checkpoint(9, origin="log.example/shadow"), consistency=PROOF_9)),
    ),
    "no witness": (2, lambda: Case(ranged(), QUORUM)),
    "a witness": (0, lambda: Case(ranged(checkpoint=_cosigned()), QUORUM)),
    "a witness at the end of time": (0, lambda: Case(ranged(checkpoint=_cosigned(at=253402300799)), QUORUM)),
    "a witness that nobody asked for": (0, lambda: Case(ranged(checkpoint=_cosigned()))),
    "a cosignature of another checkpoint": (1, lambda: Case(ranged(checkpoint=_stale()), QUORUM)),
    "a witness on an anchor": (
        0,
        lambda: Case(ranged(anchors=(evidence.anchor(9), evidence.anchor(16, note=_cosigned(16)))), QUORUM),
    ),
    "a witness on an anchor of a range in which nothing matches": (
        2,
        lambda: Case(
            ranged(
                selected=(),
                disclosures={},
                headers=packfile.Headers(source_id=("other",)),
                anchors=(evidence.anchor(15, note=_cosigned(15)),),
            ),
            QUORUM,
        ),
    ),
    "a field of another group": (1, lambda: Case(_odd(b'{"actor":{"id":"eve"}}'))),
    "a disclosed group without fields": (1, lambda: Case(_odd(b"{}"))),
    "a disclosed group that is no object": (1, lambda: Case(_odd(b'["actor"]'))),
    "a disclosed group that is not canonical": (1, lambda: Case(_odd(b'{"origin": {"position":"1"}}'))),
    "a witness on an anchor before the last record": (
        2,
        lambda: Case(ranged(anchors=(evidence.anchor(15, note=_cosigned(15)),)), QUORUM),
    ),
    "a forked anchor": (
        1,
        lambda: Case(
            ranged(anchors=(evidence.anchor(9, note=notes.sign(notes.make_checkpoint(ORIGIN, 9, HASHES[0]), LOG_KEY)),))
        ),
    ),
    "a timestamp that nobody asked for": (0, lambda: Case(ranged(anchors=(evidence.anchor(16, b"no token"),)))),
    "kept promises": (0, lambda: Case(ranged(), receipts=_receipt((5, HASHES[5]), (2, HASHES[2]), (900, HASHES[0])))),
    "two receipts": (0, lambda: Case(ranged(), receipts=_receipt((5, HASHES[5])) + _receipt((6, HASHES[6])))),
    "receipts as JSON": (
        0,
        lambda: Case(ranged(), receipts=json.dumps({"accepted": 1, "receipt": _receipt((5, HASHES[5]))}) + "\n"),
    ),
    "a broken promise": (1, lambda: Case(ranged(), receipts=_receipt((5, HASHES[6])))),
    "a broken promise in the pack": (1, lambda: Case(ranged(receipts=(evidence.receipt((5, HASHES[6])),)))),
    "a broken promise about a cited record": (
        1,
        lambda: Case(sparse(2, cited={4: evidence.cited(4)}), receipts=_receipt((4, HASHES[6]))),
    ),
    "a promise whose time is over": (1, lambda: Case(ranged(), receipts=_receipt((SIZE, HASHES[0]), **LATE))),
    "a promise of another log": (0, lambda: Case(ranged(), receipts=_other_log())),
    "a receipt of an unknown key": (
        2,
        lambda: Case(ranged(), receipts=_receipt((5, HASHES[6]), key=evidence.STRANGER_KEY)),
    ),
    "an impossible date": (
        1,
        lambda: Case(ranged(created_at="2026-99-99T99:99:99.000000Z"), receipts=_receipt((99, HASHES[0]))),
    ),
    "derived facts": (
        0,
        lambda: Case(ranged(derived={"analyser": "lineage.statements", "version": "7", "facts": [{"index": 4}]})),
    ),
    "right counts": (
        0,
        lambda: Case(
            packfile.write(evidence.ranged(0, 15, cited={COUNTS: evidence.cited(COUNTS, "action")})),
        ),
    ),
    "counts of records that are not here": (
        0,
        lambda: Case(ranged(cited={COUNTS: evidence.cited(COUNTS, "action")})),
    ),
    "counts that are not disclosed": (
        0,
        lambda: Case(packfile.write(evidence.ranged(0, 15, cited={COUNTS: evidence.cited(COUNTS)}))),
    ),
    "counts that agree": (0, lambda: Case(_counting(counts=_counts(("write", 1), ("read", 1))))),
    "a count too many": (1, lambda: Case(_counting(counts=_counts(("write", 2), ("read", 1)), count=3))),
    "counts whose sum is wrong": (1, lambda: Case(_counting(counts=_counts(("write", 1), ("read", 1)), count=3))),
    "counts without an end": (1, lambda: Case(_counting(counts=_counts(("write", 1), ("read", 1)), last=None))),
    "counts of elsewhere that end before they begin": (
        1,
        lambda: Case(_counting(counts=_counts(("write", 2)), first="9", last="8")),
    ),
    "counts of elsewhere": (0, lambda: Case(_counting(counts=_counts(("write", 2)), first="8", last="9"))),
    "a class left out of the counts": (1, lambda: Case(_counting(counts=_counts(("write", 2))))),
    "leaves beside the pack": (0, lambda: Case(_beside(), leaves=ALL_LEAVES)),
    "leaves beside the pack that were not given": (2, lambda: Case(_beside())),
    "a record outside the leaves beside the pack": (1, lambda: Case(_beside(last=16))),
    "a manifest of another version": (3, lambda: Case(changed("checkpoint.note", b"", b"", version=2))),
    "a manifest that is not canonical": (3, lambda: Case(_respelt())),
    "another file of leaves": (1, lambda: Case(_beside(), leaves=ALL_LEAVES.replace(b"orders-log", b"orders-lag", 1))),
    "counts of the leaves beside the pack": (
        0,
        lambda: Case(_beside(cited={COUNTS: evidence.cited(COUNTS, "action")}), leaves=ALL_LEAVES),
    ),
    "bytes behind the archive": (1, lambda: Case(ranged() + b"\n")),
    "bytes in the archive": (1, lambda: Case(ranged().replace(b"PK\5\6", b"PK\1\2junkPK\5\6"))),
    "a manifest that says more records": (1, lambda: Case(changed("checkpoint.note", b"", b"", records=5))),
    "a manifest of another log": (1, lambda: Case(changed("checkpoint.note", b"", b"", origin="log.example/other"))),
    "a manifest with other counts of groups": (1, lambda: Case(changed("checkpoint.note", b"", b"", groups={}))),
    "a member that no pack has": (1, lambda: Case(with_members(notes__txt=b"hello\n"))),
    "a consistency proof of nothing": (1, lambda: Case(with_members(consistency__txt=b""))),
    "disclosures out of order": (
        1,
        lambda: Case(
            resealed(
                archive.read(ranged())
                | {
                    "disclosures.ndjson": b"".join(
                        sorted(archive.read(ranged())["disclosures.ndjson"].splitlines(keepends=True), reverse=True)
                    )
                }
            )
        ),
    ),
    "selected ranges that touch": (
        1,
        lambda: Case(
            resealed(
                (members := archive.read(sparse(1, 2, 20)))
                | {"query.json": members["query.json"].replace(b"[[1,2],[20,20]]", b"[[1,1],[2,2],[20,20]]")}
            )
        ),
    ),
    "nothing": (3, lambda: Case(b"")),
    "text": (3, lambda: Case(b"hello")),
    "another archive": (3, lambda: Case(archive.write({"a": b"b"}))),
    "a policy without quorum": (3, lambda: Case(ranged(), POLICY_TEXT.replace("quorum none", ""))),
    "a policy with an unknown word": (3, lambda: Case(ranged(), POLICY_TEXT + "trust everyone\n")),
    "receipts that hold none": (3, lambda: Case(ranged(), receipts='{"accepted": 1}\n')),
}

# Packs made to harm whoever opens them. None may be confirmed, hang or break a verifier.
SCRIPT = '<script>document.title="owned"</script><img src=x onerror=alert(1)>\u202e\u0000\x1b[2J'
HOSTILE: dict[str, Callable[[], bytes]] = {
    "deep JSON": lambda: with_members(query__json=b"[" * 200_000 + b"]" * 200_000),
    "deep leaf": lambda: changed("leaves.ndjson", b'"v":1', b'"v":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
    "a huge number": lambda: changed("query.json", b"[[6,6]", b"[[6," + b"9" * 100_000 + b"]"),
    "a huge range": lambda: changed("query.json", b"[[6,6]", b"[[6,9007199254740991]"),
    "a huge first index": lambda: changed("checkpoint.note", b"", b"", first=9007199254740991),
    "a huge size": lambda: changed("checkpoint.note", b"\n21\n", b"\n9223372036854775807\n"),
    "a number beyond": lambda: changed("leaves.ndjson", b'"sequence":4', b'"sequence":9007199254740993'),
    "a negative number": lambda: changed("leaves.ndjson", b'"sequence":4', b'"sequence":-4'),
    "minus zero": lambda: changed("leaves.ndjson", b'"sequence":4', b'"sequence":-0'),
    "a float": lambda: changed("leaves.ndjson", b'"sequence":4', b'"sequence":4.0'),
    "true for one": lambda: changed("leaves.ndjson", b'"v":1', b'"v":true'),
    "null": lambda: changed("leaves.ndjson", b'"sequence":4', b'"sequence":null'),
    "not a number": lambda: changed("leaves.ndjson", b'"sequence":4', b'"sequence":NaN'),
    "a key twice": lambda: changed("query.json", b'"hidden":false', b'"hidden":false,"hidden":false'),
    "spaces": lambda: changed("query.json", b'"hidden":false', b'"hidden": false'),
    "another order": lambda: changed("query.json", b'{"headers"', b'{"z":1,"headers"'),
    "a prototype": lambda: changed("query.json", b'{"headers"', b'{"__proto__":{"hidden":true},"headers"'),
    "an escaped letter": lambda: changed("query.json", b'"text":"k', b'"text":"\\u006b'),
    "half a pair": lambda: changed("query.json", b'"text":"k', b'"text":"\\ud800k', query="\\ud800kind:change"),
    "a NUL": lambda: changed("leaves.ndjson", b"orders-log", b"orders\0log"),
    "broken UTF-8": lambda: changed("leaves.ndjson", b"orders-log", b"orders\xfflog"),
    "a byte order mark": lambda: changed("query.json", b"{", b"\xef\xbb\xbf{"),
    "carriage returns": lambda: changed("leaves.ndjson", b"\n", b"\r\n"),
    "an empty line": lambda: changed("leaves.ndjson", b"\n", b"\n\n"),
    "no last line break": lambda: resealed({**(m := archive.read(ranged())), "proofs.txt": m["proofs.txt"].rstrip()}),
    "a lying length": lambda: ranged().replace(b"PK\3\4", b"PK\3\4\x14\0\0\0\x08\0", 1),
    "a compressed member": lambda: _zipped(),
    "a bomb": lambda: _zipped(b"0" * 20_000_000),
    "a million members": lambda: archive.write({f"a{n}": b"" for n in range(60_000)} | archive.read(ranged())),
    "scripts in the manifest": lambda: changed(
        "checkpoint.note", b"", b"", made_by=SCRIPT, query=SCRIPT, origin=SCRIPT
    ),
}


def _zipped(content: bytes = b"{}") -> bytes:
    """The range pack as a usual ZIP tool would compress it."""
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in archive.read(ranged()).items():
            file.writestr(name, content if name == "query.json" else data)
    return buffer.getvalue()


def scripted() -> bytes:
    """A pack that is valid, and whose every text is markup, directions and control characters."""
    text = SCRIPT.replace("\0", "")
    event = Event(
        kind="query",
        class_="read",
        event_id=text,
        source_id=text,
        received_at="2026-11-21T01:00:01.000000Z",
        actor=events.Actor(id=text, name=text),
        purpose=text,
        command=text,
        statement=events.bounded_statement(text),
    )
    leaf, groups = commitment.commit(event, evidence.SALTS[0])
    shown = {g: packfile.Disclosure("disclosed", evidence.SALTS[0][g], data) for g, data in groups.items()}
    content = evidence.ranged(
        made_by=text,
        query=text,
        leaves={0: leaf},
        selected=(0,),
        disclosures={0: shown},
        proofs=((),),
        headers=packfile.Headers(),
        checkpoint=notes.sign(notes.make_checkpoint(ORIGIN, 1, merkle.leaf_hash(leaf)), LOG_KEY),
        derived={"analyser": text, "version": text, "facts": []},
    )
    return packfile.write(content)


def mutations(data: bytes) -> Iterator[bytes]:
    """The pack with each byte in turn changed in one bit, set to another value, and, at every third, left out."""
    for at in range(len(data)):
        for other in (data[at] ^ 1 << at % 8, (data[at] + 0x55) & 0xFF):
            yield data[:at] + bytes([other]) + data[at + 1 :]
        if at % 3 == 0:
            yield data[:at] + data[at + 1 :]


def inner_mutations(data: bytes, step: int) -> Iterator[bytes]:
    """The pack with one bit of every `step`th byte of its members changed and the manifest made to fit, so that the
    checks behind the archive's must notice. Left alone is what nothing vouches for: the manifest and derived facts.
    """
    members = archive.read(data)
    places = [
        (n, at) for n in sorted(members) if n not in ("manifest.json", "derived.json") for at in range(len(members[n]))
    ]
    for name, at in places[::step]:
        content = members[name]
        yield resealed({**members, name: content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]})


ODD = [
    0, 1, -1, 9, 2**53 - 1, 2**53, True, None, "", "x", "6", "a" * 64, "0" * 32, "erased", "withheld", "sparse", "range",
    [], {}, [1], ["change"], {"a": 1}, 1.5, SECOND + "0.000000Z", "2026-13-21T01:08:00.000000Z", "touchstone", "\u2028",
]  # fmt: skip
MEMBERS = ["z", "index", "__proto__", "erased_by", "salt", "class", "received_from", "kind", "source_id", "occurred_at"]


def altered(value: Any, dice: random.Random) -> Any:
    """A JSON value with one thing in it left out, doubled, renamed or put otherwise."""
    if isinstance(value, (dict, list)) and value and dice.random() < 0.8:
        value = value.copy()
        place = dice.choice(list(value)) if isinstance(value, dict) else dice.randrange(len(value))
        act = dice.random()
        if act < 0.15:
            del value[place]
        elif act < 0.3 and isinstance(value, dict):
            value[dice.choice(MEMBERS)] = dice.choice(ODD) if dice.random() < 0.5 else value.pop(place)
        elif act < 0.3:
            value.insert(place, value[place])
        else:
            value[place] = altered(value[place], dice)
        return value
    if type(value) is int and dice.random() < 0.5:
        return value + dice.choice([-1, 1, 2])
    return dice.choice(ODD)


def rewritten(count: int, seed: int) -> Iterator[Case]:
    """Cases of which one JSON value in one member was altered, written canonically again where that is possible, and the
    manifest made to fit: what somebody makes who knows the format.
    """
    dice = random.Random(seed)
    bases = [make() for code, make in CASES.values() if code in (0, 2)]

    def write(value: Any) -> bytes:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    for _ in range(count):
        base = dice.choice(bases)
        members = archive.read(base.pack)
        name = dice.choice([each for each, data in sorted(members.items()) if "json" in each and data])
        if name == "manifest.json":
            head = write(altered(json.loads(members[name]), dice))
            yield dataclasses.replace(base, pack=archive.write({**members, name: head}))
            continue
        lines = members[name].split(b"\n")
        at = dice.randrange(max(1, len(lines) - 1))
        lines[at] = write(altered(json.loads(lines[at]), dice))
        yield dataclasses.replace(base, pack=resealed({**members, name: b"\n".join(lines)}))


@functools.cache
def smallest() -> bytes:
    """One record of a log of one, with nothing disclosed but a group."""
    leaf, groups = commitment.commit(Event(kind="query", actor=events.Actor(id="a")), evidence.SALTS[0])
    content = evidence.ranged(
        leaves={0: leaf},
        selected=(0,),
        disclosures={0: {"actor": packfile.Disclosure("disclosed", evidence.SALTS[0]["actor"], groups["actor"])}},
        proofs=((),),
        headers=packfile.Headers(),
        checkpoint=notes.sign(notes.make_checkpoint(ORIGIN, 1, merkle.leaf_hash(leaf)), LOG_KEY),
    )
    return packfile.write(content)


@functools.cache
def small() -> bytes:
    """A small pack that has every kind of member but a file beside it."""
    return sparse(
        2,
        earlier=evidence.checkpoint(9),
        consistency=PROOF_9,
        anchors=(evidence.anchor(16),),
        receipts=(evidence.receipt((2, HASHES[2])),),
        derived={"analyser": "a", "version": "1", "facts": []},
        cited={4: evidence.cited(4)},
    )
