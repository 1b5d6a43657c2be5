"""Which account of the database who gets: by person, type, role and the user that the client gave."""

from __future__ import annotations

from typing import Any

import pytest

from enforcement.gateway import accounts
from enforcement.gateway.accounts import AccountRefused
from enforcement.gateway.identity import Identity
from enforcement.gateway.settings import Account
from lineage.events import Principal
from tests.enforcement.gateway.tokens import AT

DANA = Principal(id="u-7", email="dana@shop.example", type="human")


def account(name: str, **rule: Any) -> Account:
    return Account(account=name, password_file="/none", **rule)


RULES = (
    account("dba_rw", roles=("dba",)),
    account("bots", types=("agent",), people=("*@shop.example",)),
    account("app", types=("human", "service"), people=("*@SHOP.example", "nightly")),
)


def who(**more: Any) -> Identity:
    told = {
        "id": "u-7",
        "email": "dana@shop.example",
        "type": "human",
        "auth_method": "oidc",
        "token_id": "",
        "expires_at": AT,
    }
    return Identity(**{**told, **more})


AGENT = {"id": "report-bot", "email": None, "type": "agent", "on_behalf_of": DANA}


def chosen(identity: Identity, user: str, rules: tuple[Account, ...] = RULES) -> str:
    return accounts.choose(identity, user, "shop", rules).account


def refused(identity: Identity, user: str, rules: tuple[Account, ...] = RULES) -> AccountRefused:
    with pytest.raises(AccountRefused) as found:
        accounts.choose(identity, user, "shop", rules)
    return found.value


def test_the_first_account_whose_rules_fit_is_chosen() -> None:
    assert chosen(who(), "dana@shop.example") == "app"
    assert chosen(who(roles=("dba",)), "dana@shop.example") == "dba_rw"
    assert chosen(who(id="nightly", email=None, type="service"), "nightly") == "app"


def test_the_user_of_the_client_names_one_of_the_open_accounts_or_who_it_is() -> None:
    dba = who(roles=("dba",))
    assert chosen(dba, "app") == "app"
    assert chosen(dba, "Dana@Shop.Example") == chosen(dba, "u-7") == "dba_rw"
    error = refused(dba, "postgres")
    assert error.code == "user-unknown"
    assert "dba_rw, app" in error.sentence
    assert "dba_rw" not in refused(who(), "postgres").sentence


def test_an_account_that_the_rules_do_not_open_is_not_had_by_asking_for_it() -> None:
    assert refused(who(), "dba_rw").code == "user-unknown"
    assert refused(who(), "bots").code == "user-unknown"


def test_nobody_gets_in_where_no_rule_fits() -> None:
    stranger = who(id="x", email="x@else.example")
    error = refused(stranger, "x@else.example")
    assert error.code == "account-missing"
    assert "x@else.example" in error.sentence
    assert refused(who(), "dana@shop.example", ()).code == "account-missing"


def test_an_agent_has_its_persons_accounts_only_where_agents_are_named() -> None:
    agent = who(**AGENT, roles=("dba",))
    assert chosen(agent, "report-bot") == chosen(agent, "dana@shop.example") == "bots"
    rules: list[dict[str, tuple[str, ...]]] = [
        {"people": ("dana@shop.example",)}, {"people": ("*",)}, {"roles": ("dba",)}, {"types": ("human",)},
        {"people": ("report-*",), "types": ("agent",)},
    ]  # fmt: skip
    for rule in rules:
        assert refused(agent, "report-bot", (account("app", **rule),)).code == "account-missing"
    assert chosen(agent, "report-bot", (account("all"),)) == "all"
    alone = who(**{**AGENT, "on_behalf_of": None})
    assert refused(alone, "report-bot").code == "account-missing"
    assert chosen(alone, "report-bot", (account("own", people=("report-*",), types=("agent",)),)) == "own"


def test_an_agent_that_a_person_named_after_another_gets_nothing_of_the_others() -> None:
    posing = who(**{**AGENT, "id": "carol@shop.example"}, roles=())
    rules = (account("carols", people=("carol@shop.example",)), account("bots", types=("agent",), people=("carol@*",)))
    assert refused(posing, "carol@shop.example", rules).code == "account-missing"


def test_a_token_for_one_database_does_not_open_another() -> None:
    assert chosen(who(databases=("shop", "hr")), "app") == "app"
    for named in ((), ("hr",)):
        assert refused(who(databases=named), "app").code == "database-refused"
