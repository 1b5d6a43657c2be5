"""Under which account of the database somebody works: the rules of the settings, by person, type and role. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from enforcement.gateway.identity import AGAIN, Identity, SignInRefused
from enforcement.gateway.settings import Account


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
    if requested_user.casefold() not in _names(identity, with_person=True):
        raise AccountRefused(
            "user-unknown",
            f"Give as user who you are ({identity.email or identity.id}), or an account that is open to you: "
            f"{', '.join(dict.fromkeys(rule.account for rule in allowed))}.",
        )
    return allowed[0]


def _allows(rule: Account, identity: Identity) -> bool:
    """An agent counts as the person it works for, and has that person's roles, only where `types` names agents."""
    if rule.types and identity.type not in rule.types:
        return False
    lent = identity.type != "agent" or "agent" in rule.types
    names = _names(identity, with_person=lent)
    if rule.people and not any(fnmatchcase(name, person.casefold()) for name in names for person in rule.people):
        return False
    return not rule.roles or (lent and not set(rule.roles).isdisjoint(identity.roles))


def _names(identity: Identity, with_person: bool) -> set[str]:
    person = identity.on_behalf_of if with_person else None
    found = (identity.id, identity.email, person.id if person else None, person.email if person else None)
    return {name.casefold() for name in found if name}


def _told(identity: Identity) -> str:
    kind = {"human": "", "service": "the service ", "agent": "the agent "}[identity.type]
    person = identity.on_behalf_of
    return f"{kind}{identity.email or identity.id}{f' for {person.email or person.id}' if person else ''}"
