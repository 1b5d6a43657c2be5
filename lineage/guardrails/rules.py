"""Rules as they stand in TOML: read strictly, so that a word misspelt is an error and not a rule that never matches."""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from lineage import errors
from lineage.guardrails.asking import Outcome

Verb = Literal[
    "read", "insert", "update", "delete", "truncate", "ddl", "privilege", "export", "import", "procedural", "session",
    "opaque",
]  # fmt: skip
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_WITH_CAP = frozenset({"limit", "approve"})


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule; an empty condition holds for all.

    `verbs`, `relations`, `classes`, `unconditional` and `bulk` must hold together for one touched relation (of an `allow`
    rule with `first`: for every one); all other conditions hold for the statement. Names may have `*` as a wildcard. In a
    `mask` rule `classes` are what to mask. `bulk` are changes whose rows no key fixes; `weakens` what takes away from
    auditing or change capture; `missing` holds when one of person, purpose and ticket is not given.
    """

    id: str
    outcome: Outcome
    title: str = ""
    first: bool = False
    environments: tuple[str, ...] = ()
    verbs: tuple[Verb, ...] = ()
    commands: tuple[str, ...] = ()
    who: tuple[Literal["human", "service", "agent"], ...] = ()
    people: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    datasources: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    unconditional: bool = False
    bulk: bool = False
    opaque: bool = False
    weakens: bool = False
    missing: tuple[Literal["person", "purpose", "ticket"], ...] = ()
    rows_over: int | None = None
    except_people: tuple[str, ...] = ()
    hint: str = ""

    @property
    def names_touches(self) -> bool:
        """Whether it has conditions on what is touched. A mask rule's classes are none."""
        classes = () if self.outcome == "mask" else self.classes
        return bool(self.verbs or self.relations or classes or self.unconditional or self.bulk)


class Guardrails(msgspec.Struct, frozen=True):
    """Rules in the order of their text, with the text itself and its SHA-256."""

    version: int
    text: str
    digest: str
    rules: tuple[Rule, ...]


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    version: int = 0
    rule: tuple[dict[str, Any], ...] = ()


def load(text: str) -> Guardrails:
    """The rules of a TOML text. Raises errors.GuardrailsInvalid, which names rule and field."""
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise errors.GuardrailsInvalid(f"The text is not TOML: {error}.") from error
    _known(raw, _Document, "the text")
    try:
        document = msgspec.convert(raw, _Document)
    except msgspec.ValidationError as error:
        raise errors.GuardrailsInvalid(f"The text: {error}.") from error
    rules = tuple(_rule(fields, place) for place, fields in enumerate(document.rule, 1))
    twice = sorted({rule.id for rule in rules if [other.id for other in rules].count(rule.id) > 1})
    if twice:
        raise errors.GuardrailsInvalid(
            f"Two rules have the id {twice[0]}. Give each its own.", rule=twice[0], field="id"
        )
    return Guardrails(document.version, text, hashlib.sha256(text.encode()).hexdigest(), rules)


def _rule(fields: dict[str, Any], place: int) -> Rule:
    name = str(fields.get("id") or f"number {place}")
    _known(fields, Rule, f"rule {name}", name)
    try:
        rule = msgspec.convert(fields, Rule)
    except msgspec.ValidationError as error:
        field = str(error).partition("`$.")[2].partition("`")[0].partition("[")[0]
        raise errors.GuardrailsInvalid(f"Rule {name}: {error}.", rule=name, field=field) from error
    for field, fault in _faults(rule, fields):
        raise errors.GuardrailsInvalid(f"Rule {name}: {fault}", rule=name, field=field)
    return rule


def _known(fields: dict[str, Any], struct: type[msgspec.Struct], where: str, rule: str = "") -> None:
    for field in fields:
        if field in struct.__struct_fields__:
            continue
        near = difflib.get_close_matches(field, struct.__struct_fields__, 1, 0.5)
        advice = f"Did you mean `{near[0]}`?" if near else f"It may have {', '.join(struct.__struct_fields__)}."
        raise errors.GuardrailsInvalid(
            f"{where[0].upper()}{where[1:]} has a field `{field}`, which is not known. {advice}", rule=rule, field=field
        )


def _faults(rule: Rule, fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong in a rule although each value is of its type: field and sentence."""
    if not _ID.fullmatch(rule.id):
        yield "id", "an id is lower-case words joined by hyphens, such as `no-drop`."
    if any("." not in name and name != "*" for name in rule.relations):
        yield "relations", "relations are written with their schema, such as `public.customers` or `*.customers`."
    yield from _faults_of_outcome(rule)
    for field, value in fields.items():
        if value is False:
            yield field, f"`{field} = false` says nothing; leave it out."
        if isinstance(value, list) and (not value or "" in value):
            yield field, f"`{field}` is empty, so nothing would match; leave it out or fill it."


def _faults_of_outcome(rule: Rule) -> Iterator[tuple[str, str]]:
    if rule.rows_over is not None and (rule.outcome not in _WITH_CAP or rule.rows_over < 1):
        yield "rows_over", "`rows_over` is at least 1 and stands only with the outcomes limit and approve."
    if rule.outcome == "limit" and rule.rows_over is None:
        yield "rows_over", "the outcome limit needs `rows_over`, the number of rows."
    if rule.outcome == "mask" and not rule.classes:
        yield "classes", 'the outcome mask needs `classes`, what to mask; `["*"]` is every class.'
    if rule.first and rule.outcome != "allow":
        yield "first", "only rules with the outcome allow are looked at first."
