"""Under which account of the database somebody works: the rules of the settings, by person, type and role. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from enforcement.gateway.identity import AGAIN, Identity, SignInRefused
from enforcement.gateway.settings import Account
from lineage.events import Principal


class AccountRefused(SignInRefused):
    """The token is good; this database has no account for whoever has it."""


def choose(identity: Identity, requested_user: str, datasource: str, rules: Sequence[Account]) -> Account:
    """The first account that `identity` may work under; the one that `requested_user` names, where it names one of them.

    `requested_user` is what the client gave as user: an account, or who signs in (id, e-mail address, agent's person).
    Raises AccountRefused.
    """
    if identity.databases is not None and datasource not in identity.databases:
        raise AccountRefused("database-refused", f"The token is not for this database. {AGAIN}")
    allowed = [rule for rule in rules if _allows(rule, identity)]
    if not allowed:
        raise AccountRefused(
            "account-missing",
            f"No account of this database is open to {_told(identity)}. Ask its operator: [[database.account]] says who may.",
        )
    named = [rule for rule in allowed if rule.account == requested_user]
    if named:
        return named[0]
    if requested_user.casefold() not in _names(identity) | _names(identity.on_behalf_of or identity):
        raise AccountRefused(
            "user-unknown",
            f"Give as user who you are ({identity.email or identity.id}), or an account that is open to you: "
            f"{', '.join(dict.fromkeys(rule.account for rule in allowed))}.",
        )
    return allowed[0]


def _allows(rule: Account, identity: Identity) -> bool:
    """Whether a rule is met. `people` and `roles` are met by an agent's person, and only where `types` names agents.

    An agent's own name decides nothing where a person stands behind it: that person chose it.
    """
    if rule.types and identity.type not in rule.types:
        return False
    if identity.type == "agent" and "agent" not in rule.types and (rule.people or rule.roles):
        return False
    names = _names(identity.on_behalf_of or identity)
    if rule.people and not any(fnmatchcase(name, person.casefold()) for name in names for person in rule.people):
        return False
    return not rule.roles or not set(rule.roles).isdisjoint(identity.roles)


def _names(one: Identity | Principal) -> set[str]:
    return {name.casefold() for name in (one.id, one.email) if name}


def _told(identity: Identity) -> str:
    kind = {"human": "", "service": "the service ", "agent": "the agent "}[identity.type]
    person = identity.on_behalf_of
    return f"{kind}{identity.email or identity.id}{f' for {person.email or person.id}' if person else ''}"
