"""One statement that runs: what it answers on its way to the client, counted, masked, capped, and told at its end."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

from enforcement.gateway import entries, masking, messages
from enforcement.gateway.effects import Catalog
from enforcement.gateway.messages import Field, Frame, Run
from enforcement.gateway.session.judging import Refusal, Ruling
from lineage.events import Effect, Outcome, Value

_COUNT = re.compile(r"(\d+)$")
_CHANGES = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE"})


class Execution:
    """The answer to one statement. `cap` is the most rows that it may return or change; `over` when there were more.

    `answered_at`: when the answer, as far as it was asked for, was whole.
    `is_muted`: the client has read of a refusal, and sees nothing more of it. `copied`: the columns of a COPY's query.
    """

    def __init__(
        self, began: entries.Began, ruling: Ruling, catalog: Catalog, keys_limit: int, cap: int | None
    ) -> None:
        self.began, self.ruling, self.cap = began, ruling, cap
        self.fields: tuple[Field, ...] | None = None
        self.copied: tuple[Field, ...] | None = None
        self.over = False
        self.is_muted = False
        self.error: dict[str, str] | None = None
        self.tag: str | None = None
        self.transaction_id: str | None = None
        self.answered_at: float | None = None
        self.is_ended = False
        self._catalog, self._keys_limit = catalog, keys_limit
        self._plan: masking.Plan | None = None
        self._copy: masking.CopyMasker | None = None
        self._returned = self._bytes = 0
        self._hash = hashlib.sha256()
        self._keys: dict[str, list[tuple[Value, ...]]] = {}
        self._keyed: list[tuple[list[tuple[Value, ...]], list[tuple[str, int]]]] = []

    @property
    def is_write(self) -> bool:
        return self.ruling.part.writes

    def described(self, fields: tuple[Field, ...]) -> None:
        """The columns of the answer are known: how each is masked is planned."""
        self.fields = fields
        self._plan = masking.plan(fields, self.ruling.source, self._catalog, self.ruling.decision.mask)
        for relation, columns in self._plan.keys:
            # Keys in binary are not told.
            if not any(fields[place].format for place, _ in columns):
                known = self._keys.setdefault(relation, [])
                self._keyed.append((known, [(name, place) for place, name in columns]))

    def rows(self, item: Frame | Run) -> bytes:
        """Rows as the client may see them. What comes after the cap is left out."""
        if self._plan is None:
            raise messages.ProtocolViolation("The database sent rows without saying of what columns.")
        count = item.count if isinstance(item, Run) else 1
        room = None if self.cap is None else self.cap - self._returned
        stop = item.stop
        if room is not None and count > room:
            self.over, count = True, max(room, 0)
            stop = _end_of(item, count)
        if self._wants_keys():
            self._note_keys(item.data, item.start, stop)
        data = self._plan.rows(item.data, item.start, stop)
        self._count(data, count)
        return data

    def _count(self, data: bytes, count: int) -> None:
        self._returned += count
        self._bytes += len(data)
        self._hash.update(data)

    def _wants_keys(self) -> bool:
        return bool(self._keyed) and self._returned < self._keys_limit

    def _note_keys(self, data: bytes, at: int, stop: int) -> None:
        """The keys of the rows in `data[at:stop]`: columns that are never masked."""
        while at < stop:
            end = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
            values = messages.row_values(data, at + 5, end)
            at = end
            for known, columns in self._keyed:
                raw = [values[place] for _, place in columns]
                if len(known) < self._keys_limit and None not in raw:
                    texts = [(one or b"").decode("utf-8", "replace") for one in raw]
                    known.append(
                        tuple([Value(column=name, value=text) for (name, _), text in zip(columns, texts, strict=True)])
                    )

    @property
    def copies_query(self) -> str | None:
        """The query whose columns must be known before its rows are copied to the client, since some may be masked."""
        details = self.ruling.part.part.copies
        is_masked = details is not None and details.direction == "out" and bool(self.ruling.decision.mask)
        return details.query if details is not None and is_masked and self.copied is None else None

    def copy_begins(self) -> None:
        """COPY … TO STDOUT: how its stream is masked is planned."""
        details = self.ruling.part.part.copies
        if details is None or details.direction != "out":
            raise messages.ProtocolViolation("The database began to copy out what nothing asked for.")
        self._copy = masking.copy_plan(
            details, self.ruling.source, self._catalog, self.ruling.decision.mask, self.copied
        )

    def copy_data(self, item: Frame | Run) -> bytes:
        """CopyData messages, each of one row, as the client may see them. What comes after the cap is left out."""
        if self._copy is None:
            raise messages.ProtocolViolation("The database sent copied data without beginning to copy.")
        count, stop = item.count if isinstance(item, Run) else 1, item.stop
        room = None if self.cap is None else self.cap - self._returned
        if room is not None and count > room:
            self.over, count = True, max(room, 0)
            stop = _end_of(item, count)
        data = item.data[item.start : stop]
        if self._copy.may_change(data):
            data = b"".join(map(self._copied, Run(item.kind, item.data, item.start, stop, count).frames()))
        self._count(data, count)
        return data

    def _copied(self, frame: Frame) -> bytes:
        assert self._copy is not None
        data = self._copy.feed(frame.body)
        return messages.encode_copy_data(data) if data else b""

    def copy_ends(self) -> bytes:
        if self._copy is None:
            raise messages.ProtocolViolation("The database ended a copy that it had not begun.")
        data = self._copy.finish()
        self._count(data, 0)
        return messages.encode_copy_data(data) if data else b""

    def completed(self, tag: str) -> None:
        """The server is done with it."""
        self.tag = tag
        affected = self.affected
        if self.cap is not None and affected is not None and affected > self.cap:
            self.over = True

    @property
    def affected(self) -> int | None:
        """Rows changed, by the command's tag; None where it changes none."""
        word = (self.tag or "").split(" ")[0]
        copies = self.ruling.part.part.copies
        found = _COUNT.search(self.tag or "")
        if found and (word in _CHANGES or (word == "COPY" and copies is not None and copies.direction == "in")):
            return int(found[1])
        return None

    def failed(self, frame: Frame | Run, offset: int = 0) -> bytes:
        """The server's error, as the client may read it. `offset` characters stood before the text in what the client sent."""
        fields = messages.decode_error_response(frame.raw[5:]).fields
        if "P" in fields and offset and fields["P"].isdigit():
            fields["P"] = str(int(fields["P"]) + offset)
        shown = self.scrubbed(fields)
        self.error = shown
        return frame.raw if shown == fields and not offset else messages.encode_error_response(shown)

    def scrubbed(self, fields: dict[str, str]) -> dict[str, str]:
        """Fields of an error or a notice without what may hold protected values."""
        return masking.scrub(fields, self.ruling.source, self.ruling.decision.mask)

    def refusal(self) -> Refusal:
        """What the client reads when there were more rows than allowed."""
        cap = f"{self.cap:,} row{'' if self.cap == 1 else 's'}"
        done = "it was undone" if self.is_write else "the rest was not sent"
        decision = self.ruling.decision
        return Refusal(
            "54000",
            f"More than {cap} are not allowed here; {done}.",
            decision.hint or "Ask for fewer rows, or have the statement approved.",
            f"Rule {decision.rule}, version {decision.version} of the guardrails.",
        )

    def ended(self, at: float, outcome: Outcome | None, **more: Any) -> entries.Ended:
        """The entry that closes this statement."""
        counts = dict(self._plan.counts) if self._plan else {}
        columns = self._plan.columns if self._plan else ()
        if self._copy is not None:
            counts, columns = dict(self._copy.counts), self._copy.columns
        flags = tuple(more.pop("flags", ()))
        if self._returned and self._returned > sum(map(len, self._keys.values())):
            flags += (f"rows_sha256:{self._hash.hexdigest()}",)
        error = self.error or {}
        return entries.Ended(
            began=self.began,
            at=at,
            rows_returned=self._returned if self.fields is not None or self._copy is not None else None,
            rows_affected=self.affected,
            bytes_returned=self._bytes,
            error_code=more.pop("error_code", error.get("C")),
            error_message=more.pop("error_message", error.get("M")),
            masked=counts,
            masked_columns=columns,
            effects=self._effects(),
            transaction_id=self.transaction_id,
            outcome=outcome,
            flags=flags,
        )

    def _effects(self) -> tuple[Effect, ...] | None:
        """The statement's effects with the keys of the rows that were read; None where there were no keys."""
        if not any(self._keys.values()):
            return None
        found = []
        for effect in self.began.effects:
            name = f"{effect.schema}.{effect.relation}"
            read = self._keys.get(name, []) if effect.verb in ("read", "export") else []
            found.append(msgspec.structs.replace(effect, keys=tuple(read) or effect.keys))
        return tuple(found)


def _end_of(item: Frame | Run, count: int) -> int:
    """Where the first `count` messages end."""
    at = item.start
    for _ in range(count):
        at += 1 + int.from_bytes(item.data[at + 1 : at + 5], "big")
    return at
