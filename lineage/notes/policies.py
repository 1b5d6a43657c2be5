"""The policy file: which keys an auditor trusts (C2SP tlog-policy, and our four kinds of lines; docs/verify.md).

log <vkey> [url]                  checkpoints of this log; the key's name is the log's origin
witness <name> <vkey> [url]       a witness that cosigns checkpoints
group <name> <k|all|any> <name>…  reached when k of its members are
quorum <name|none>                what a checkpoint needs; exactly once
receipt <vkey>                    ours: the key of receipts
report <vkey> [sha256:<hex>]      ours: the key of report signatures, and its certificate's fingerprint
log-until <name>+<id> <size>      ours: a retired key of a log line above; it signs checkpoints up to this size
tsa <name> <base64> [<base64>…]   ours: certificates (DER) of a timestamp authority; a name may have several lines
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lineage.errors import NoteInvalid
from lineage.notes.checkpoints import decimal
from lineage.notes.keys import COSIGNATURE, ED25519, VerifierKey, check_name, parse_vkey, unbase64
from lineage.notes.signed import Note
from lineage.timestamps.authority import Authority, parse_authority

MAX_POLICY_BYTES = 1024 * 1024
KEYWORDS = ("none", "all", "any")
FINGERPRINT = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass
class Policy:
    """The trusted keys by use, the witnesses' addresses (`urls`), and the witness rule. `fingerprints` are SHA-256 over
    report certificates, in hex.
    """

    logs: list[VerifierKey] = field(default_factory=list)
    witnesses: dict[str, VerifierKey] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    groups: dict[str, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    quorum: str = ""
    receipts: list[VerifierKey] = field(default_factory=list)
    reports: list[VerifierKey] = field(default_factory=list)
    fingerprints: list[str] = field(default_factory=list)
    authorities: list[Authority] = field(default_factory=list)
    until: dict[tuple[str, bytes], int] = field(default_factory=dict)

    @property
    def checkpoint_keys(self) -> list[VerifierKey]:
        """Keys to read a checkpoint with: all logs and all witnesses."""
        return [*self.logs, *self.witnesses.values()]

    def logs_at(self, size: int) -> list[VerifierKey]:
        """The log keys that may sign a checkpoint of this size: all but those retired below it."""
        return [key for key in self.logs if size <= self.until.get((key.name, key.key_id), size)]

    def quorum_met(self, note: Note) -> bool:
        """Whether the verified cosignatures of this checkpoint satisfy the quorum line."""
        signed = {(each.name, each.key_id) for each in note.verified if each.timestamp is not None}
        return self._reached(self.quorum, signed)

    def _reached(self, name: str, signed: set[tuple[str, bytes]]) -> bool:
        if name == "none":
            return True
        if name in self.witnesses:
            key = self.witnesses[name]
            return (key.name, key.key_id) in signed
        needed, members = self.groups[name]
        return sum(self._reached(member, signed) for member in members) >= needed


def make_policy(log: str, receipt: str, report: str, certificate_sha256: str | None = None) -> str:
    """The policy file of a log without witnesses, from its three verifier keys and its certificate's fingerprint."""
    fingerprint = f" sha256:{certificate_sha256}" if certificate_sha256 else ""
    text = f"log {log}\nreceipt {receipt}\nreport {report}{fingerprint}\nquorum none\n"
    parse_policy(text)
    return text


def parse_policy(text: str) -> Policy:
    """The policy of its text; strict. NoteInvalid names the line at fault.

    Refused: unknown lines, a key twice in one role, a name used before it is defined or as a member twice, no quorum
    or two.
    """
    if len(text) > MAX_POLICY_BYTES or re.search(r"[^\t\n -~\x80-\U0010ffff]", text):
        raise NoteInvalid("The policy file is larger than 1 MiB or holds control characters.")
    policy, members = Policy(), set[str]()
    for number, line in enumerate(text.split("\n"), 1):
        words = _words(line)
        if not words:
            continue
        try:
            _READERS[words[0]](policy, words[1:], members)
        except (KeyError, IndexError, ValueError, NoteInvalid) as error:
            reason = error.message if isinstance(error, NoteInvalid) else "It does not follow the format."
            raise NoteInvalid(f"Line {number} of the policy is refused. {reason}") from error
    if not policy.quorum:
        raise NoteInvalid("The policy has no quorum line; write `quorum none` if no witness is asked for.")
    return policy


def _words(line: str) -> list[str]:
    """The words of a line up to the first that begins with #; only spaces and tabs separate."""
    words = [word for word in re.split(r"[ \t]+", line) if word]
    comment = next((at for at, word in enumerate(words) if word.startswith("#")), len(words))
    return words[:comment]


def _log(policy: Policy, words: list[str], _: set[str]) -> None:
    key = _key(words[0], (ED25519,), policy.logs)
    _at_most(words, 2)
    policy.logs.append(key)


def _log_until(policy: Policy, words: list[str], _: set[str]) -> None:
    text, size = words
    name, key_id = text.rsplit("+", 1)
    place = (name, bytes.fromhex(key_id))
    if place[1].hex() != key_id or place in policy.until or place not in {(k.name, k.key_id) for k in policy.logs}:
        raise NoteInvalid("It names no log key of a line above, or one that is already retired.")
    policy.until[place] = decimal(size)


def _witness(policy: Policy, words: list[str], _: set[str]) -> None:
    # A witness key of the plain kind is read, as C2SP readers do, but only cosignatures ever count.
    name, key = words[0], _key(words[1], (ED25519, COSIGNATURE), policy.witnesses.values())
    _at_most(words, 3)
    _new_name(policy, name)
    policy.witnesses[name] = key
    if words[2:]:
        policy.urls[name] = words[2]


def _group(policy: Policy, words: list[str], members: set[str]) -> None:
    name, rule, *listed = words
    _new_name(policy, name)
    for member in listed:
        if member not in policy.witnesses and member not in policy.groups:
            raise NoteInvalid(f"{member} is not defined above.")
        if member in members:
            raise NoteInvalid(f"{member} is already a member of a group.")
        members.add(member)
    needed = {"all": len(listed), "any": 1}.get(rule) or (int(rule) if rule.isascii() and rule.isdigit() else 0)
    if not 1 <= needed <= len(listed):
        raise NoteInvalid("A group needs between one and all of its members.")
    policy.groups[name] = (needed, tuple(listed))


def _quorum(policy: Policy, words: list[str], _: set[str]) -> None:
    (name,) = words
    if policy.quorum:
        raise NoteInvalid("There is more than one quorum line.")
    if name != "none" and name not in policy.witnesses and name not in policy.groups:
        raise NoteInvalid(f"{name} is not defined above.")
    policy.quorum = name


def _receipt(policy: Policy, words: list[str], _: set[str]) -> None:
    key = _key(words[0], (ED25519,), policy.receipts)
    _at_most(words, 1)
    policy.receipts.append(key)


def _report(policy: Policy, words: list[str], _: set[str]) -> None:
    key = _key(words[0], (ED25519,), policy.reports)
    _at_most(words, 2)
    policy.reports.append(key)
    for word in words[1:]:
        match = FINGERPRINT.fullmatch(word)
        if match is None:
            raise NoteInvalid("A certificate's fingerprint is sha256: and 64 lower-case hex digits.")
        policy.fingerprints.append(match[1])


def _tsa(policy: Policy, words: list[str], _: set[str]) -> None:
    name, *encoded = words
    check_name(name)
    authority = parse_authority(name, [unbase64(each) for each in encoded])
    if any(authority.certificates[0] == other.certificates[0] for other in policy.authorities):
        raise NoteInvalid("The same certificate is listed twice.")
    policy.authorities.append(authority)


def _key(text: str, algorithms: tuple[int, ...], known: Iterable[VerifierKey]) -> VerifierKey:
    key = parse_vkey(text)
    if key.algorithm not in algorithms:
        raise NoteInvalid("The key's algorithm does not fit this kind of line.")
    if any(key.public_key == other.public_key for other in known):
        raise NoteInvalid("The same key is listed twice.")
    return key


def _new_name(policy: Policy, name: str) -> None:
    if name in KEYWORDS or name in policy.witnesses or name in policy.groups:
        raise NoteInvalid(f"{name} is a keyword or already defined.")


def _at_most(words: list[str], limit: int) -> None:
    if len(words) > limit:
        raise NoteInvalid("There are more words than the line has room for.")


_READERS: dict[str, Callable[[Policy, list[str], set[str]], None]] = {
    "log": _log,
    "log-until": _log_until,
    "witness": _witness,
    "group": _group,
    "quorum": _quorum,
    "receipt": _receipt,
    "report": _report,
    "tsa": _tsa,
}
