"""From a text to what is decided about it: effects, then guardrails, then what the session itself demands."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import msgspec

from enforcement.gateway import masking, messages
from enforcement.gateway.effects import Catalog, Judged, JudgedPart, Scope, resolve
from enforcement.gateway.identity import Identity
from enforcement.gateway.session.outputs import Place
from enforcement.gateway.session.settings_tracking import Reasons, ours, refused_setting
from lineage import guardrails
from lineage.guardrails import Asked, Decision, Guardrails

_GRAVITY = ("block", "approve", "limit", "mask", "allow")
_ENDS_ELSEWHERE = (
    "A prepared transaction ends outside its session: it could not be told whether it was committed.",
    "End the transaction with COMMIT or ROLLBACK.",
)
_UNCOUNTED = (
    "What changes rows within WITH or EXPLAIN ANALYZE cannot be approved: the database does not say how many.",
    "Write it as an INSERT, UPDATE, DELETE or MERGE of its own.",
)
_NUMBERS = frozenset({20, 21, 23, 26})
_TEXTS = frozenset({18, 19, 25, 114, 1042, 1043})
_UUID = 2950
_TWO_PHASE = frozenset({"PREPARE TRANSACTION", "COMMIT PREPARED", "ROLLBACK PREPARED"})
_MOST_KEPT = 64


class Ruling(msgspec.Struct, frozen=True):
    """One part of a text, and what the guardrails say of it. `source` is what its answer is made of: a FETCH's is its cursor's."""

    part: JudgedPart
    decision: Decision
    source: JudgedPart


class Judgement(msgspec.Struct, frozen=True):
    """A whole text: `worst` is the gravest decision of its parts."""

    text: str
    judged: Judged
    rulings: tuple[Ruling, ...]
    worst: Decision
    reasons: Reasons

    @property
    def writes(self) -> bool:
        return any(one.part.writes for one in self.rulings)

    @property
    def sources(self) -> tuple[str, ...]:
        """What its EXECUTE and FETCH statements stand for: texts that are not in its own."""
        own = (self.text[one.part.part.text_start : one.part.part.text_end] for one in self.rulings)
        return tuple(one.source.text for one, text in zip(self.rulings, own, strict=True) if one.source.text != text)

    def between(self, first: int, last: int) -> Judgement:
        """The same of some of its statements only."""
        rulings = self.rulings[first:last]
        return msgspec.structs.replace(self, rulings=rulings, worst=gravest([one.decision for one in rulings]))


class Refusal(msgspec.Struct, frozen=True):
    """Why a statement does not run, as the client reads it."""

    sqlstate: str
    sentence: str
    hint: str = ""
    detail: str = ""
    schema: str = ""
    table: str = ""

    def encoded(self) -> bytes:
        fields = {
            "S": "ERROR", "V": "ERROR", "C": self.sqlstate, "M": self.sentence, "D": self.detail, "H": self.hint,
            "s": self.schema, "t": self.table,
        }  # fmt: skip
        return messages.encode_error_response(
            {letter: text.replace("\0", "") for letter, text in fields.items() if text}
        )


def gravest(decisions: Sequence[Decision]) -> Decision:
    """The one that counts for all together."""
    return min(decisions, key=lambda one: _GRAVITY.index(one.outcome))


def refusal(decision: Decision) -> Refusal:
    """The refusal that a decision means, naming the rule and the object."""
    schema, _, table = decision.object.rpartition(".")
    return Refusal(
        decision.sqlstate,
        decision.sentence,
        decision.hint,
        f"Rule {decision.rule}, version {decision.version} of the guardrails.",
        schema,
        table,
    )


def parameter_texts(
    values: Sequence[bytes | None], formats: Sequence[int], types: Sequence[int]
) -> tuple[str | None, ...]:
    """Bind values as text where that can be told without guessing; None for NULL and for what cannot."""
    found: list[str | None] = []
    for place, raw in enumerate(values):
        binary = formats[place] if len(formats) > 1 else formats[0] if formats else 0
        found.append(_text(raw, bool(binary), types[place] if place < len(types) else 0))
    return tuple(found)


def _text(raw: bytes | None, binary: bool, type_oid: int) -> str | None:
    if raw is None:
        return None
    if binary and type_oid in _NUMBERS and len(raw) in (2, 4, 8):
        return str(int.from_bytes(raw, "big", signed=type_oid != 26))
    if binary and type_oid == _UUID and len(raw) == 16:
        return f"{raw[:4].hex()}-{raw[4:6].hex()}-{raw[6:8].hex()}-{raw[8:10].hex()}-{raw[10:].hex()}"
    if binary and type_oid not in _TEXTS:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


class Judge:
    """Decides for one session, with the rules and the catalog of now."""

    def __init__(self, who: Identity, place: Place, rules: Guardrails, catalog: Catalog) -> None:
        self.who, self.place, self.rules, self.catalog = who, place, rules, catalog
        self._made: dict[tuple[object, ...], Judgement] = {}
        self._decided: dict[tuple[str, Asked], Decision] = {}

    def judge(
        self,
        text: str,
        parameters: Sequence[str | None],
        scope: Scope,
        prepared: Mapping[str, str],
        cursors: Mapping[str, Ruling],
        reasons: Reasons,
        catalog: Catalog,
    ) -> Judgement:
        """Every part of `text` decided. A FETCH is judged as the statement that its cursor was declared with."""
        key = (text, tuple(parameters), scope, reasons, self.rules.digest, catalog.version)
        if key in self._made and not prepared:
            return self._made[key]
        judged = resolve(text, parameters, catalog, scope, prepared)
        made = self._judgement(text, judged, cursors, reasons)
        if not prepared and not any(one.part.part.fetches for one in made.rulings):
            # The same statement mostly comes again; what it depends on is in the key.
            if len(self._made) >= _MOST_KEPT:
                self._made.clear()
            self._made[key] = made
        return made

    def refused_settings(self, settings: Mapping[str, str]) -> Refusal | None:
        """Why these settings may not hold from the start on: each is judged as the SET that it is."""
        for name, value in settings.items():
            place, told = name.replace('"', '""').replace(".", '"."'), value.replace("'", "''")
            worst = self.judge(f"set \"{place}\" = '{told}'", (), Scope(), {}, {}, Reasons(), self.catalog).worst
            if worst.outcome in ("block", "approve"):
                return refusal(worst)
        return None

    def _judgement(self, text: str, judged: Judged, cursors: Mapping[str, Ruling], reasons: Reasons) -> Judgement:
        rulings = tuple(self._ruling(part, cursors, reasons) for part in judged.parts)
        decisions = [one.decision for one in rulings] or [self._allowed()]
        return Judgement(text, judged, rulings, gravest(decisions), reasons)

    def _ruling(self, part: JudgedPart, cursors: Mapping[str, Ruling], reasons: Reasons) -> Ruling:
        source = part
        if part.part.fetches is not None:
            part = _fetched(part, cursors)
            source = cursors[part.part.fetches or ""].source if part.part.fetches in cursors else part
        decision = self._decide(self._asked(part, reasons))
        if decision.outcome != "block":
            decision = self._demanded(part, reasons, decision)
        return Ruling(part, decision, source)

    def _decide(self, asked: Asked) -> Decision:
        """What the rules say, which is the same for the same; statements that differ in values ask the same."""
        key = (self.rules.digest, asked)
        if key not in self._decided:
            if len(self._decided) >= _MOST_KEPT:
                self._decided.clear()
            self._decided[key] = guardrails.decide(self.rules, asked)
        return self._decided[key]

    def _asked(self, part: JudgedPart, reasons: Reasons) -> Asked:
        who, place = self.who, self.place
        person = who.on_behalf_of
        return Asked(
            actor_id=who.id,
            actor_type=who.type,
            actor_email=who.email or "",
            roles=who.roles,
            on_behalf_of=(person.email or person.id) if person else None,
            environment=place.environment,
            datasource=place.datasource,
            database=place.database,
            account=place.account,
            purpose=reasons.purpose,
            ticket=reasons.ticket,
            commands=part.commands,
            touches=part.touches,
            opaque=part.opaque,
            reason=part.reason,
            weakens=part.weakens,
        )

    def _demanded(self, part: JudgedPart, reasons: Reasons, decision: Decision) -> Decision:
        """What holds whatever the guardrails say: readable settings, maskable answers, agents with person and purpose."""
        if setting := refused_setting(part.part):
            return self._blocked(decision, "readable-settings", *setting)
        if part.part.tag in _TWO_PHASE:
            return self._blocked(decision, "one-phase", *_ENDS_ELSEWHERE, "0A000")
        if decision.outcome == "approve" and part.part.is_uncounted:
            return self._blocked(decision, "countable", *_UNCOUNTED)
        if decision.mask and (sentence := masking.refuse(part, self.catalog, decision.mask)):
            return self._blocked(decision, "maskable", sentence, "Select the columns you need by their names.")
        if self.who.type != "agent" or not part.writes or ours(part.part):
            return decision
        if self.who.on_behalf_of is None:
            sentence = "An agent that works for nobody may not write."
            return self._blocked(
                decision, "agent-for-a-person", sentence, "Sign in with a token that names a person (act)."
            )
        if not reasons.purpose:
            sentence = "An agent says why before it writes."
            hint = "SET touchstone.purpose = '…', or a comment /*purpose='…'*/ in the statement."
            return self._blocked(decision, "agent-says-why", sentence, hint)
        return decision

    def _blocked(self, decision: Decision, rule: str, sentence: str, hint: str, sqlstate: str = "42501") -> Decision:
        return msgspec.structs.replace(
            decision, outcome="block", rule=rule, sentence=sentence, hint=hint, sqlstate=sqlstate, rows_over=None
        )

    def _allowed(self) -> Decision:
        """For a text without statements."""
        return guardrails.decide(self.rules, self._asked(_NOTHING, Reasons()))

    def digest(
        self,
        judgement: Judgement,
        scope: Scope,
        values: Sequence[bytes | None] = (),
        formats: Sequence[int] = (),
        types: Sequence[int] = (),
    ) -> str:
        """SHA-256 (hex) over everything that an approval is for: what would run, on what, where, by whom and for whom.

        The same text on other tables, or an EXECUTE of what was prepared anew under its name, is another request.
        """
        who, person = self.who, self.who.on_behalf_of
        touched = sorted({f"{touch.verb} {touch.name}" for touch in judgement.judged.touches})
        held = [
            judgement.text, judgement.sources, touched, scope.path, scope.role,
            [None if value is None else value.hex() for value in values], list(formats), list(types),
            self.place.datasource, self.place.database, self.place.account, who.id,
            who.agent.id if who.agent else None, (person.id or person.email) if person else None,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(held, ensure_ascii=True, separators=(",", ":")).encode()).hexdigest()


_NOTHING = JudgedPart(part=None, touches=(), opaque=False, reason=None, commands=(), weakens=())  # type: ignore[arg-type]


def _fetched(part: JudgedPart, cursors: Mapping[str, Ruling]) -> JudgedPart:
    cursor = cursors.get(part.part.fetches or "")
    if cursor is None:
        return msgspec.structs.replace(
            part, opaque=True, reason="it fetches from a cursor that was not seen to be declared"
        )
    inner = cursor.part
    return msgspec.structs.replace(
        part,
        touches=inner.touches,
        opaque=inner.opaque,
        reason=inner.reason,
        protected_columns=inner.protected_columns,
        text=inner.text,
    )
