"""A statement that a person must approve: asked for, waited for inside a transaction, refused with what to do outside."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import msgspec

from enforcement.gateway import messages
from enforcement.gateway.session.judging import Judgement, Refusal, parameter_texts
from enforcement.gateway.session.outputs import Ask, Decided, Hold, Preview, Previewed, Withdraw
from enforcement.gateway.session.state import State, Wait
from lineage.exchanged import Parameter
from lineage.statements import analyse

SHOWN = 16 * 1024


class Held(msgspec.Struct, frozen=True):
    """How a hold ended: `decided` approved, or the refusal."""

    decided: Decided | None
    refusal: Refusal | None


class Desk:
    """What was answered to this session's one question at a time."""

    def __init__(self) -> None:
        self.previewed: Previewed | None = None
        self.decided: Decided | None = None
        self.waiting: Hold | None = None

    def ask(self, hold: Hold) -> None:
        self.decided, self.waiting = None, hold

    def told(self, answer: Decided | Previewed) -> None:
        if isinstance(answer, Previewed):
            self.previewed = answer
        elif self.waiting is not None and answer.digest == self.waiting.digest:
            self.decided = answer


def held(
    state: State,
    desk: Desk,
    judgement: Judgement,
    values: Sequence[bytes | None] = (),
    formats: Sequence[int] = (),
    types: Sequence[int] = (),
) -> Generator[Wait, None, Held]:
    """Asks the desk about `judgement`, and waits as long as the session's transaction allows."""
    state.is_holding = True
    request_id = state.new_id()
    texts = parameter_texts(values, formats, types)
    preview = yield from _preview(state, desk, request_id, judgement, texts)
    in_transaction = state.line.status == messages.IN_TRANSACTION
    until = state.clock() + state.place.hold_seconds if in_transaction else None
    digest = state.judge.digest(judgement, state.known_scope(), values, formats, types)
    hold = _hold(state, judgement, request_id, digest, preview, until, _shown(values, texts))
    desk.ask(hold)
    state.line.output(Ask(hold))
    answer_by = state.clock() + state.place.answer_seconds
    yield lambda: desk.decided is not None or state.clock() >= answer_by
    if until is not None:
        yield lambda: _is_final(desk.decided) or state.clock() >= until
    decided, desk.waiting, state.is_holding = desk.decided, None, False
    if decided is not None and decided.state == "approved":
        return Held(decided, None)
    if decided is None or (in_transaction and decided.state == "pending"):
        state.line.output(Ask(Withdraw((decided or hold).request_id, digest)))
    return Held(decided, _refusal(judgement, decided, in_transaction))


def _is_final(decided: Decided | None) -> bool:
    return decided is not None and decided.state != "pending"


def _preview(
    state: State, desk: Desk, request_id: str, judgement: Judgement, texts: tuple[str | None, ...]
) -> Generator[Wait, None, Previewed]:
    """What the database expects; nothing for texts of several statements."""
    if len(judgement.rulings) != 1:
        return Previewed(request_id=request_id)
    desk.previewed = None
    scope = state.scope
    inner = judgement.sources[0] if judgement.sources else None
    question = Preview(
        request_id=request_id,
        statement=judgement.text if inner is None else inner,
        parameters=texts if inner is None else (None,),
        account=state.place.account,
        search_path=tuple(scope.search_path or ()) if scope else (),
        role=scope.role if scope else state.place.account,
    )
    state.line.output(Ask(question))
    deadline = state.clock() + state.place.answer_seconds
    yield lambda: desk.previewed is not None or state.clock() >= deadline
    return desk.previewed or Previewed(request_id=request_id)


def _shown(values: Sequence[bytes | None], texts: Sequence[str | None]) -> tuple[Parameter, ...]:
    """The values for a person: whole, and those that are no text as what was sent."""
    return tuple(
        Parameter(position=number, value="\\x" + raw.hex(), binary=True)
        if text is None and raw is not None
        else Parameter(position=number, value=text)
        for number, (raw, text) in enumerate(zip(values, texts, strict=True), 1)
    )


def _hold(
    state: State,
    judgement: Judgement,
    request_id: str,
    digest: str,
    preview: Previewed,
    until: float | None,
    parameters: tuple[Parameter, ...],
) -> Hold:
    place, who, decision = state.place, state.judge.who, judgement.worst
    redacted = [one.part.part.statement.redacted for one in judgement.rulings]
    redacted += [analyse(source).redacted for source in judgement.sources]
    person = who.on_behalf_of
    return Hold(
        request_id=request_id,
        digest=digest,
        session_id=state.client.session_id,
        statement_id=state.new_id(),
        requested_by=state.records.requested_by,
        on_behalf_of=(person.email or person.id) if person else None,
        agent=(who.agent.id or who.agent.name) if who.agent else None,
        datasource=place.datasource,
        environment=place.environment,
        database=place.database,
        account=place.account,
        purpose=judgement.reasons.purpose,
        ticket=judgement.reasons.ticket,
        redacted="; ".join(redacted)[:SHOWN],
        statement="\n-- which stands for:\n".join((judgement.text, *judgement.sources)),
        parameters=parameters,
        effects=_effects(judgement),
        estimated_rows=preview.plan_rows,
        plan=preview.plan_text,
        rule=decision.rule,
        rule_version=decision.version,
        sentence=decision.sentence,
        in_transaction=until is not None,
        hold_until=until,
        row_cap=decision.rows_over,
    )


def _effects(judgement: Judgement) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "verb": touch.verb,
            "schema": touch.schema,
            "relation": touch.relation,
            "columns": list(touch.columns),
            "written": list(touch.written),
            "classes": list(touch.classes),
            "certainty": touch.certainty,
            "unconditional": touch.unconditional,
        }
        for touch in judgement.judged.touches
    )


def _refusal(judgement: Judgement, decided: Decided | None, in_transaction: bool) -> Refusal:
    decision = judgement.worst
    detail = f"Rule {decision.rule}, version {decision.version} of the guardrails."
    if decided is None:
        hint = "Try again; if this stays so, tell the operator that the gateway's approval desk does not answer."
        return Refusal("42501", f"{decision.sentence} Nobody could be asked.", hint, detail)
    if decided.state == "rejected":
        why = f": {decided.reason}" if decided.reason else ""
        return Refusal("42501", f"{decided.by or 'An approver'} refused this statement{why}.", decision.hint, detail)
    if decided.state == "expired":
        return Refusal("42501", "The approval of this statement has expired.", "Run it again to ask once more.", detail)
    asked = f"Approval was asked for as request {decided.request_id}."
    if in_transaction:
        hint = f"{asked} Nobody decided in time: run the same transaction again, or the statement outside of one."
    else:
        hint = f"{asked} Run the same statement again once it is approved."
    return Refusal("42501", decision.sentence, hint, detail)
