"""What the gateway writes into a transaction about who changes rows is what change capture reads."""

from __future__ import annotations

import json

from enforcement.gateway import entries
from enforcement.gateway.session.records import identity_message
from lineage.events import Actor, Agent, Client, Principal
from lineage.sources import pgoutput


def test_an_agents_message_is_read_back_as_person_and_agent() -> None:
    agent = Agent(id="report-bot", version="2.3", run_id="run-1")
    facts = entries.SessionFacts(
        session_id="s-1", started_at=1.0, datasource="shop", database="shop", actor=Actor(id="report-bot", type="agent"),
        on_behalf_of=Principal(id="dana@shop.example", email="dana@shop.example"), agent=agent, client=Client(),
    )  # fmt: skip
    said = json.dumps(identity_message(facts, agent, "Tidy up", None)).encode()
    claim = pgoutput._claim(said, {}, ())
    assert claim.flags == ("claim",)
    assert claim.agent == agent
    assert claim.actor is not None
    assert claim.actor.id == "report-bot"
    assert claim.on_behalf_of is not None
    assert claim.on_behalf_of.id == "dana@shop.example"
    assert (claim.purpose, claim.ticket, claim.session_id) == ("Tidy up", None, "s-1")
