"""The session's own book: which statements began, how they ended, what was refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from enforcement.gateway import entries
from enforcement.gateway.effects import Catalog, JudgedPart
from enforcement.gateway.identity import Identity
from enforcement.gateway.session.judging import Judgement, Refusal, Ruling
from enforcement.gateway.session.outputs import ClientFacts, Decided, Place, Record
from enforcement.gateway.session.pipeline import Line
from enforcement.gateway.session.results import Execution
from lineage.events import Actor, Agent, Approval, Client, Effect, Outcome, Parameter, Policy, Resource, Value, Verdict

MOST_UNSETTLED = 1000
_ACCESS = {"read": "read", "export": "read", "ddl": "ddl", "privilege": "privilege"}


def session_facts(who: Identity, place: Place, client: ClientFacts, started_at: float) -> entries.SessionFacts:
    """Who works where, for every entry of the session."""
    return entries.SessionFacts(
        session_id=client.session_id,
        started_at=started_at,
        datasource=place.datasource,
        database=place.database,
        actor=Actor(
            id=who.id, name=who.name, email=who.email, type=who.type, db_user=place.account, roles=tuple(who.roles)
        ),
        on_behalf_of=who.on_behalf_of,
        delegation=who.delegation,
        agent=who.agent,
        client=Client(app=client.app, ip=client.ip, port=client.port, host=client.host),
        db_session_id=client.db_session_id,
        auth_method=who.auth_method,
        mfa=who.mfa,
        purpose=client.purpose or who.claims_purpose,
        ticket=client.ticket or who.claims_ticket,
    )


def approval(decided: Decided, requested_by: str) -> Approval:
    state = "requested" if decided.state == "pending" else decided.state
    return Approval(
        request_id=decided.request_id,
        state=state,
        approvers=(decided.by,) if decided.by else (),
        requested_by=requested_by,
        decided_at=decided.decided_at,
        reason=decided.reason,
        expires_at=decided.expires_at,
    )


def effects(part: JudgedPart) -> tuple[Effect, ...]:
    """The statement's effects, with the schemas that names were resolved to."""
    schemas = {(touch.verb, touch.relation): touch.schema for touch in part.touches}
    return tuple(
        Effect(
            verb=effect.verb,
            schema=effect.schema or schemas.get((effect.verb, effect.relation)),
            relation=effect.relation,
            columns=effect.columns,
            keys=tuple(
                tuple(
                    Value(column=column, state="null" if value is None else "present", value=value)
                    for column, value in key
                )
                for key in effect.keys or ()
            ),
        )
        for effect in part.part.statement.effects
    )


def resources(part: JudgedPart, database: str) -> tuple[Resource, ...]:
    """The objects touched, as the catalog names them."""
    return tuple(
        Resource(
            database=database,
            schema=touch.schema,
            relation=touch.relation,
            kind=touch.kind,
            columns=touch.columns,
            access=_ACCESS.get(touch.verb, "write"),  # type: ignore[arg-type]
        )
        for touch in part.touches
        if touch.relation is not None
    )


class Records:
    """Makes the entries. Outputs go through the line, so that they keep their place among the bytes."""

    def __init__(
        self,
        line: Line,
        facts: entries.SessionFacts,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        keys_limit: int,
    ) -> None:
        self.facts, self.new_id, self.clock = facts, new_id, clock
        self._line, self._keys_limit = line, keys_limit
        self._open: dict[str, Execution] = {}
        self._unsettled: list[Execution] = []

    def began(
        self,
        judgement: Judgement,
        number: int,
        correlation: str,
        catalog: Catalog,
        parameters: tuple[Parameter, ...] = (),
        decided: Decided | None = None,
        transaction_id: str | None = None,
    ) -> Execution:
        """Part `number` of a text is about to be forwarded: its entry goes out first."""
        ruling = judgement.rulings[number]
        verdict: Verdict = "masked" if ruling.decision.outcome == "mask" else "allowed"
        cap = ruling.decision.rows_over if ruling.decision.outcome == "limit" else None
        if decided is not None and ruling.decision.outcome == "approve":
            verdict, cap = "approved", decided.row_cap if decided.row_cap is not None else ruling.decision.rows_over
        known = approval(decided, self.requested_by) if decided else None
        entry = self._entry(
            judgement, ruling, verdict, f"{correlation}.{number + 1}", parameters, known, transaction_id
        )
        execution = Execution(entry, ruling, catalog, self._keys_limit, cap)
        self._open[entry.id] = execution
        self._line.output(Record(entry))
        return execution

    @property
    def requested_by(self) -> str:
        actor = self.facts.actor
        return actor.email or actor.id or "unknown"

    def _entry(
        self,
        judgement: Judgement,
        ruling: Ruling,
        verdict: Verdict,
        correlation: str | None,
        parameters: Sequence[Parameter],
        known: Approval | None,
        transaction_id: str | None,
    ) -> entries.Began:
        part, decision, why = ruling.part, ruling.decision, judgement.reasons
        assumed = any(touch.certainty != "exact" for touch in part.touches)
        flags = (*((entries.OPAQUE,) if part.opaque else ()), *((entries.ASSUMED,) if assumed else ()))
        return entries.Began(
            session=self.facts,
            id=self.new_id(),
            at=self.clock(),
            statement=judgement.text[part.part.text_start : part.part.text_end],
            verdict=verdict,
            op=part.part.statement.op,
            command=part.part.tag or part.part.statement.command,
            correlation_id=correlation,
            parameters=tuple(parameters),
            fingerprint=part.part.statement.fingerprint,
            purpose=why.purpose,
            ticket=why.ticket,
            run_id=why.run_id,
            tool_call_id=why.tool_call_id,
            policy=(
                Policy(id="guardrails", version=str(decision.version), rule=decision.rule, effect=decision.outcome),
            ),
            approval=known,
            resources=resources(part, self.facts.database),
            effects=effects(part),
            transaction_id=transaction_id,
            flags=flags,
        )

    def refused(
        self,
        judgement: Judgement,
        refusal: Refusal,
        parameters: tuple[Parameter, ...] = (),
        decided: Decided | None = None,
        verdict: Verdict = "blocked",
    ) -> None:
        """A text was not forwarded: one entry, with the whole text and the part that was gravest."""
        if not judgement.rulings:
            return
        worst = next(one for one in judgement.rulings if one.decision.outcome == judgement.worst.outcome)
        known = approval(decided, self.requested_by) if decided else None
        entry = self._entry(judgement, worst, verdict, None, parameters, known, None)
        if len(judgement.rulings) > 1:
            tags = "; ".join(dict.fromkeys(one.part.part.tag for one in judgement.rulings))[:500]
            entry = msgspec.structs.replace(entry, statement=judgement.text, command=tags)
        self._line.output(
            Record(entries.Refused(began=entry, at=self.clock(), sqlstate=refusal.sqlstate, sentence=refusal.sentence))
        )

    def refused_unread(self, command: str, refusal: Refusal) -> None:
        """A message that cannot be judged was not forwarded."""
        began = entries.Began(
            session=self.facts,
            id=self.new_id(),
            at=self.clock(),
            statement="",
            verdict="blocked",
            op="procedural",
            command=command,
            flags=(entries.OPAQUE,),
        )
        told = entries.Refused(began=began, at=began.at, sqlstate=refusal.sqlstate, sentence=refusal.sentence)
        self._line.output(Record(told))

    def unbegun(self, execution: Execution, refusal: Refusal, is_written: bool) -> None:
        """It, or another of its text, could not be written down: none of them runs. What was written is closed."""
        if is_written:
            self.not_run(execution, refusal.sqlstate, f"Not run: {refusal.sentence}")
        self._open.pop(execution.began.id, None)
        execution.is_ended = True

    def finished(self, execution: Execution) -> None:
        """Its answer is whole. The entry waits for the end of the transaction, where that is near."""
        execution.answered_at = execution.answered_at or self.clock()
        if self._open.pop(execution.began.id, None) is not None:
            self._unsettled.append(execution)
            if len(self._unsettled) >= MOST_UNSETTLED:
                self.settle(None)

    def not_run(
        self, execution: Execution, code: str = "25P02", why: str = "Not run: something before it failed."
    ) -> None:
        """It was not run; where nothing else is said, the database ignored it."""
        if self._open.pop(execution.began.id, None) is not None:
            self._end(execution, "rolled_back", error_code=code, error_message=why)

    def settle(self, outcome: Outcome | None, transaction_id: str | None = None) -> None:
        """Tells what finished. `outcome` None: the transaction is still open."""
        for execution in self._unsettled:
            execution.transaction_id = execution.transaction_id or transaction_id
            self._end(execution, "rolled_back" if execution.error and outcome else outcome)
        self._unsettled.clear()

    def give_up(self, code: str, why: str) -> None:
        """The session ends: nobody will know how what is open went."""
        self.settle("unknown")
        for execution in list(self._open.values()):
            self._end(execution, "unknown", flags=(entries.ANSWER_LOST,), error_code=code, error_message=why)
        self._open.clear()

    def scrubbed(self, fields: dict[str, str]) -> dict[str, str]:
        """What the database says at the end of a transaction, as the client may read it: any statement in it may be why."""
        for execution in self._unsettled:
            fields = execution.scrubbed(fields)
        return fields

    def _end(self, execution: Execution, outcome: Outcome | None, **more: object) -> None:
        execution.is_ended = True
        self._line.output(Record(execution.ended(execution.answered_at or self.clock(), outcome, **more)))


def identity_message(
    facts: entries.SessionFacts, agent: Agent | None, purpose: str | None, ticket: str | None
) -> dict[str, Any]:
    """Who writes, in the fields of `enforcement.context`."""
    actor, person = facts.actor, facts.on_behalf_of
    said = {
        "actor": actor.email or actor.id,
        "actor_type": actor.type,
        "on_behalf_of": (person.email or person.id) if person else None,
        "agent": msgspec.to_builtins(agent) if agent else None,
        "purpose": purpose,
        "ticket": ticket,
        "session_id": facts.session_id,
    }
    return {name: value for name, value in said.items() if value is not None}
