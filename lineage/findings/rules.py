"""Rules and thresholds as they stand in TOML, and what somebody set instead, as the conditions that are asked."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from lineage import errors

SEVERITIES = ("high", "medium", "low")
OWN = "touchstone"
BEGINS = "json_extract_string(custody, '$.transition') is distinct from 'ends'"
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SEEN = "list_contains(flags, 'seen_by_gateway')"
FILE = Path(__file__).with_name("rules.toml")
Value = int | str | tuple[str, ...]
_NAME = re.compile(r"[^\x00-\x1f'{}]{1,100}")
_HOURS = re.compile(r"(\w{3})-(\w{3}) (\d\d:\d\d)-(\d\d:\d\d)")
_MOST = {"retry_minutes": 60}


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number, text or list of names that conditions ask for."""

    name: str
    title: str
    default: int | str | tuple[str, ...]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule. `about`: what goes on under the same value is one finding. `lasting`: it ends when the condition does.

    `needs`: what a record must meet, by itself, for the rule to find anything; of a condition without other records it is that.

    `about_source`: it tells of a source, and so an operator may triage it. `goes_on`: it counts how often it was told.
    """

    id: str
    severity: Literal["high", "medium", "low"]
    title: str
    means: str
    do: str
    sentence: str
    where: str
    needs: str = ""
    about: str = ""
    lasting: bool = False
    about_source: bool = False
    goes_on: bool = False


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    threshold: tuple[Threshold, ...]
    rule: tuple[Rule, ...]


class Ruleset(msgspec.Struct, frozen=True):
    """The rules, which of them are off, and the thresholds as they are set. `digest` is over both texts."""

    rules: tuple[Rule, ...]
    thresholds: tuple[Threshold, ...]
    values: dict[str, Value]
    off: tuple[str, ...]
    text: str
    digest: str

    @property
    def on(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.id not in self.off)

    def rule(self, code: str) -> Rule:
        """Raises KeyError."""
        return {rule.id: rule for rule in self.rules}[code]

    def condition(self, rule: Rule) -> str:
        """The rule's condition with the thresholds in it."""
        return self._with_thresholds(rule.where)

    def need(self, rule: Rule) -> str:
        """Without a record that meets this, among those judged and those before that are looked back at, the rule finds nothing."""
        return self._with_thresholds(rule.needs or rule.where)

    def _with_thresholds(self, words: str) -> str:
        asked = re.sub(r"\{ours:([a-z-]+)\}", lambda m: _ours(m[1]), words)
        asked = asked.replace("{begins}", BEGINS).replace("{seen}", SEEN)
        asked = asked.replace("{outside_hours}", _outside(str(self.values["usual_hours"])))
        for name, value in self.values.items():
            asked = asked.replace(f"{{{name}}}", _literal(value))
        return asked


def _ours(code: str) -> str:
    """The condition of a finding that the store's look at its sources made and logged."""
    return f"(source = '{OWN}' and custody_type = 'finding' and custody_subject = '{code}' and {BEGINS})"


def _literal(value: Value) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_literal(each) for each in value)}]::varchar[]"
    return str(value) if isinstance(value, int) else f"'{value}'"


def hours(text: str) -> tuple[set[int], dt.time, dt.time] | None:
    """ "Mon-Fri 08:00-18:00" (UTC) as weekdays and times; None when none are stated or they cannot be read."""
    match = _HOURS.fullmatch(text.strip())
    if match is None or match[1] not in DAYS or match[2] not in DAYS:
        return None
    first, last = DAYS.index(match[1]), DAYS.index(match[2])
    try:
        times = dt.time.fromisoformat(match[3]), dt.time.fromisoformat(match[4])
    except ValueError:
        return None
    return {(first + n) % 7 for n in range((last - first) % 7 + 1)}, *times


def _outside(text: str) -> str:
    stated = hours(text)
    if stated is None:
        return "false"
    days, opens, closes = stated
    inside = f"list_contains([{', '.join(str(day + 1) for day in sorted(days))}], isodow(occurred_at))"
    minute = "(hour(occurred_at) * 60 + minute(occurred_at))"
    first, end = (time.hour * 60 + time.minute for time in (opens, closes))
    return f"not ({inside} and {minute} >= {first} and {minute} < {end})"


@functools.cache
def _shipped() -> tuple[_File, str]:
    text = FILE.read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), _File), text


def load(text: str = "", usual_hours: str = "") -> Ruleset:
    """The shipped rules with what `text` (TOML: `off = […]`, `[thresholds]`) sets instead. Raises FindingInvalid.

    `usual_hours` stands where the text sets none.
    """
    file, shipped = _shipped()
    try:
        given = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise errors.FindingInvalid(f"The text is not TOML: {error}. Nothing was changed.") from error
    known = {threshold.name: threshold for threshold in file.threshold}
    wanted, off = given.pop("thresholds", {}), given.pop("off", [])
    codes = {rule.id for rule in file.rule}
    if given or not isinstance(wanted, dict) or not isinstance(off, list):
        raise errors.FindingInvalid("The text may hold `off`, a list of rules, and [thresholds]. Nothing was changed.")
    if unknown := [str(name)[:40] for name in [*off, *wanted] if name not in codes | set(known)]:
        raise errors.FindingInvalid(
            f"There is no rule or threshold {unknown[0]}. Nothing was changed.", field=unknown[0]
        )
    values: dict[str, Value] = {name: each.default for name, each in known.items()}
    values["usual_hours"] = usual_hours
    for name, value in wanted.items():
        values[name] = _checked(known[name], value)
    digest = hashlib.sha256(f"{shipped}\0{text}".encode()).hexdigest()
    return Ruleset(file.rule, file.threshold, values, tuple(off), text, digest)


def _checked(threshold: Threshold, value: Any) -> Value:
    name = threshold.name
    if isinstance(threshold.default, int):
        most = _MOST.get(name, 10**9)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise errors.FindingInvalid(f"“{threshold.title}” is a whole number from 1 to {most}.", field=name)
        return value
    if isinstance(threshold.default, tuple):
        if (
            not isinstance(value, list)
            or len(value) > 200
            or not all(isinstance(v, str) and _NAME.fullmatch(v) for v in value)
        ):
            raise errors.FindingInvalid(
                f"“{threshold.title}” is a list of at most 200 names without quotes.", field=name
            )
        return tuple(value)
    if not isinstance(value, str) or (value and hours(value) is None):
        raise errors.FindingInvalid(f"“{threshold.title}” is written like Mon-Fri 08:00-18:00.", field=name)
    return value


def write(values: dict[str, Value], off: list[str]) -> str:
    """The text that sets these values and switches these rules off; what is as shipped is left out."""
    file, _ = _shipped()
    lines = [f"off = {_toml(tuple(sorted(off)))}", "", "[thresholds]"]
    lines += [
        f"{t.name} = {_toml(values[t.name])}" for t in file.threshold if values.get(t.name, t.default) != t.default
    ]
    return "\n".join(lines) + "\n"


def _toml(value: Value) -> str:
    return msgspec.json.encode(value).decode()
