"""PostgreSQL's `log_line_prefix` read backwards: the declared prefix anchors each line of a stderr log.

User, database and application names are free text that a client chooses, so a line may be readable in more than one
way. All readings are tried; a line with two is `ambiguous`, and nothing in it is believed.
"""

from __future__ import annotations

import functools
import re

import msgspec

DEFAULT = "%m [%p] "
SECONDARY = frozenset({"DETAIL", "HINT", "QUERY", "CONTEXT", "LOCATION", "STATEMENT", "BACKTRACE"})
_SEVERITY = re.compile(
    r"(LOG|ERROR|FATAL|PANIC|WARNING|NOTICE|INFO|DEBUG[1-5]?|DETAIL|HINT|QUERY|CONTEXT|LOCATION|STATEMENT|BACKTRACE):  "
)
_CODE = re.compile(r"((?:\d[0-9A-Z]|F0|HV|P0|XX)[0-9A-Z]{3}): ")
_HEAD_LIMIT = 1200
_READINGS_LIMIT = 16

_NAME = r"[^\n]{0,63}"
_ESCAPES = {
    "a": _NAME,
    "u": _NAME,
    "d": _NAME,
    "r": r"\[local\]|[^\s()]{1,255}\(\d{1,5}\)|",
    "h": r"\[local\]|[^\s()]{1,255}|",
    "b": r"[^\n]{0,96}?",
    "p": r"\d{1,10}",
    "P": r"\d{0,10}",
    "t": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (?:[A-Za-z]{1,6}|[+-]\d\d(?::?\d\d)?)",
    "m": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (?:[A-Za-z]{1,6}|[+-]\d\d(?::?\d\d)?)",
    "s": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (?:[A-Za-z]{1,6}|[+-]\d\d(?::?\d\d)?)",
    "n": r"\d{1,12}\.\d{3}",
    "i": r"[A-Za-z ]{0,63}",
    "e": r"[0-9A-Z]{5}",
    "c": r"[0-9a-f]{1,16}\.[0-9a-f]{1,8}",
    "l": r"\d{1,20}",
    "v": r"(?:-?\d{1,10}/\d{1,10})?",
    "x": r"\d{1,20}",
    "Q": r"-?\d{1,20}",
}
_ESCAPE = re.compile(r"%(-?\d{1,3})?([A-Za-z%])")


class Head(msgspec.Struct, gc=False):
    """The start of one log line: the prefix's escapes by letter, severity, SQLSTATE where verbose, and the text."""

    fields: dict[str, str]
    severity: str
    text: str
    ambiguous: bool = False

    def process(self) -> str:
        """What tells lines of one process from another's; empty when the prefix does not say."""
        return self.fields.get("c") or self.fields.get("p") or ""


@functools.lru_cache(maxsize=32)
def compiled(prefix: str) -> re.Pattern[str]:
    """The pattern of a prefix. An escape that PostgreSQL does not know stands for nothing, as there."""
    session_only = False
    pattern = []
    seen: set[str] = set()
    place = 0
    for match in _ESCAPE.finditer(prefix):
        pattern.append(re.escape(prefix[place : match.start()]))
        place = match.end()
        padded, letter = match.groups()
        if letter == "%":
            pattern.append("%")
        elif letter == "q" and not session_only:
            session_only = True
            pattern.append("(?:")
        elif letter in _ESCAPES:
            group = f"(?P<{letter}>{_ESCAPES[letter]})" if letter not in seen else f"(?:{_ESCAPES[letter]})"
            seen.add(letter)
            pattern.append(f" *{group} *" if padded else group)
    pattern.append(re.escape(prefix[place:]) + (")?" if session_only else ""))
    return re.compile("".join(pattern))


def head(line: str, pattern: re.Pattern[str]) -> Head | None:
    """The start of a line, or None when the line does not begin with the prefix and a severity."""
    found: Head | None = None
    for count, match in enumerate(_SEVERITY.finditer(line, 0, _HEAD_LIMIT)):
        prefix = pattern.fullmatch(line, 0, match.start())
        if prefix is None and count < _READINGS_LIMIT:
            continue
        if found is not None:
            found.ambiguous = True
            return found
        if prefix is not None:
            found = _head(line, match, prefix)
    return found


def _head(line: str, severity: re.Match[str], prefix: re.Match[str]) -> Head:
    fields = {letter: text.strip() for letter, text in prefix.groupdict().items() if text}
    text = line[severity.end() :]
    code = _CODE.match(text)
    if code is not None and severity.group(1) not in SECONDARY:
        fields["e"] = code.group(1)
        text = text[code.end() :]
    return Head(fields, severity.group(1), text)
