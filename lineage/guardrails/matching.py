"""One rule made ready to be asked often: its names as patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from lineage.guardrails.asking import UNKNOWN, Asked, Touch
from lineage.guardrails.rules import Guardrails, Rule

_CHANGES = frozenset({"update", "delete"})
_FIELDS = ("commands", "people", "except_people", "roles", "datasources", "accounts", "relations", "classes")
Pattern = re.Pattern[str] | None
"""None where there is nothing to match."""


@dataclass(slots=True)
class Ready:
    """A rule whose conditions on environment and kind of actor hold. A pattern is None where the rule has no such condition."""

    rule: Rule
    commands: Pattern = field(init=False)
    people: Pattern = field(init=False)
    except_people: Pattern = field(init=False)
    roles: Pattern = field(init=False)
    datasources: Pattern = field(init=False)
    accounts: Pattern = field(init=False)
    relations: Pattern = field(init=False)
    classes: Pattern = field(init=False)

    def __post_init__(self) -> None:
        for name in _FIELDS:
            setattr(self, name, pattern(getattr(self.rule, name)))

    def holds(self, asked: Asked) -> bool:
        """Whether the conditions on the statement as a whole hold."""
        rule = self.rule
        if (rule.opaque and not asked.opaque) or (rule.weakens and not asked.weakens):
            return False
        if self.commands and not self._commands(self.commands, asked):
            return False
        return self._place(asked) and self._person(asked) and (not rule.missing or _misses(rule, asked))

    def _commands(self, named: re.Pattern[str], asked: Asked) -> bool:
        if self.rule.first:
            return bool(asked.commands) and all(map(named.fullmatch, asked.commands))
        return _any(named, asked.commands)

    def _place(self, asked: Asked) -> bool:
        if self.datasources and not self.datasources.fullmatch(asked.datasource):
            return False
        return not self.accounts or bool(self.accounts.fullmatch(asked.account))

    def _person(self, asked: Asked) -> bool:
        if self.roles and not _any(self.roles, asked.roles):
            return False
        if not self.people and not self.except_people:
            return True
        own = _names(asked)
        if self.except_people and _any(self.except_people, own):
            return False
        if self.rule.outcome != "allow":
            # Whoever stands behind counts too where that is stricter.
            own = (*own, asked.on_behalf_of or asked.actor_id)
        return not self.people or _any(self.people, own)

    def touched(self, asked: Asked) -> tuple[bool, Touch | None]:
        """Whether the conditions on what is touched hold, and for which touch.

        An `allow` rule with `first` opens only what it covers whole: every touch, and nothing that cannot be told.
        """
        rule = self.rule
        if rule.first and asked.opaque and not rule.opaque:
            return False, None
        if not rule.names_touches:
            return True, None
        if rule.first:
            return bool(asked.touches) and all(self._fits(touch, is_open=False) for touch in asked.touches), None
        if "opaque" in rule.verbs and asked.opaque and not (rule.relations or rule.classes or rule.unconditional):
            return True, None
        is_open = rule.outcome != "allow"
        for touch in asked.touches:
            if self._fits(touch, is_open=is_open):
                return True, touch
        return False, None

    def _fits(self, touch: Touch, *, is_open: bool) -> bool:
        """Whether one touch meets the rule; `is_open`: what is not known counts as what the rule names."""
        rule = self.rule
        if (rule.verbs and touch.verb not in rule.verbs) or (rule.unconditional and not touch.unconditional):
            return False
        if rule.bulk and (touch.verb not in _CHANGES or touch.keys is not None):
            return False
        is_unknown = is_open and UNKNOWN in touch.classes
        if self.relations and not self.relations.fullmatch(touch.name) and not (is_unknown and self._may_be(touch)):
            return False
        return self.classes is None or is_unknown or rule.outcome == "mask" or _any(self.classes, touch.classes)

    def _may_be(self, touch: Touch) -> bool:
        """Whether a relation that the catalog does not know may be one that the rule names; system relations are known."""
        schemas = [name.rpartition(".")[0].lower() for name in self.rule.relations]
        named = tuple(schema for schema in schemas if not schema.startswith("pg_") and schema != "information_schema")
        if touch.certainty == "exact" or not named:
            return False
        found = pattern(named)
        return touch.schema is None or found is None or bool(found.fullmatch(touch.schema))

    def shows(self, asked: Asked) -> bool:
        """Whether the statement touches, or may touch, columns of the rule's classes."""
        if asked.opaque:
            return True
        return any(
            UNKNOWN in touch.classes or (self.classes is not None and _any(self.classes, touch.classes))
            for touch in asked.touches
            if touch.classes
        )


def _names(asked: Asked) -> tuple[str, ...]:
    """By what names somebody is known. An agent chooses its own name, so only its person's counts."""
    if asked.actor_type == "agent":
        return (asked.on_behalf_of,) if asked.on_behalf_of else ()
    return (asked.actor_id, asked.actor_email or asked.actor_id)


def _misses(rule: Rule, asked: Asked) -> bool:
    given = {"person": asked.on_behalf_of, "purpose": asked.purpose, "ticket": asked.ticket}
    return any(not given[name] for name in rule.missing)


def _any(named: re.Pattern[str], values: Iterable[str]) -> bool:
    return any(map(named.fullmatch, values))


def pattern(names: tuple[str, ...]) -> Pattern:
    """A match of one of the names, whole and without regard to case; only `*` is a wildcard."""
    if not names:
        return None
    return re.compile("|".join(".*".join(map(re.escape, name.split("*"))) for name in names), re.I | re.S)


class _ByDigest:
    """Hashes and compares guardrails by their digest, which stands for all that is in them."""

    __slots__ = ("rules",)

    def __init__(self, rules: Guardrails) -> None:
        self.rules = rules

    def __hash__(self) -> int:
        return hash(self.rules.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByDigest) and self.rules.digest == other.rules.digest


def ready(rules: Guardrails, environment: str, actor_type: str) -> tuple[Ready, ...]:
    """The rules that may hold for this kind of actor in this environment."""
    return _ready(_ByDigest(rules), environment, actor_type)


@lru_cache(maxsize=256)
def _ready(key: _ByDigest, environment: str, actor_type: str) -> tuple[Ready, ...]:
    found = []
    for rule in key.rules.rules:
        environments = pattern(rule.environments)
        is_here = environments is None or environments.fullmatch(environment)
        if is_here and (not rule.who or actor_type in rule.who):
            found.append(Ready(rule))
    return tuple(found)
